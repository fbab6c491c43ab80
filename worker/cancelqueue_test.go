package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// storm makes every client cancel its query so many times. The channel gets a value for each request that is done.
func (r *rig) storm(clients []*testClient, times int) (done chan struct{}) {
	done = make(chan struct{}, len(clients)*times)
	r.do(func() {
		for range times {
			for _, tc := range clients {
				r.w.cancel(tc.s.key, func() { done <- struct{}{} })
			}
		}
	})
	return done
}

// slowCancels has cancel requests end when the test says so, and not by their time limit before.
func (r *rig) slowCancels() {
	r.holdCancels = make(chan struct{})
	r.t.Cleanup(func() { close(r.holdCancels) })
	r.do(func() { r.w.requests.limit = generous })
}

func TestCancelStormIsFewRequestsAtATime(t *testing.T) {
	r := newRig(t, sessions())
	r.slowCancels()
	var clients []*testClient
	for id := range uint64(6) {
		tc, srv := r.enter(id + 1)
		asks(t, tc, srv)
		clients = append(clients, tc)
	}
	done := r.storm(clients, 50)
	requests := 0
	for open := true; open; {
		select {
		case <-r.cancels:
			requests++
			r.do(func() {
				if n := len(r.w.outbounds); n > cancelsAtOnce {
					t.Errorf("%d requests at once", n)
				}
			})
			r.holdCancels <- struct{}{}
		case <-time.After(generous):
			t.Fatalf("%d of %d waits are over", len(done), cap(done))
		default:
			if open = len(done) < cap(done); open {
				r.do(func() {})
			}
		}
	}
	// The requests that came after one was sent are answered by one further request.
	if want := len(clients) + cancelsAtOnce; requests != want {
		t.Errorf("%d requests, not %d", requests, want)
	}
	r.do(func() {
		if q := r.w.requests.at[0]; q.sending != 0 || len(q.waiting) != 0 {
			t.Errorf("%d are under way, %d wait", q.sending, len(q.waiting))
		}
	})
}

func TestOwnProcessIDIsOfNoProcess(t *testing.T) {
	for _, random := range [][4]byte{{}, {0, 0, 1, 1}, {0x80}, {0xff, 0xff, 0xff, 0xff}} {
		if pid := ownPID(random); pid <= 4194304 || int32(pid) <= 0 {
			t.Errorf("%v: %d", random, pid)
		}
	}
}

func TestIdleSessionHasNothingToCancel(t *testing.T) {
	r := newRig(t, sessions())
	tc, _ := r.enter(1)
	done := r.storm([]*testClient{tc}, 3)
	for range 3 {
		wait(t, done, "the end of the cancel request")
	}
	r.do(func() {
		if len(r.w.outbounds) > 0 || len(r.w.requests.at) > 0 {
			t.Error("an idle backend is cancelled")
		}
	})
}

// The cancel request and the query are on two connections and may arrive in either order.
func TestCancelRequestThatOvertakesItsQueryIsSent(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv := r.enter(1)
	done := make(chan struct{})
	r.do(func() {
		r.w.cancel(tc.s.key, func() { close(done) })
		if _, err := tc.Write(query); err != nil {
			t.Error(err)
		}
	})
	if pid := wait(t, r.cancels, "a cancel request"); pid != 42 {
		t.Errorf("backend %d is cancelled", pid)
	}
	wait(t, done, "its end")
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'Q' {
		t.Errorf("the server got %q, %v", typ, err)
	}
}

// A cancel request that has to wait for its turn must not hit the next client of the backend.
func TestCancelRequestEndsWithItsQuery(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv, done := r.cancelThatWaits()
	if _, err := srv.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	if err := tc.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, done, "the end of a request without a purpose")
	r.finishCancels()
}

// The session keeps its backend, which is idle when the request's turn comes.
func TestCancelRequestIsNotSentForAQueryThatHasEnded(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv, done := r.cancelThatWaits()
	if _, err := srv.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	r.finishCancels()
	wait(t, done, "the end of a request without a purpose")
}

// A request that is to be sent although its backend was given up ends with the fence all the same.
func TestCancelRequestIsNotSentToAFencedServer(t *testing.T) {
	r := newRig(t, sessions())
	tc, _, done := r.cancelThatWaits()
	r.do(func() {
		tc.s.backend.cancel.insist = true
		r.w.onFence(&ipc.Fence{Epoch: 1, Seq: 1})
	})
	r.finishCancels()
	wait(t, done, "the end of the request")
}

// cancelThatWaits returns a client whose query runs, and whose cancel request waits until
// those of others have ended.
func (r *rig) cancelThatWaits() (tc *testClient, srv *serverEnd, done <-chan struct{}) {
	r.t.Helper()
	r.slowCancels()
	var clients []*testClient
	var servers []*serverEnd
	for id := range uint64(cancelsAtOnce + 1) {
		tc, srv := r.enter(id + 1)
		asks(r.t, tc, srv)
		clients, servers = append(clients, tc), append(servers, srv)
	}
	r.storm(clients[:cancelsAtOnce], 1)
	for range cancelsAtOnce {
		wait(r.t, r.cancels, "a cancel request")
	}
	done = r.storm(clients[cancelsAtOnce:], 1)
	return clients[cancelsAtOnce], servers[cancelsAtOnce], done
}

// finishCancels ends the requests before the one that waits, which must not follow them.
func (r *rig) finishCancels() {
	r.t.Helper()
	for range cancelsAtOnce {
		r.holdCancels <- struct{}{}
	}
	pgtest.WaitUntil(r.t, generous, "the end of all requests", func() (over bool) {
		r.do(func() { over = r.w.requests.at[0].sending == 0 && len(r.w.requests.at[0].waiting) == 0 })
		return over || len(r.cancels) > 0
	})
	if n := len(r.cancels); n != 0 {
		r.t.Errorf("%d were sent too many", n)
	}
}

// A server that is slow to close connections gets no cancel requests for backends that are idle.
func TestIdleBackendThatClosesSlowlyIsNotCancelled(t *testing.T) {
	r := newRig(t, sessions())
	tc, _ := r.enter(1)
	r.do(func() { r.w.closeBackend(tc.s.backend) })
	if m := expect[*ipc.LeaseReturn](r); m.Lease != 1 {
		t.Errorf("lease %d is returned", m.Lease)
	}
	if n := len(r.cancels); n != 0 {
		t.Errorf("%d cancel requests", n)
	}
}

func TestBusyBackendInABlockIsCancelledWhenItsClientGoes(t *testing.T) {
	r := newRig(t, sessions())
	tc, srv := r.enter(1)
	asks(t, tc, srv)
	if _, err := srv.Write(ready("T")); err != nil {
		t.Fatal(err)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	asks(t, tc, srv)
	if err := tc.Close(); err != nil {
		t.Fatal(err)
	}
	if pid := wait(t, r.cancels, "a cancel request"); pid != 42 {
		t.Errorf("backend %d is cancelled", pid)
	}
}
