package worker

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

var keptConfig = ipc.ConfigBegin{Pipeline: "session", KeepSessions: "on", BlockingTimeoutMS: 30_000, Failover: true}

// asked waits for a Query with this text at the server, and answers it.
func (srv *serverEnd) asked(t *testing.T, text string, answer []byte) {
	t.Helper()
	_ = srv.SetReadDeadline(time.Now().Add(generous))
	typ, body, err := pgwire.ReadMessage(srv.r, 1000)
	if err != nil || typ != 'Q' || strings.TrimRight(string(body), "\x00") != text {
		t.Fatalf("the server was sent %q %q, %v; want the query %q", typ, body, err, text)
	}
	if _, err := srv.Write(answer); err != nil {
		t.Fatal(err)
	}
}

// done is the answer to statements with these tags, which leave a transaction status.
func done(status byte, tags ...string) (msg []byte) {
	for _, tag := range tags {
		msg = pgwire.AppendMessage(msg, 'C', []byte(tag+"\x00"))
	}
	return pgwire.AppendReadyForQuery(msg, status)
}

// runs has a client run a query, which the server answers.
func (c *testClient) runs(t *testing.T, srv *serverEnd, text string, answer []byte) {
	t.Helper()
	c.says(t, text)
	srv.asked(t, text, answer)
	c.until(t, &pgproto3.ReadyForQuery{})
}

func (c *testClient) says(t *testing.T, text string) {
	t.Helper()
	if _, err := c.Write(pgwire.AppendQuery(nil, text)); err != nil {
		t.Fatal(err)
	}
}

// ends waits for the FATAL error of a client, with a text in its detail.
func (c *testClient) ends(t *testing.T, code, detail string) {
	t.Helper()
	e := c.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse)
	if e.Severity != "FATAL" || e.Code != code || !strings.Contains(e.Detail, detail) {
		t.Errorf("the client ended with %s %s, detail %q; want FATAL %s with %q", e.Severity, e.Code, e.Detail, code, detail)
	}
}

func TestAPausedKeptSessionGoesOnWithItsSettings(t *testing.T) {
	r := newRig(t, keptConfig)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SET a TO 1", done('I', "SET"))
	var key cancelKey
	r.do(func() { key = tc.s.key })
	r.holdBy(2, "d")
	r.gone(srv)
	r.do(func() {
		if n := r.w.shelf.Waiting(); n != 0 || tc.s.state != sessionActive || tc.s.backend != nil {
			t.Errorf("%d clients wait; the session is in state %d", n, tc.s.state)
		}
	})
	r.holdBy(3)
	tc.says(t, "SELECT 1")
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	srv = r.nextLogin()
	defer srv.Close()
	srv.asked(t, "SET a TO 1;", done('I', "SET"))
	srv.asked(t, "SELECT 1", done('I', "SELECT 1"))
	tc.until(t, &pgproto3.ReadyForQuery{})
	r.do(func() {
		if tc.s.key != key || r.w.cancels[key.id()] != tc.s {
			t.Error("the session has another cancel key")
		}
		if tc.s.backend == nil || tc.s.backend.state != backendAttached {
			t.Error("the session hasn't kept its new backend")
		}
	})
}

func TestAKeptSessionEndsIfTheServerRefusesItsSettings(t *testing.T) {
	r := newRig(t, keptConfig)
	var log bytes.Buffer
	r.do(func() { r.w.log = slog.New(slog.NewTextHandler(&log, nil)) })
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SET ROLE x", done('I', "SET"))
	srv.Close()
	r.grant(expectAfter(r, tc, "SELECT 1").ID)
	srv = r.nextLogin()
	defer srv.Close()
	refusal := pgwire.AppendMessage(nil, 'E', []byte("SERROR\x00VERROR\x00C22023\x00Mrole \"x\" does not exist\x00\x00"))
	srv.asked(t, "SET ROLE x;", pgwire.AppendReadyForQuery(refusal, 'I'))
	tc.ends(t, pgwire.CodeAdminShutdown, `22023: role "x" does not exist`)
	r.do(func() { // a message may quote a value
		if s := log.String(); !strings.Contains(s, "a setting that the server refused (22023)") || strings.Contains(s, "does not exist") {
			t.Errorf("the log has %q", s)
		}
	})
}

