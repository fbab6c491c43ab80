package worker

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// Of two clients that each wait for a backend of their own, the first takes the
// one that comes first; the other must not be left without a request.
func TestWaiterWhoseBackendWentToAnotherGetsOne(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10})
	first := r.connect(1)
	req1 := expect[*ipc.LeaseRequest](r)
	second := r.connect(2)
	req2 := expect[*ipc.LeaseRequest](r)
	// The first one's backend can't be opened for now.
	var addr string
	r.do(func() {
		addr = r.w.servers.Servers[0].Address
		r.w.servers.Servers[0].Address = "127.0.0.1:1"
	})
	r.grant(req1.ID)
	expect[*ipc.LeaseReturn](r)
	r.do(func() { r.w.servers.Servers[0].Address = addr })
	r.grant(req2.ID)
	first.until(t, &pgproto3.ReadyForQuery{})
	// On a busy machine a request may be withdrawn for another one meanwhile.
	served := make(chan struct{})
	go func() {
		for {
			m, err := second.Receive()
			if err != nil {
				return // grantUntil notices
			}
			if _, ready := m.(*pgproto3.ReadyForQuery); ready {
				close(served)
				return
			}
		}
	}()
	r.grantUntil(served)
}
