package worker

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

func pooling() ipc.ConfigBegin {
	return ipc.ConfigBegin{Pipeline: "transaction", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10}
}

// A client that leaves between two transactions must leave nothing behind. Its cancel key
// would keep the whole session in memory.
func TestPooledClientLeavesNoCancelKey(t *testing.T) {
	r := newRig(t, pooling())
	left := func(id uint64) {
		t.Helper()
		if gone := expect[*ipc.ClientsGone](r); !slices.Equal(gone.IDs, []uint64{id}) {
			t.Fatalf("clients %d left, not %d", gone.IDs, id)
		}
	}
	rude, _ := r.enter(1)
	rude.Close()
	left(1)
	polite := r.connect(2)
	polite.until(t, &pgproto3.ReadyForQuery{})
	_, _ = polite.Write(pgwire.AppendTerminate(nil))
	left(2)
	r.do(func() {
		if n := len(r.w.cancels); n != 0 {
			t.Errorf("%d cancel keys of clients that have left", n)
		}
	})
}

// To get a backend for a transaction and give it back must not allocate.
func TestBackendForATransactionAllocatesNothing(t *testing.T) {
	r := newRig(t, pooling())
	tc, _ := r.enter(1)
	r.do(func() {
		turns := testing.AllocsPerRun(100, func() {
			tc.s.attach(r.w.take(r.pool(), false))
			if tc.s.state != sessionActive {
				t.Errorf("the client is in state %d, not served", tc.s.state)
			}
			tc.s.part()
		})
		if turns != 0 {
			t.Errorf("%v allocations for each transaction", turns)
		}
	})
}

// Where each client connects for one query only, one message reports many clients.
func TestClientsThatLeaveAreToldTogether(t *testing.T) {
	r := newRig(t, pooling())
	leave := func(ids ...uint64) {
		for _, id := range ids {
			r.w.tellGone(id)
		}
	}
	r.do(func() { leave(1, 2); leave(3) })
	if gone := expect[*ipc.ClientsGone](r); !slices.Equal(gone.IDs, []uint64{1, 2, 3}) {
		t.Fatalf("clients %d are told together, want 1 to 3", gone.IDs)
	}
	many := make([]uint64, goneMax)
	for i := range many {
		many[i] = uint64(i)
	}
	r.do(func() {
		leave(many[1:]...)
		if len(r.w.goneIDs) != goneMax-1 {
			t.Errorf("of %d clients %d wait for the timer", goneMax-1, len(r.w.goneIDs))
		}
		leave(many[0])
		if len(r.w.goneIDs) != 0 {
			t.Errorf("%d clients wait for the timer, the most are %d", len(r.w.goneIDs), goneMax)
		}
	})
	if gone := expect[*ipc.ClientsGone](r); len(gone.IDs) != goneMax {
		t.Errorf("%d clients are told together, want %d", len(gone.IDs), goneMax)
	}
}

// A report and the supervisor's own count of clients must be of the same moment.
func TestClientsThatHaveLeftAreToldBeforeAReport(t *testing.T) {
	r := newRig(t, pooling())
	r.do(func() {
		r.w.tellGone(1)
		r.w.onReportRequest(&ipc.ReportRequest{ID: 2})
	})
	if _, ok := wait(t, r.msgs, "what the worker says").(*ipc.ClientsGone); !ok {
		t.Fatal("reported before its client was told to be gone")
	}
	expect[*ipc.Report](r)
}

// All clients must be reported before a worker says that it is drained, because the
// supervisor doesn't count its clients afterwards.
func TestClientsThatHaveLeftAreToldBeforeTheWorkerIsDrained(t *testing.T) {
	r := newRig(t, pooling())
	r.do(func() {
		r.w.tellGone(1)
		r.w.onDrain()
	})
	for {
		switch m := wait(t, r.msgs, "what the worker says").(type) {
		case *ipc.ClientsGone:
			if !slices.Equal(m.IDs, []uint64{1}) {
				t.Errorf("clients %d have left, want 1", m.IDs)
			}
			expect[*ipc.Drained](r)
			return
		case *ipc.Drained:
			t.Fatal("drained before its client was told to be gone")
		}
	}
}

// A worker must stop reading from a client that doesn't read its answers. Otherwise the
// queue would grow by an answer for each transaction.
func TestPooledClientThatDoesNotReadIsNotServedOn(t *testing.T) {
	r := newRig(t, pooling())
	tc, srv := r.enter(1)
	const size = 7000
	answer := pgwire.AppendMessage(nil, 'D', make([]byte, size))
	answer = pgwire.AppendMessage(answer, 'C', []byte("SELECT 1\x00"))
	answer = pgwire.AppendReadyForQuery(answer, pgwire.TxIdle)
	served := make(chan struct{}, 1)
	go func() {
		for {
			if _, _, err := pgwire.ReadMessage(srv.r, 1<<20); err != nil {
				return
			}
			if _, err := srv.Write(answer); err != nil {
				return
			}
			served <- struct{}{}
		}
	}()
	asked := 0
	for held := false; !held; asked++ {
		if _, err := tc.Write(pgwire.AppendQuery(nil, "SELECT 1")); err != nil {
			t.Fatal(err)
		}
		limit := time.After(100 * time.Millisecond) // too short for a slow machine does no harm
		select {
		case <-served:
		case <-limit:
			held = true
		}
		for idle, queued := false, 0; !idle && !held; {
			r.do(func() { idle, queued = tc.s.backend == nil, tc.s.client.Queued() })
			if queued > 1<<20 {
				t.Fatalf("%d bytes wait for a client that doesn't read", queued)
			}
			select {
			case <-limit:
				held = true
			default:
			}
		}
	}
	// Once the client reads, it gets everything.
	for range asked {
		tc.until(t, &pgproto3.ReadyForQuery{})
	}
}