// Without the key a client that has done nothing yet moves, too, and hears what the server says.
func TestAClientThatMovesUntouchedHearsTheServersRefusal(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true})
	tc := r.connect(1, pgwire.Param{Name: "application_name", Value: "x"})
	for i, answer := range [][]byte{
		append(pgwire.AppendParameterStatus(nil, "application_name", "x"), done('I', "SET")...),
		pgwire.AppendReadyForQuery(pgwire.AppendMessage(nil, 'E', []byte("SERROR\x00VERROR\x00C22023\x00Mno\x00\x00")), 'I'),
	} {
		r.grant(expect[*ipc.LeaseRequest](r).ID)
		srv := r.nextLogin()
		defer srv.Close()
		srv.asked(t, "SET application_name TO E'x';", answer)
		if i == 0 {
			tc.until(t, &pgproto3.ReadyForQuery{})
			srv.Close()
			expect[*ipc.LeaseReturn](r)
		}
	}
	tc.ends(t, "22023", "")
}

// A cancel request that comes while the settings of a session are made again leaves the backend to
// others, who must not find them there.
func TestABackendThatIsPreparedForACancelledStatementIsReset(t *testing.T) {
	cfg := keptConfig
	cfg.ResetQuery = "DISCARD ALL"
	r := newRig(t, cfg)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SET ROLE x", done('I', "SET"))
	srv.Close()
	r.grant(expectAfter(r, tc, "SELECT 1").ID)
	srv = r.nextLogin()
	defer srv.Close()
	srv.asked(t, "SET ROLE x;", nil)
	r.do(func() { r.w.cancel(tc.s.key, func() {}) })
	if _, err := srv.Write(done('I', "SET")); err != nil {
		t.Fatal(err)
	}
	srv.asked(t, "DISCARD ALL", done('I', "DISCARD ALL"))
	if e := tc.until(t, &pgproto3.ErrorResponse{}).(*pgproto3.ErrorResponse); e.Code != pgwire.CodeQueryCanceled {
		t.Errorf("told %s", e.Code)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	tc.says(t, "SELECT 2")
	srv.asked(t, "SET ROLE x;", done('I', "SET"))
	srv.asked(t, "SELECT 2", done('I', "SELECT 1"))
}

// expectAfter has a client whose backend is lost say something, and returns the request for a lease.
func expectAfter(r *rig, tc *testClient, text string) *ipc.LeaseRequest {
	r.t.Helper()
	expect[*ipc.LeaseReturn](r)
	tc.says(r.t, text)
	return expect[*ipc.LeaseRequest](r)
}

func TestASwitchoverEndsAKeptSessionThatCantMove(t *testing.T) {
	r := newRig(t, keptConfig)
	moves, itsServer := r.enter(1)
	moves.runs(t, itsServer, "SET a TO 1", done('I', "SET"))
	stuck, srv := r.enter(2)
	stuck.runs(t, srv, "BEGIN", done('T', "BEGIN"))
	stuck.runs(t, srv, "SAVEPOINT s", done('T', "SAVEPOINT"))
	stuck.runs(t, srv, "SET a TO 1", done('T', "SET"))
	stuck.runs(t, srv, "ROLLBACK TO s", done('T', "ROLLBACK"))
	r.send(&ipc.Quiesce{ID: 1, Epoch: 1})
	if m := expect[*ipc.Quiesced](r); m.Busy != 1 {
		t.Errorf("%d sessions prevent the switchover, want that in a transaction", m.Busy)
	}
	r.gone(itsServer)
	stuck.says(t, "COMMIT")
	srv.asked(t, "COMMIT", done('I', "COMMIT"))
	stuck.until(t, &pgproto3.ReadyForQuery{})
	stuck.ends(t, pgwire.CodeAdminShutdown, "rolled back to a savepoint")
	r.do(func() {
		if moves.s.state != sessionActive || moves.s.backend != nil {
			t.Errorf("the session that can move is in state %d", moves.s.state)
		}
	})
}

// The server is asked what an idle session has left there; what its client says meanwhile waits.
func TestAnIdleSessionIsLookedAt(t *testing.T) {
	cfg := keptConfig
	cfg.KeepSessions = "known"
	r := newRig(t, cfg)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SELECT 1", done('I', "SELECT 1"))
	queries := relay.WitnessQueries
	srv.asked(t, queries[0], nil)
	tc.says(t, "SELECT 2")
	srv.asked(t, queries[1], nil)
	lock := []byte("\x00\x02\x00\x00\x00\x04lock\xff\xff\xff\xff")
	srv.asked(t, queries[2], slices.Concat(done('T', "BEGIN"), pgwire.AppendMessage(nil, 'D', lock), done('T', "SELECT 1"), done('I', "COMMIT")))
	srv.asked(t, "SELECT 2", done('I', "SELECT 1"))
	if m := tc.until(t, &pgproto3.CommandComplete{}).(*pgproto3.CommandComplete); string(m.CommandTag) != "SELECT 1" {
		t.Errorf("the client is told %s", m.CommandTag)
	}
	tc.until(t, &pgproto3.ReadyForQuery{})
	srv.Close()
	tc.ends(t, pgwire.CodeAdminShutdown, "because of lock, which no statement")
}

// A kept session goes to another worker with what is known of it, whatever that worker's key says: there it loses its backend, and
// the settings follow it to the next one.
func TestAKeptSessionThatWasHandedOverIsStillKept(t *testing.T) {
	off := keptConfig
	off.KeepSessions = "off"
	known := keptConfig
	known.KeepSessions = "known"
	for name, cfg := range map[string][2]ipc.ConfigBegin{"on": {keptConfig, keptConfig}, "known": {known, known}, "off by now": {known, off}} {
		t.Run(name, func(t *testing.T) {
			from, to := newRig(t, cfg[0]), newRig(t, cfg[1])
			tc, srv := from.enter(1)
			tc.runs(t, srv, "SET a TO 1", done('I', "SET"))
			tc.runs(t, srv, "BEGIN", done('T', "BEGIN"))
			tc.runs(t, srv, "SET b TO 2", done('T', "SET"))
			carry(t, from, to)
			tc.runs(t, srv, "COMMIT", done('I', "COMMIT"))
			srv.Close()
			expect[*ipc.LeaseReturn](to)
			tc.says(t, "SELECT 1")
			to.grant(expect[*ipc.LeaseRequest](to).ID)
			srv = to.nextLogin()
			defer srv.Close()
			srv.asked(t, "SET a TO 1;SET b TO 2;", done('I', "SET", "SET"))
			srv.asked(t, "SELECT 1", done('I', "SELECT 1"))
			tc.until(t, &pgproto3.ReadyForQuery{})
			from.do(func() {
				if n := len(from.w.clients); n != 0 {
					t.Errorf("%d clients are left", n)
				}
			})
		})
	}
}

// A kept session without a backend goes to another worker, too, idle or while it waits for one.
func TestAKeptSessionWithoutABackendIsHandedOver(t *testing.T) {
	for _, waits := range []bool{false, true} {
		from, to := newRig(t, keptConfig), newRig(t, keptConfig)
		tc, srv := from.enter(1)
		tc.runs(t, srv, "SET a TO 1", done('I', "SET"))
		srv.Close()
		expect[*ipc.LeaseReturn](from)
		if waits {
			tc.says(t, "SELECT 1")
			expect[*ipc.LeaseRequest](from)
		}
		carry(t, from, to)
		if !waits {
			tc.says(t, "SELECT 1")
		}
		to.grant(expect[*ipc.LeaseRequest](to).ID)
		srv = to.nextLogin()
		defer srv.Close()
		srv.asked(t, "SET a TO 1;", done('I', "SET"))
		srv.asked(t, "SELECT 1", done('I', "SELECT 1"))
		tc.until(t, &pgproto3.ReadyForQuery{})
	}
}

// Sessions that are carried here after a reload have one reader together, whatever the key says by now.
func TestSessionsThatBeganBeforeAReloadShareAReader(t *testing.T) {
	c := &config{reader: relay.Trusting{}}
	one := c.readerAgain(false)
	if !one.Doubts() || one != c.readerAgain(false) {
		t.Error("each has a reader of its own")
	}
	if c.readerAgain(true).Doubts() {
		t.Error("one that was trusted isn't any more")
	}
	own := relay.NewKnowing(nil)
	if c = (&config{reader: own}); c.readerAgain(false) != relay.Reader(own) {
		t.Error("not the reader of the sessions that begin here")
	}
}

// A session is asked about before it gives its connection up for its age, also when sessions aren't kept any more by
// now. Its client is told what the server reports meanwhile.
func TestASessionIsLookedAtBeforeItsConnectionIsTooOld(t *testing.T) {
	cfg := keptConfig
	cfg.KeepSessions = "known"
	r := newRig(t, cfg)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SELECT 1", done('I', "SELECT 1"))
	r.do(func() {
		r.w.shelf.MaxAge, r.w.cfg.reader = time.Millisecond, nil
		r.w.setTimers()
	})
	queries := relay.WitnessQueries
	srv.asked(t, queries[0], nil)
	srv.asked(t, queries[1], nil)
	lock := []byte("\x00\x02\x00\x00\x00\x04lock\xff\xff\xff\xff")
	zone := pgwire.AppendParameterStatus(nil, "TimeZone", "Asia/Tokyo")
	srv.asked(t, queries[2], slices.Concat(zone, done('T', "BEGIN"), pgwire.AppendMessage(nil, 'D', lock), done('T', "SELECT 1"), done('I', "COMMIT")))
	if m := tc.until(t, &pgproto3.ParameterStatus{}).(*pgproto3.ParameterStatus); m.Name != "TimeZone" || m.Value != "Asia/Tokyo" {
		t.Errorf("the client is told of %s = %s", m.Name, m.Value)
	}
	r.do(func() {
		if tc.s.rests(); tc.s.backend == nil || tc.s.state != sessionActive {
			t.Errorf("a session with a lock has given up its connection; its state is %d", tc.s.state)
		}
	})
}

// When all clients of a worker fall silent together, the server isn't asked about all of them at once.
func TestOnlySoManySessionsAreLookedAtATime(t *testing.T) {
	cfg := keptConfig
	cfg.KeepSessions = "known"
	r := newRig(t, cfg)
	tc, srv := r.enter(1)
	tc.runs(t, srv, "SELECT 1", done('I', "SELECT 1"))
	r.do(func() {
		r.w.timers.look.Stop()
		r.w.timers.asks, r.w.shelf.MaxAge = asksEach, time.Millisecond
		if tc.s.rests(); tc.s.state != sessionActive || tc.s.backend == nil || !tc.s.talk.(*relay.Kept).Unseen() {
			t.Errorf("beyond the bound its state is %d", tc.s.state)
		}
		r.w.timers.asks = 0
		if tc.s.rests(); tc.s.state != sessionRestoring || r.w.timers.asks != 1 {
			t.Errorf("within the bound its state is %d, and %d were asked about", tc.s.state, r.w.timers.asks)
		}
	})
}
