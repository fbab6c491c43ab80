package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// handedOut waits until a worker hands a session over, and returns its descriptors.
func (r *rig) handedOut() (*ipc.SessionOut, []int) {
	r.t.Helper()
	m := expect[*ipc.SessionOut](r)
	n := 1
	if m.Lease != 0 {
		n++
	}
	if m.Mapped != 0 {
		n++
	}
	var fds []int
	for range n {
		fds = append(fds, wait(r.t, r.fds, "the descriptors of a session"))
	}
	return m, fds
}

// takeIn hands a session to the worker under a new lease, as the supervisor does.
func (r *rig) takeIn(m *ipc.SessionOut, fds []int) {
	r.t.Helper()
	in := &ipc.SessionIn{Client: m.Client, Backend: m.Backend, State: m.State, Mapped: m.Mapped}
	if m.Lease != 0 {
		in.Lease = 1000 + m.Lease
	}
	r.bring(in, fds)
}

func (r *rig) bring(in *ipc.SessionIn, fds []int) {
	r.t.Helper()
	if err := r.sup.Send(in, fds...); err != nil {
		r.t.Fatal(err)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if m := expect[*ipc.SessionTaken](r); m.Client != in.Client {
		r.t.Fatalf("client %d is taken, not %d", m.Client, in.Client)
	}
}

// passAll begins a hand-over of many sessions.
func (r *rig) passAll() { r.t.Helper(); r.send(&ipc.Pass{Until: 1000}) }

// carry moves the only session of a worker to another one.
func carry(t *testing.T, from, to *rig) {
	t.Helper()
	from.passAll()
	m, fds := from.handedOut()
	to.takeIn(m, fds)
	if b, _ := from.counts(); b != 0 && m.Lease != 0 {
		t.Errorf("%d backends are left", b)
	}
}

// asks sends a query for a client, and returns the server's end of the exchange answered by done.
func (c *testClient) asks(t *testing.T, srv *serverEnd, sql string, answer ...[]byte) {
	t.Helper()
	if _, err := c.Write(pgwire.AppendQuery(nil, sql)); err != nil {
		t.Fatal(err)
	}
	typ, body, err := pgwire.ReadMessage(srv.r, 1<<20)
	if err != nil || typ != 'Q' || string(body) != sql+"\x00" {
		t.Fatalf("the server gets %q %q, %v", typ, body, err)
	}
	for _, a := range answer {
		if _, err := srv.Write(a); err != nil {
			t.Fatal(err)
		}
	}
	c.until(t, &pgproto3.ReadyForQuery{})
}

func tag(text string) []byte { return pgwire.AppendMessage(nil, 'C', []byte(text+"\x00")) }

// onEach runs a test in each pipeline with each event loop.
func onEach(t *testing.T, f func(t *testing.T, cfg ipc.ConfigBegin)) {
	for _, loop := range []string{"epoll", "io_uring"} {
		for name, cfg := range map[string]ipc.ConfigBegin{"session": sessions(), "kept": keptConfig, "transaction": pooling()} {
			cfg.EvBackend = loop
			t.Run(loop+" "+name, func(t *testing.T) { f(t, cfg) })
		}
	}
}

func TestSessionMovesWithItsTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, cfg ipc.ConfigBegin) {
		from, to := newRig(t, cfg), newRig(t, cfg)
		tc, srv := from.enter(1)
		tc.asks(t, srv, "BEGIN", tag("BEGIN"), ready("T"))
		carry(t, from, to)
		tc.asks(t, srv, "SELECT 1", tag("SELECT 1"), ready("T"))
		tc.asks(t, srv, "COMMIT", tag("COMMIT"), ready("I"))
		to.do(func() {
			s := to.w.clients[1].session
			if to.w.cancels[s.key.id()] != s {
				t.Error("a cancel request doesn't find the session")
			}
		})
		expect[*ipc.Drained](from)
		tc.Close()
		if gone := expect[*ipc.ClientsGone](to); !slices.Equal(gone.IDs, []uint64{1}) {
			t.Errorf("clients %d left", gone.IDs)
		}
	})
}