// adapting brings a client of the transaction pipeline into the state in which its query
// waits while the server sets its parameters. done is the server's answer to that.
func (r *rig) adapting() (tc *testClient, srv *serverEnd, done []byte) {
	r.t.Helper()
	done = append(pgwire.AppendMessage(nil, 'C', []byte("SET\x00")), ready("I")...)
	tc, srv = r.enter(1)
	second := r.connect(2, pgwire.Param{Name: "application_name", Value: "x"})
	if _, q, err := pgwire.ReadMessage(srv.r, 1000); err != nil || string(q) != "SET application_name TO E'x';\x00" {
		r.t.Fatalf("got %q, %v", q, err)
	}
	if _, err := srv.Write(append(pgwire.AppendParameterStatus(nil, "application_name", "x"), done...)); err != nil {
		r.t.Fatal(err)
	}
	second.until(r.t, &pgproto3.ReadyForQuery{})
	if _, err := tc.Write(query); err != nil {
		r.t.Fatal(err)
	}
	if _, q, err := pgwire.ReadMessage(srv.r, 1000); err != nil || string(q) != "SET application_name TO E'';\x00" {
		r.t.Fatalf("got %q, %v", q, err)
	}
	return tc, srv, append(pgwire.AppendParameterStatus(nil, "application_name", ""), done...)
}

// A query that waits while its backend is prepared can be cancelled like a query that waits
// for a backend. The server gets the next query.
func TestQueryOfABackendThatIsPreparedIsCancelled(t *testing.T) {
	for _, lost := range []bool{false, true} {
		r := newRig(t, pooling())
		tc, srv, done := r.adapting()
		r.do(func() { r.w.cancel(tc.s.key, func() {}) })
		if lost {
			srv.Close()
		} else if _, err := srv.Write(done); err != nil {
			t.Fatal(err)
		}
		if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != "57014" {
			t.Errorf("lost %v: told %s", lost, e.Code)
		}
		tc.until(t, &pgproto3.ReadyForQuery{})
		if _, err := tc.Write(msg('Q', "SELECT 2\x00")); err != nil {
			t.Fatal(err)
		}
		if lost {
			r.grant(expect[*ipc.LeaseRequest](r).ID)
			srv = r.nextLogin()
			defer srv.Close()
		}
		if _, q, err := pgwire.ReadMessage(srv.r, 1000); err != nil || string(q) != "SELECT 2\x00" {
			t.Errorf("lost %v: the server got %q, %v", lost, q, err)
		}
	}
}

// A client keeps its cancel key as long as it is connected, even if a backend is lost while
// it is prepared for the client.
func TestPooledClientKeepsItsCancelKeyWhenABackendIsLost(t *testing.T) {
	r := newRig(t, pooling())
	first, srv, _ := r.adapting()
	srv.Close()
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	other := r.nextLogin()
	defer other.Close()
	if _, q, err := pgwire.ReadMessage(other.r, 1000); err != nil || string(q) != "SELECT 1\x00" {
		t.Fatalf("got %q, %v", q, err)
	}
	r.do(func() {
		if s := r.w.cancels[first.s.key.id()]; s != first.s {
			t.Error("the client can't cancel its query any more")
		}
	})
}

// One turn for all clients would delay those that work, and more clients than the queue of the link holds would end the worker.
func TestALongReportTakesManyTurns(t *testing.T) {
	r := newRig(t, pooling())
	const clients = 3 * reportPage
	r.do(func() {
		for id := range uint64(clients) {
			r.w.clients[id+1] = &client{id: id + 1}
		}
		r.w.onReportRequest(&ipc.ReportRequest{ID: 2, Clients: true})
		r.w.loop.Post(func() { r.w.send(&ipc.Pong{ID: 1}) })
		delete(r.w.clients, 1) // has left
	})
	seen, turns := map[uint64]bool{}, 0
	for ended := false; !ended; {
		switch m := wait(t, r.msgs, "the report").(type) {
		case *ipc.ReportSession:
			seen[m.ClientID] = true
		case *ipc.Pong:
			turns++
		case *ipc.ReportEnd:
			ended = true
		}
	}
	if len(seen) < clients-1 || len(seen) > clients || turns != 1 {
		t.Errorf("%d clients are reported, other work has had %d turns", len(seen), turns)
	}
	r.do(func() { clear(r.w.clients) })
}
