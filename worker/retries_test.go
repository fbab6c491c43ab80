package worker

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A client that must not wait gets max_retries more attempts when the server refuses the
// connection, and is served by the first attempt that succeeds.
func TestClientThatMustNotWaitGetsFurtherAttempts(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", Retries: 2, ConnectionRetryMS: generous.Milliseconds()})
	good := r.refuseConnections()
	first := r.connect(1)
	for range 3 {
		r.grant(expect[*ipc.LeaseRequest](r).ID)
		expect[*ipc.LeaseReturn](r)
	}
	first.until(t, &pgproto3.ErrorResponse{})
	second := r.connect(2)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	expect[*ipc.LeaseReturn](r)
	r.do(func() { r.w.servers.Servers[0].Addresses = good })
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	second.until(t, &pgproto3.ReadyForQuery{})
}

// Attempts that take time would be a wait.
func TestClientThatMustNotWaitGetsNoAttemptThatBeginsLate(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", Retries: 1_000_000, ConnectionRetryMS: 0})
	r.refuseConnections()
	tc := r.connect(1)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	tc.until(t, &pgproto3.ErrorResponse{})
}

// refuseConnections makes the server refuse connections, and returns its true addresses.
func (r *rig) refuseConnections() (good []string) {
	r.t.Helper()
	r.do(func() {
		good = r.w.servers.Servers[0].Addresses
		r.w.servers.Servers[0].Addresses = []string{pgtest.RefusedAddr(r.t)}
	})
	return good
}
