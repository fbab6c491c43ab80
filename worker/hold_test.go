package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// holdBy has the supervisor pause the clients of databases.
func (r *rig) holdBy(gen uint64, databases ...string) {
	r.t.Helper()
	r.do(func() {
		m := r.w.servers
		m.Gen, m.Hold = gen, databases
		r.w.onServerState(&m)
	})
}

func TestPausedClientsWaitWithoutALimitAndThenGoOn(t *testing.T) {
	cfg := ipc.ConfigBegin{Pipeline: "transaction", BlockingTimeoutMS: 1}
	r := newRig(t, cfg)
	r.holdBy(2, "d")
	tc := r.connect(1)
	r.do(func() {
		for _, x := range r.w.shelf.Waiters() {
			if wt := x.Of.(*waiter); wt.timer != nil || !wt.paused {
				t.Error("a paused client has a time limit")
			}
		}
		if n := r.w.shelf.Waiting(); n != 1 {
			t.Errorf("%d clients wait", n)
		}
		r.w.cfg.BlockingTimeoutMS = 30_000
	})
	r.send(&ipc.Ping{ID: 1})
	for {
		m := wait(t, r.msgs, "an answer")
		if _, asked := m.(*ipc.LeaseRequest); asked {
			t.Error("a lease is asked for although clients are paused")
		}
		if _, ok := m.(*ipc.Pong); ok {
			break
		}
	}
	r.holdBy(3)
	r.do(func() {
		for _, x := range r.w.shelf.Waiters() {
			if x.Of.(*waiter).timer == nil {
				t.Error("a client that goes on has no time limit")
			}
		}
	})
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	r.nextLogin()
	tc.until(t, &pgproto3.ReadyForQuery{})
}

func TestPauseClosesBackendsThatNobodyNeeds(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true})
	idle, idleServer := r.enter(1)
	idle.Close()
	expect[*ipc.ClientsGone](r)
	r.holdBy(2, "another")
	tc := r.connect(2)
	tc.until(t, &pgproto3.ReadyForQuery{}) // on the idle backend, whose database isn't paused
	r.holdBy(3, "another", "d")
	r.gone(idleServer) // the client has done nothing yet
	r.do(func() {
		if n := r.w.shelf.Waiting(); n != 1 {
			t.Errorf("%d clients wait", n)
		}
	})
	r.holdBy(4, "another")
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	srv := r.nextLogin()
	defer srv.Close()
	if _, err := tc.Write(query); err != nil {
		t.Fatal(err)
	}
	_ = srv.SetReadDeadline(time.Now().Add(generous))
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'Q' {
		t.Fatalf("%q, %v", typ, err)
	}
	r.holdBy(5, "d")
	r.do(func() {
		for _, b := range r.w.backends {
			if b.state != backendAttached {
				t.Errorf("the backend of a client that works is %v", b.state)
			}
		}
	})
	tc.Close()
	expect[*ipc.LeaseReturn](r)
}
