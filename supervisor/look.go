package supervisor

import (
	"context"
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/health"
)

// probeServer looks at one server over a fresh connection.
func probeServer(ctx context.Context, t probeTarget, now func() time.Duration) failover.ProbeDone {
	return health.Probe(ctx, t.health(), now)
}

// shownBackends returns those of pids that the server still shows.
func shownBackends(ctx context.Context, t probeTarget, pids []uint32) ([]uint32, error) {
	return health.Backends(ctx, t.health(), pids)
}

// shownSettings returns the values of parameters of the server.
func shownSettings(ctx context.Context, t probeTarget, names []string) (map[string]string, error) {
	return health.Settings(ctx, t.health(), names)
}

func (t probeTarget) health() health.Target {
	target := health.Target{Server: t.server, ID: t.id, Network: t.network, Address: t.address, Timeout: t.timeout}
	for _, l := range t.logins {
		target.Logins = append(target.Logins, health.Login{User: l.user, Database: l.database, Password: l.password.Reveal()})
	}
	return target
}
