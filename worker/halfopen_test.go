package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// asks makes a client send a query, and its server read it.
func asks(t *testing.T, tc *testClient, srv *serverEnd) {
	t.Helper()
	if _, err := tc.Write(query); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'Q' {
		t.Fatalf("the server got %q, %v", typ, err)
	}
}

// The server of a forgotten connection may be alive, so the query there must be cancelled.
func TestHalfOpenBackendIsCancelled(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv := r.enter(1)
	asks(t, tc, srv)
	r.do(func() { r.w.giveUpHalfOpen(tc.s.backend) })
	if pid := wait(t, r.cancels, "a cancel request"); pid != 42 {
		t.Errorf("backend %d is cancelled", pid)
	}
	if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != pgwire.CodeOutcomeUnknown {
		t.Errorf("the client was told %s %s", e.Code, e.Message)
	}
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 1 {
		t.Errorf("lease %d is returned", m.Lease)
	}
	if b, l := r.counts(); b != 0 || l != 0 {
		t.Errorf("%d backends are left, %d live", b, l)
	}
}

// The next client must not get an idle connection that was probably forgotten, too.
func TestIdleSiblingsOfAHalfOpenBackendGo(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv := r.enter(1)
	idle := r.free(2)
	_ = idle.SetReadDeadline(time.Now().Add(generous))
	asks(t, tc, srv)
	r.do(func() { r.w.giveUpHalfOpen(tc.s.backend) })
	if typ, _, err := pgwire.ReadMessage(idle.r, 100); err != nil || typ != 'X' {
		t.Errorf("the idle connection got %q, %v", typ, err)
	}
}