// A session between two transactions has no backend. Its prepared statements are carried.
func TestPooledSessionMovesWithItsStatements(t *testing.T) {
	from, to := newRig(t, pooling()), newRig(t, pooling())
	tc, srv := from.enter(1)
	long := "SELECT '" + strings.Repeat("x", 70<<10) + "'" // so that the state needs a file
	tc.prepare(t, srv, "a", "SELECT 1")
	tc.prepare(t, srv, "b", long)
	from.passAll()
	m, fds := from.handedOut()
	if m.Lease != 0 || m.Mapped == 0 || len(fds) != 2 {
		t.Fatalf("lease %d, %d bytes in a file, %d descriptors", m.Lease, m.Mapped, len(fds))
	}
	to.takeIn(m, fds)
	to.do(func() {
		c := to.w.clients[1].session.talk.Carry()
		if len(c.Named) != 2 {
			t.Errorf("%d statements have arrived", len(c.Named))
		}
	})
	if o, _ := from.handed(); o.Backend.Key != poolD {
		t.Errorf("the idle backend of %v follows", o.Backend.Key)
	}
}

// prepare has a client prepare a statement, which the server describes as one without a result.
func (c *testClient) prepare(t *testing.T, srv *serverEnd, name, text string) {
	t.Helper()
	msg, err := (&pgproto3.Parse{Name: name, Query: text}).Encode(nil)
	if err == nil {
		msg, err = (&pgproto3.Sync{}).Encode(msg)
	}
	if err == nil {
		_, err = c.Write(msg)
	}
	if err != nil {
		t.Fatal(err)
	}
	for typ := byte(0); typ != 'S'; {
		if typ, _, err = pgwire.ReadMessage(srv.r, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	answer := pgwire.AppendMessage(nil, '1', nil)
	answer = pgwire.AppendMessage(answer, 't', []byte{0, 0})
	answer = pgwire.AppendMessage(answer, 'n', nil)
	if _, err := srv.Write(append(answer, ready("I")...)); err != nil {
		t.Fatal(err)
	}
	c.until(t, &pgproto3.ReadyForQuery{})
}

// A message that has arrived in part keeps its session where it is, until the rest comes.
func TestSessionInsideAMessageStaysUntilItsEnd(t *testing.T) {
	sql := "SELECT 1"
	msg := pgwire.AppendQuery(nil, sql)
	onEach(t, func(t *testing.T, cfg ipc.ConfigBegin) {
		for cut := 1; cut < len(msg); cut++ {
			t.Run(fmt.Sprint(cut), func(t *testing.T) {
				from, to := newRig(t, cfg), newRig(t, cfg)
				tc, srv := from.enter(1)
				if _, err := tc.Write(msg[:cut]); err != nil {
					t.Fatal(err)
				}
				from.passAll()
				done := make(chan struct{})
				var m *ipc.SessionOut
				var fds []int
				go func() { defer close(done); m, fds = from.handedOut() }()
				if _, err := tc.Write(msg[cut:]); err != nil {
					t.Fatal(err)
				}
				answered := make(chan error, 1)
				go func() {
					typ, body, err := pgwire.ReadMessage(srv.r, 1000)
					if err == nil && (typ != 'Q' || string(body) != sql+"\x00") {
						err = fmt.Errorf("%q %q", typ, body)
					}
					if err == nil {
						_, err = srv.Write(append(tag("SELECT 1"), ready("I")...))
					}
					answered <- err
				}()
				wait(t, done, "the session")
				to.takeIn(m, fds)
				if m.Lease == 0 { // the bytes wait in the socket; the backend comes from the other worker
					to.lend(from)
				}
				if err := wait(t, answered, "the query"); err != nil {
					t.Fatal(err)
				}
				tc.until(t, &pgproto3.ReadyForQuery{})
			})
		}
	})
}

// lend answers the first request of a worker with the idle backend of another one, if there is a
// request: the client may have been served before it moved.
func (r *rig) lend(from *rig) {
	r.t.Helper()
	var asks bool
	r.do(func() { asks = r.w.shelf.Waiting() > 0 })
	if !asks {
		return
	}
	req := expect[*ipc.LeaseRequest](r)
	m, fd := from.handed()
	if err := r.sup.Send(&ipc.TakeOver{ID: req.ID, Lease: 500, Backend: m.Backend}, fd); err != nil {
		r.t.Fatal(err)
	}
}

func TestFencedSessionIsToldInItsNewWorker(t *testing.T) {
	for name, fence := range map[string]func(r *rig, in *ipc.SessionIn, fds []int) []int{
		"by the supervisor": func(_ *rig, in *ipc.SessionIn, fds []int) []int {
			in.Lease, in.Cut = 0, true
			unix.Close(fds[1])
			return fds[:1]
		},
		"here": func(r *rig, _ *ipc.SessionIn, fds []int) []int {
			r.send(&ipc.Fence{Epoch: 1, Seq: 1})
			expect[*ipc.Fenced](r)
			return fds
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newRig(t, sessions()), newRig(t, sessions())
			tc, srv := from.enter(1)
			tc.asks(t, srv, "BEGIN", tag("BEGIN"), ready("T"))
			from.passAll()
			m, fds := from.handedOut()
			in := &ipc.SessionIn{Client: m.Client, Lease: 7, Backend: m.Backend, State: m.State}
			fds = fence(to, in, fds)
			to.bring(in, fds)
			if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != "57P01" && e.Code[:2] != "08" {
				t.Errorf("the client gets %s %s", e.Code, e.Message)
			}
			if _, err := srv.r.ReadByte(); err == nil {
				t.Error("the fenced backend is alive")
			}
			if in.Lease != 0 {
				if got := expect[*ipc.LeaseReturn](to); got.Lease != in.Lease {
					t.Errorf("lease %d is returned", got.Lease)
				}
			}
		})
	}
}

func TestFenceFindsASessionThatIsLeaving(t *testing.T) {
	from := newRig(t, sessions())
	tc, srv := from.enter(1)
	tc.asks(t, srv, "BEGIN", tag("BEGIN"), ready("T"))
	from.do(func() { // in one turn, so that the loop hasn't released anything yet
		from.w.onPass(&ipc.Pass{Until: 1000})
		from.w.passTurn()
		from.w.tryMove(tc.s)
		from.w.onFence(&ipc.Fence{Epoch: 1, Seq: 1})
		leftAlone(t, tc)
	})
	for {
		switch m := wait(t, from.msgs, "the fence").(type) {
		case *ipc.SessionOut: // epoll releases at once: then the supervisor cuts
			for _, fd := range fdsOf(from) {
				unix.Close(fd)
			}
			return
		case *ipc.Fenced:
			if m.Aborted != 1 {
				t.Errorf("%d backends are cut", m.Aborted)
			}
			tc.until(t, &pgproto3.ErrorResponse{})
			from.endedHere(t, tc)
			return
		}
	}
}

// leftAlone checks that nothing is done with a session's connection before the loop gives it back.
func leftAlone(t *testing.T, tc *testClient) {
	t.Helper()
	if s := tc.s.state; s != sessionMoving && s != sessionGone {
		t.Errorf("the session is in state %d while the loop is releasing its connection", s)
	}
}

// endedHere checks that a session that was on its way has ended in its worker, and that nothing of it was
// handed over.
func (r *rig) endedHere(t *testing.T, tc *testClient) {
	t.Helper()
	r.do(func() {
		if tc.s.state != sessionLingering || len(r.w.passing.moves) > 0 || len(r.w.backends) > 0 && tc.s.backend != nil {
			t.Errorf("the session is in state %d, %d are on their way", tc.s.state, len(r.w.passing.moves))
		}
	})
	tc.Close()
	for {
		switch m := wait(t, r.msgs, "the end of the session").(type) {
		case *ipc.SessionOut:
			t.Error("the session is handed over")
			return
		case *ipc.ClientsGone:
			if !slices.Equal(m.IDs, []uint64{1}) {
				t.Errorf("clients %d left", m.IDs)
			}
			return
		}
	}
}

func TestKickFindsASessionThatIsLeaving(t *testing.T) {
	from := newRig(t, sessions())
	tc, srv := from.enter(1)
	from.do(func() {
		from.w.onPass(&ipc.Pass{Until: 1000})
		from.w.passTurn()
		from.w.tryMove(tc.s)
		from.w.onKick(&ipc.Kick{ID: 1, Client: 1})
		leftAlone(t, tc)
	})
	if !expect[*ipc.Kicked](from).Found { // epoll has released the session before
		for _, fd := range fdsOf(from) {
			unix.Close(fd)
		}
		return
	}
	tc.until(t, &pgproto3.ErrorResponse{})
	from.endedHere(t, tc)
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'X' {
		t.Errorf("the server gets %q, %v, not the end of the connection", typ, err)
	}
}

// fdsOf returns the descriptors of a session that was just handed over.
func fdsOf(r *rig) []int {
	return []int{wait(r.t, r.fds, "the client's descriptor"), wait(r.t, r.fds, "the server's descriptor")}
}

func TestSessionThatCanNotBeContinuedEnds(t *testing.T) {
	good := func(t *testing.T) (*testClient, *serverEnd, *ipc.SessionOut, []int) {
		from := newRig(t, sessions())
		tc, srv := from.enter(1)
		from.passAll()
		m, fds := from.handedOut()
		return tc, srv, m, fds
	}
	for name, spoil := range map[string]func(st *ipc.SessionState){
		"status":     func(st *ipc.SessionState) { st.Held.Status = 'X' },
		"cancel key": func(st *ipc.SessionState) { st.CancelSecret = "12345" },
		"pool":       func(st *ipc.SessionState) { st.Login.Key.User = "other" },
		"age":        func(st *ipc.SessionState) { st.AgeMS = -1 },
		"waiting":    func(st *ipc.SessionState) { st.Waiting = true },
	} {
		t.Run(name, func(t *testing.T) {
			tc, srv, m, fds := good(t)
			st, err := ipc.UnpackSession(m.State)
			if err != nil {
				t.Fatal(err)
			}
			spoil(st)
			if m.State, err = ipc.PackSession(st); err != nil {
				t.Fatal(err)
			}
			to := newRig(t, sessions())
			to.takeIn(m, fds)
			if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != "57P01" {
				t.Errorf("the client gets %s", e.Code)
			}
			if got := expect[*ipc.LeaseReturn](to); got.Lease != 1000+m.Lease {
				t.Errorf("lease %d is returned", got.Lease)
			}
			if gone := expect[*ipc.ClientsGone](to); !slices.Equal(gone.IDs, []uint64{1}) {
				t.Errorf("clients %d left", gone.IDs)
			}
			if _, err := srv.r.ReadByte(); err == nil {
				t.Error("the backend is alive")
			}
			to.do(func() {
				if len(to.w.clients)+len(to.w.cancels)+len(to.w.backends)+to.w.sessions != 0 {
					t.Error("something of the session is left")
				}
			})
		})
	}
}

// Sessions stay while no primary is open, and go on their way afterwards.
func TestSessionsMoveOnceAPrimaryIsOpen(t *testing.T) {
	from := newRig(t, sessions())
	from.enter(1)
	from.do(func() {
		from.w.servers.Open = false
		from.w.onPass(&ipc.Pass{Until: 1000})
		from.w.passTurn()
		if len(from.w.passing.moves) > 0 {
			t.Error("a session moves during a failover")
		}
	})
	from.do(func() { from.w.servers.Open = true })
	_, fds := from.handedOut()
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// A session whose state is too large stays. It goes on reading from its server, which had to wait for the client.
func TestSessionThatIsTooLargeToMoveGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, cfg ipc.ConfigBegin) {
		from := newRig(t, cfg)
		tc, srv := from.enter(1)
		tc.asks(t, srv, "BEGIN", tag("BEGIN"), ready("T"))
		from.do(func() { tc.s.backend.Base.Set("x", strings.Repeat("v", maxState)) })
		from.passAll()
		if _, err := tc.Write(pgwire.AppendQuery(nil, "SELECT 1")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil {
			t.Fatal(err)
		}
		from.do(func() {
			row := pgwire.AppendMessage(nil, 'D', make([]byte, 4<<20))
			tc.s.fromServer(slices.Concat(row, tag("SELECT 1"), ready("T")))
			if !tc.s.client.Full() || from.w.passing.moves[tc.s] == nil {
				t.Error("the session isn't about to move when its client has read its answer")
			}
		})
		tc.until(t, &pgproto3.ReadyForQuery{})
		tc.asks(t, srv, "SELECT 2", tag("SELECT 1"), ready("T"))
	})
}

