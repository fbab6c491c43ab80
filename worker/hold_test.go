package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
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

// Clients that have proven nothing must not keep all others out for as long as a pause lasts.
func TestOnlySomeStrangersAreSparedInAPause(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: generous.Milliseconds()})
	limited := func() (n int) {
		for _, x := range r.w.shelf.Waiters() {
			if x.Of.(*waiter).timer != nil {
				n++
			}
		}
		return n
	}
	stranger := func() {
		p, _ := r.w.shelf.Pool(pool.Key(poolD))
		wt := &waiter{Waiter: pool.Waiter{Pool: p, Bare: true}, refused: func(*pgwire.Refused) {}}
		r.w.wait(wt)
	}
	r.do(func() {
		for range maxSpared + 1 {
			stranger()
		}
	})
	r.holdBy(2, "d")
	r.do(func() {
		if n := limited(); n != 1 {
			t.Errorf("%d strangers who wait already have a time limit", n)
		}
		stranger()
		if n := limited(); n != 2 {
			t.Errorf("%d strangers have a time limit when another one comes", n)
		}
	})
	r.connect(1)
	r.do(func() {
		if n := limited(); n != 2 {
			t.Errorf("a client that is known has a time limit: %d", n)
		}
	})
	r.holdBy(3)
	r.do(func() {
		if n := limited(); n != maxSpared+3 {
			t.Errorf("%d have a time limit after the pause", n)
		}
	})
}

// A user whose password must be looked up waits like all others, for longer than a login may take.
func TestLoginsThatNeedALookUpWaitForTheEndOfAPause(t *testing.T) {
	r := newStoredRig(t)
	r.do(func() {
		r.w.cfg.hba = []auth.Rule{{Type: auth.Local, Database: auth.Names{All: true}, User: auth.Names{All: true}, Method: auth.Password}}
		r.w.cfg.verifiers = auth.NewVerifiers(nil)
		r.w.cfg.passwords = nil
		r.w.cfg.AuthenticationTimeoutMS = 300
	})
	hold := func(gen uint64, all bool) {
		r.do(func() {
			m := r.w.servers
			m.Gen, m.HoldAll = gen, all
			r.w.onServerState(&m)
		})
	}
	expired := func(id uint64) (yes bool) {
		r.do(func() { c := r.w.clients[id]; d, ok := c.conn.(*dialogue); yes = ok && d.expired })
		return yes
	}
	// The first has asked before the pause, and gets no answer in it.
	first := r.logsIn(1, "", startUp(t))
	early := expect[*ipc.StoredRequest](r)
	hold(2, true)
	r.send(&ipc.StoredAnswer{ID: early.ID, Error: errStoredLate.Error()})
	second, gone := r.logsIn(2, "", startUp(t)), r.logsIn(3, "", startUp(t))
	held := func(n int) func() bool {
		return func() (yes bool) { r.do(func() { yes = len(r.w.stored.held) == n }); return yes }
	}
	pgtest.WaitUntil(t, generous, "three logins that wait", held(3))
	pgtest.WaitUntil(t, generous, "the end of the time for a login", func() bool { return expired(1) && expired(2) && expired(3) })
	r.do(func() { r.w.terminate(r.w.clients[3]) })
	pgtest.WaitUntil(t, generous, "two logins that wait", held(2))
	if _, err := gone.Receive(); err == nil {
		t.Error("a client that was disconnected is served")
	}
	r.do(func() { r.w.cfg.AuthenticationTimeoutMS = generous.Milliseconds() })
	hold(3, false)
	r.send(&ipc.StoredAnswer{ID: expect[*ipc.StoredRequest](r).ID, Stored: hash("u", "right")})
	for _, client := range []*pgproto3.Frontend{first, second} {
		if m, err := client.Receive(); err != nil {
			t.Error(err)
		} else if _, ok := m.(*pgproto3.AuthenticationCleartextPassword); !ok {
			t.Errorf("after the pause the client gets %T", m)
		}
	}
	r.do(func() {
		if n := len(r.w.stored.held); n != 0 {
			t.Errorf("%d logins still wait", n)
		}
	})
}
