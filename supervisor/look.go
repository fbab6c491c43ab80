package supervisor

import (
	"context"
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/health"
)

// probeServer looks at one server over a fresh connection.
func probeServer(ctx context.Context, t probeTarget, now func() time.Duration) failover.ProbeDone {
	target := health.Target{Server: t.server, ID: t.id, Network: t.network, Address: t.address, Timeout: t.timeout}
	for _, l := range t.logins {
		target.Logins = append(target.Logins, health.Login{User: l.user, Database: l.database, Password: l.password.Reveal()})
	}
	return health.Probe(ctx, target, now)
}