// keptHere begins a session that can't be moved: what its user has proven stays in its worker.
func (r *rig) keptHere(id uint64) (*testClient, *serverEnd) {
	r.t.Helper()
	tc, srv := r.enter(id)
	r.do(func() {
		l := *tc.s.login
		l.stored = &storedUser{confirmed: true}
		tc.s.login = &l
	})
	return tc, srv
}

func TestWhatCanNotMoveLeavesInTheEndBetweenTransactions(t *testing.T) {
	onEach(t, func(t *testing.T, cfg ipc.ConfigBegin) {
		from := newRig(t, cfg)
		tc, srv := from.keptHere(1)
		tc.asks(t, srv, "BEGIN", tag("BEGIN"), ready("T"))
		from.passAll()
		if m := expect[*ipc.Passed](from); m.Moved != 0 || m.Encrypted != 0 || m.Other != 1 {
			t.Errorf("reported %+v", m)
		}
		from.send(&ipc.Pass{Until: 1000, Leave: true})
		tc.asks(t, srv, "SELECT 1", tag("SELECT 1"), ready("T"))
		tc.asks(t, srv, "COMMIT", tag("COMMIT"), ready("I"))
		if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != "57P01" {
			t.Errorf("the client gets %s", e.Code)
		}
		tc.Close()
		if gone := expect[*ipc.ClientsGone](from); !slices.Equal(gone.IDs, []uint64{1}) {
			t.Errorf("clients %d left", gone.IDs)
		}
	})
}

