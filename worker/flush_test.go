package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// flush has the worker flush, and returns its answer.
func (r *rig) flush(mode ipc.FlushMode, database string) ipc.Flushed {
	r.t.Helper()
	r.send(&ipc.Flush{ID: 1, Mode: mode, Database: database})
	return *expect[*ipc.Flushed](r)
}

func (r *rig) wantFlush(mode ipc.FlushMode, database string, closed, marked int) {
	r.t.Helper()
	if got, want := r.flush(mode, database), (ipc.Flushed{ID: 1, Closed: closed, Marked: marked}); got != want {
		r.t.Errorf("flush %d of %q: %+v, want %+v", mode, database, got, want)
	}
}

// gone waits until the worker has closed a backend, and closes it on the server, too.
func (r *rig) gone(srv *serverEnd) {
	r.t.Helper()
	_ = srv.SetReadDeadline(time.Now().Add(generous))
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'X' {
		r.t.Fatalf("the server gets %q, %v", typ, err)
	}
	srv.Close()
	expect[*ipc.LeaseReturn](r)
}

func TestFlushClosesIdleBackendsAndOthersWhenTheirClientsLeave(t *testing.T) {
	r := newRig(t, sessions())
	idle, idleServer := r.enter(1)
	idle.Close()
	expect[*ipc.ClientsGone](r)
	r.wantFlush(ipc.FlushIdle, "another", 0, 0)
	r.wantFlush(ipc.FlushIdle, "d", 1, 0)
	r.gone(idleServer)
	busy, busyServer := r.enter(2)
	r.wantFlush(ipc.FlushIdle, "", 0, 0)
	r.wantFlush(ipc.FlushGracefully, "another", 0, 0)
	r.wantFlush(ipc.FlushGracefully, "", 0, 1)
	r.do(func() {
		for _, b := range r.w.backends {
			if got := r.w.reportBackend(1, b).State; got != "gracefully" {
				t.Errorf("its state is %s", got)
			}
		}
	})
	busy.Close()
	r.gone(busyServer)
	r.do(func() {
		if n := r.w.counters()["connection_flush"]; n != 2 {
			t.Errorf("%d connections were closed by a flush, want 2", n)
		}
	})
}

func TestFlushDisconnectsOnlyClientsThatHaveAMarkedBackend(t *testing.T) {
	r := newRig(t, sessions())
	old, oldServer := r.enter(1)
	r.wantFlush(ipc.FlushGracefully, "", 0, 1)
	_, freshServer := r.enter(2)
	r.wantFlush(ipc.FlushMarked, "", 1, 0)
	e := old.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse)
	if e.Code != pgwire.CodeAdminShutdown {
		t.Errorf("the client is told %s %s", e.Code, e.Message)
	}
	r.gone(oldServer)
	r.wantFlush(ipc.FlushAll, "d", 1, 0)
	r.gone(freshServer)
}

// A backend that logs in while a flush comes may have been let in by what the flush is for: its
// client gets another one.
func TestFlushMarksABackendThatIsBeingOpened(t *testing.T) {
	r := newRig(t, sessions())
	r.gate = make(chan struct{})
	tc := r.connect(1)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	r.wantFlush(ipc.FlushGracefully, "", 0, 1)
	r.gate <- struct{}{}
	old := r.nextLogin()
	_ = old.SetReadDeadline(time.Now().Add(generous))
	if typ, _, err := pgwire.ReadMessage(old.r, 1000); err != nil || typ != 'X' {
		t.Fatalf("the server gets %q, %v", typ, err)
	}
	old.Close()
	go func() { r.gate <- struct{}{} }()
	defer r.nextLogin().Close()
	tc.until(t, &pgproto3.ReadyForQuery{})
}

func TestClearStatsSetsCountersToZero(t *testing.T) {
	r := newRig(t, sessions())
	r.enter(1)
	r.send(&ipc.StatsClear{})
	r.send(&ipc.StatsRequest{ID: 1})
	var sum ipc.WorkerStats
	part := expect[*ipc.Stats](r).Part
	if err := part.Unpack(&sum); err != nil {
		t.Fatal(err)
	}
	for name, n := range sum.Counters {
		if n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
	if sum.Gauges["active_connections"] != 1 {
		t.Errorf("gauges: %v", sum.Gauges)
	}
}

func TestFlushMovesKeptSessions(t *testing.T) {
	r := newRig(t, keptConfig)
	idle, idleServer := r.enter(1)
	idle.runs(t, idleServer, "SET a TO 1", done('I', "SET"))
	busy, busyServer := r.enter(2)
	busy.runs(t, busyServer, "BEGIN", done('T', "BEGIN"))
	r.wantFlush(ipc.FlushGracefully, "", 1, 1)
	r.gone(idleServer)
	busy.says(t, "COMMIT")
	busyServer.asked(t, "COMMIT", done('I', "COMMIT"))
	busy.until(t, &pgproto3.ReadyForQuery{})
	r.gone(busyServer)
	r.do(func() {
		for _, c := range []*testClient{idle, busy} {
			if c.s.state != sessionActive || c.s.backend != nil {
				t.Errorf("a session is in state %d", c.s.state)
			}
		}
	})
}

// A backend that gets too old is replaced while its kept session is idle.
func TestAKeptSessionOutlivesItsBackendsAge(t *testing.T) {
	r := newRig(t, keptConfig)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SET a TO 1", done('I', "SET"))
	r.do(func() { r.w.shelf.MaxAge = time.Millisecond })
	r.gone(srv)
	tc.says(t, "SELECT 1")
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	r.do(func() { r.w.shelf.MaxAge = 0 })
	srv = r.nextLogin()
	defer srv.Close()
	srv.asked(t, "SET a TO 1;", done('I', "SET"))
	srv.asked(t, "SELECT 1", done('I', "SELECT 1"))
	tc.until(t, &pgproto3.ReadyForQuery{})
}