// FuzzSessionState: no state, however wrong, breaks the worker that gets it.
func FuzzSessionState(f *testing.F) {
	st := &ipc.SessionState{
		CancelSecret: "1234", Login: ipc.SessionLogin{Key: poolD},
		Talk: ipc.Talk{
			Tracked: make([]string, 6), Initial: make([]string, 6),
			Named: []ipc.NamedStatement{{Name: "a", Key: strings.Repeat("k", 16), Text: "SELECT 1\x00\x00\x00", Settings: make([]string, 6)}},
		},
	}
	p, err := ipc.PackSession(st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(p))
	f.Fuzz(func(_ *testing.T, b []byte) {
		st, err := ipc.UnpackSession(ipc.Secret(b))
		if err != nil || checkState(st, nil) != nil {
			return
		}
		talk, err := relay.NewShared().Continue(1, carriedOf(&st.Talk), nil, relay.Hold{}, relay.Trusting{})
		if err != nil {
			return
		}
		_ = talk.Carry()
		_, _ = talk.FromClient(pgwire.AppendQuery(nil, "SELECT 1"))
		talk.End()
	})
}

// waits has a client wait for a backend that nobody grants, with what it has said in the transaction pipeline.
func (r *rig) waits(id uint64) {
	r.t.Helper()
	tc, _ := r.enter(id)
	r.do(func() {
		r.w.shelf.CloseIdle(pool.EvictFlush, func(*pool.Backend) bool { return true })
		r.w.carryOut()
	})
	query, err := (&pgproto3.Query{String: "SELECT 1"}).Encode(nil)
	if err == nil {
		_, err = tc.Write(query)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	expect[*ipc.LeaseRequest](r)
}

// A client that waits keeps the time that it has waited: its limit goes on, and it is before clients that came later.
func TestWaitingSessionKeepsTheTimeItHasWaited(t *testing.T) {
	cfg := pooling()
	cfg.BlockingTimeoutMS = 1000 * generous.Milliseconds()
	from, to := newRig(t, cfg), newRig(t, cfg)
	from.waits(1)
	to.waits(2)
	const waited = 999 * generous
	from.do(func() { from.w.clients[1].session.waiter.limited -= waited })
	carry(t, from, to)
	to.do(func() {
		list := to.w.shelf.Waiters()
		if len(list) != 2 || list[0].Of.(*waiter).session.c.id != 1 || list[1].Of.(*waiter).session.c.id != 2 {
			t.Fatalf("%d wait, and not in the order in which they came", len(list))
		}
		for i, least := range [...]time.Duration{waited, 0} {
			wt := list[i].Of.(*waiter)
			if now := to.w.now(); now-wt.Since < least || to.w.hasWaited(wt) < least || now-wt.Since > least+generous {
				t.Errorf("client %d has waited %v, and %v of its limit", i+1, now-wt.Since, to.w.hasWaited(wt))
			}
		}
	})
}

// Its time limit is what is left of it.
func TestWaitingSessionIsRefusedWhenItsTimeIsOver(t *testing.T) {
	cfg := pooling()
	cfg.BlockingTimeoutMS = 1000 * generous.Milliseconds()
	from, to := newRig(t, cfg), newRig(t, cfg)
	from.waits(1)
	from.do(func() { from.w.clients[1].session.waiter.limited -= 1000 * generous })
	carry(t, from, to)
	end := time.NewTimer(generous)
	defer end.Stop()
	for waiting := true; waiting; {
		select {
		case <-end.C:
			t.Fatal("it waits on")
		case <-time.After(time.Millisecond):
		}
		to.do(func() { waiting = to.w.shelf.Waiting() > 0 })
	}
}
