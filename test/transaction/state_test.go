package transaction

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestPooledClientBetweenTransactionsHoldsNoBackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	a, b := p.Connect(), p.Connect()
	for range 10 {
		pool.MustQuery(t, a, "BEGIN")
		pid := pool.BackendPID(t, a)
		pool.MustQuery(t, a, "COMMIT")
		if got := pool.BackendPID(t, b); got != pid {
			t.Fatalf("backend %s instead of %s", got, pid)
		}
	}
}

// Whatever a client was doing when it left, the next client finds a clean backend.
func TestPooledClientThatVanishesLeavesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE left_behind (i int)")
	p := pool.TxPool(t, c, 1, nil)
	insert := "INSERT INTO left_behind VALUES (1)"
	for name, do := range map[string]func(*pgtest.Client){
		"open transaction": func(cl *pgtest.Client) { pool.MustQuery(t, cl, "BEGIN"); pool.MustQuery(t, cl, insert) },
		"failed transaction": func(cl *pgtest.Client) {
			pool.MustQuery(t, cl, "BEGIN")
			pool.MustQuery(t, cl, insert)
			_, _ = pool.Query(cl, "nonsense")
		},
		"batch without Sync": func(cl *pgtest.Client) {
			pool.Send(t, cl, pool.ParseMsg("", insert), pool.BindMsg(""), pool.ExecuteMsg, pool.FlushMsg)
			pool.Told(t, cl, "done")
		},
		"half a message": func(cl *pgtest.Client) { pool.SendRaw(t, cl, []byte("Q\x00\x00\x00\x20INSERT")) },
		"half a header":  func(cl *pgtest.Client) { pool.SendRaw(t, cl, []byte("P\x00")) },
		"half a Bind":    func(cl *pgtest.Client) { pool.SendRaw(t, cl, []byte("B\x00\x00\x00\x20\x00nam")) },
		"running query":  func(cl *pgtest.Client) { pool.Send(t, cl, &pgproto3.Query{String: insert + "; SELECT pg_sleep(600)"}) },
		"COPY":           func(cl *pgtest.Client) { copyIn(t, cl) },
		"result half read": func(cl *pgtest.Client) {
			pool.Send(t, cl, &pgproto3.Query{String: "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"})
			pool.Told(t, cl, "row")
		},
		"skipping after error": func(cl *pgtest.Client) {
			pool.Send(t, cl, pool.ParseMsg("", "nonsense"), pool.FlushMsg)
			pool.Told(t, cl, "error")
		},
	} {
		for _, polite := range []bool{false, true} {
			cl := p.Connect()
			do(cl)
			if polite && name != "half a message" && name != "half a header" && name != "half a Bind" && name != "running query" {
				cl.Close()
			} else {
				pool.Vanish(t, cl)
			}
			next := p.Connect()
			if got := pool.MustQuery(t, next, "SELECT count(*) FROM left_behind")[0][0]; got != "0" {
				t.Errorf("%s: %s rows stayed", name, got)
			}
			if next.Status != 'I' {
				t.Errorf("%s: status %c", name, next.Status)
			}
			next.Close()
		}
	}
}

func copyIn(t testing.TB, cl *pgtest.Client) {
	t.Helper()
	pool.Send(t, cl, &pgproto3.Query{String: "COPY left_behind FROM STDIN"})
	pool.Told(t, cl, "CopyInResponse")
	pool.Send(t, cl, &pgproto3.CopyData{Data: []byte("1\n")})
}

// State that another client must not see is reset before that client gets the backend,
// but stays for the client that made it. myLocks counts the advisory locks of the
// connection's session.
const myLocks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"

func TestPooledDirtyBackendIsResetForOthersOnly(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE lesser; CREATE TABLE one (i int); INSERT INTO one VALUES (1); CREATE SEQUENCE numbers;"+
		"CREATE FUNCTION numbered() RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM currval(''numbers''); RETURN true; "+
		"EXCEPTION WHEN object_not_in_prerequisite_state THEN RETURN false; END'")
	p := pool.TxPool(t, c, 1, nil)
	for _, test := range []struct{ do, ask, clean, dirty string }{
		{"SET work_mem = '7MB'", "SHOW work_mem", "4MB", "7MB"},
		{"SET ROLE lesser", "SELECT current_user", "postgres", "lesser"},
		{"SET SESSION AUTHORIZATION lesser", "SELECT session_user", "postgres", "lesser"},
		{"BEGIN; SET work_mem = '7MB'; COMMIT", "SHOW work_mem", "4MB", "7MB"},
		{"PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'", "0", "1"},
		{"BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT", "SELECT count(*) FROM pg_cursors WHERE name = 'held'", "0", "1"},
		{"CREATE TEMP TABLE t1 (i int)", "SELECT to_regclass('pg_temp.t1') IS NOT NULL", "f", "t"},
		{"CREATE TEMP TABLE t2 AS SELECT 1", "SELECT to_regclass('pg_temp.t2') IS NOT NULL", "f", "t"},
		{"SELECT 1 AS a INTO TEMP t3", "SELECT to_regclass('pg_temp.t3') IS NOT NULL", "f", "t"},
		{"CREATE TEMP TABLE t4 AS SELECT 1 WHERE false", "SELECT to_regclass('pg_temp.t4') IS NOT NULL", "f", "t"},
		{"DO $$ BEGIN PERFORM set_config('work_mem', '7MB', false); END $$", "SHOW work_mem", "4MB", "7MB"},
		{"SELECT set_config('work_mem', '7MB', false)", "SHOW work_mem", "4MB", "7MB"},
		{"VALUES (pg_catalog.\"set_config\" ('search_path', 'x', 1 > 2))", "SHOW search_path", `"$user", public`, "x"},
		{"WITH a AS (SELECT Set_Config('work_mem', '7MB', false)) SELECT * FROM a, (SELECT true) b", "SHOW work_mem", "4MB", "7MB"},
		{"UPDATE one SET i = i WHERE set_config('work_mem', '7MB', false) > ''", "SHOW work_mem", "4MB", "7MB"},
		{"COPY (SELECT set_config('work_mem', '7MB', false)) TO '/dev/null'", "SHOW work_mem", "4MB", "7MB"},
		{"EXPLAIN ANALYZE SELECT set_config('work_mem', '7MB', false)", "SHOW work_mem", "4MB", "7MB"},
		{"SELECT pg_advisory_lock(1)", myLocks, "0", "1"},
		{"SELECT pg_advisory_lock_shared(1, 2)", myLocks, "0", "1"},
		{"SELECT pg_try_advisory_lock(1)", myLocks, "0", "1"},
		{"SELECT pg_try_advisory_lock_shared(1)", myLocks, "0", "1"},
		{"SELECT nextval('numbers')", "SELECT numbered()", "f", "t"},
		{"SELECT setval('numbers', 7)", "SELECT numbered()", "f", "t"},
	} {
		for _, extended := range []bool{false, true} {
			a, b := p.Connect(), p.Connect()
			if extended && test.do[:5] != "BEGIN" {
				if _, err := a.Exec(t.Context(), test.do); err != nil {
					t.Fatal(err)
				}
			} else {
				pool.MustQuery(t, a, test.do)
			}
			if got := pool.MustQuery(t, a, test.ask)[0][0]; got != test.dirty {
				t.Errorf("%s: the same client finds %s", test.do, got)
			}
			if got := pool.MustQuery(t, b, test.ask)[0][0]; got != test.clean {
				t.Errorf("%s: another client finds %s", test.do, got)
			}
			pool.MustQuery(t, a, test.do)
			a.Close()
			if got := pool.MustQuery(t, b, test.ask)[0][0]; got != test.clean {
				t.Errorf("%s, then gone: another client finds %s", test.do, got)
			}
			b.Close()
		}
	}
}

// A rollback or an error doesn't release an advisory lock, so others would wait for it.
func TestPooledLockOfAFailedStatementIsReleased(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	for name, lock := range map[string]func(*pgtest.Client){
		"query": func(a *pgtest.Client) { _, _ = pool.Query(a, "SELECT pg_advisory_lock(1); SELECT 1/0") },
		"one": func(a *pgtest.Client) {
			_, _ = pool.Query(a, "SELECT pg_advisory_lock(g), 1/(2-g) FROM generate_series(1, 3) g")
		},
		"extended": func(a *pgtest.Client) {
			_, _ = a.Exec(t.Context(), "SELECT pg_advisory_lock(g), 1/(2-g) FROM generate_series(1, 3) g")
		},
		"rollback": func(a *pgtest.Client) { pool.MustQuery(t, a, "BEGIN; SELECT pg_advisory_lock(1); ROLLBACK") },
		"a part of the rows": func(a *pgtest.Client) {
			heard(t, a, pool.ParseMsg("", "SELECT pg_advisory_lock(g) FROM generate_series(1, 3) g"), pool.BindMsg(""), &pgproto3.Execute{MaxRows: 1}, pool.SyncMsg)
		},
		"prepared": func(a *pgtest.Client) {
			pool.PrepareStatement(t, a, "s", "SELECT pg_advisory_lock(1)")
			pool.RunPrepared(t, a, "s")
		},
	} {
		a, b := p.Connect(), p.Connect()
		lock(a)
		if got := pool.MustQuery(t, a, myLocks)[0][0]; got == "0" {
			t.Errorf("%s: the client itself has lost its lock", name)
		}
		if got := pool.MustQuery(t, b, myLocks)[0][0]; got != "0" {
			t.Errorf("%s: another client finds %s locks", name, got)
		}
		a.Close()
		b.Close()
	}
}

// Locks and temporary tables of a client that has left disappear, even if nobody needs
// its connection.
func TestPooledLeftoversGoWithTheirClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, workers := range []string{"1", "2"} {
		p := pool.TxPool(t, c, 4, map[string]string{"workers": workers})
		for _, leave := range map[string]func(*pgtest.Client){
			"goodbye": func(a *pgtest.Client) { a.Close() },
			"reset":   func(a *pgtest.Client) { pool.Vanish(t, a) },
		} {
			a := p.Connect()
			pool.MustQuery(t, a, "BEGIN; SELECT pg_advisory_lock(7); COMMIT")
			pool.MustQuery(t, a, "CREATE TEMP TABLE mine (i int)")
			pool.AskNode(t, c.Primary(), "SELECT 1/count(*) FROM pg_locks WHERE locktype = 'advisory'")
			leave(a)
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0")
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_class WHERE relname = 'mine'", "0")
		}
	}
}

// What only currval and lastval remember blocks nobody, so no clock removes it: only the
// end of its client does.
func TestPooledSequencesAreForgottenWithTheirClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE SEQUENCE numbers")
	p := pool.TxPool(t, c, 1, nil)
	a := p.Connect()
	pid := pool.BackendPID(t, a)
	pool.MustQuery(t, a, "SELECT nextval('numbers')")
	a.Close()
	pool.WaitNode(t, c.Primary(), "SELECT query FROM pg_stat_activity WHERE pid = "+pid, "DISCARD ALL")
}

// An idle client that stays connected keeps a lock from others for a few seconds at most.
func TestPooledLockOfAnIdleClientIsGivenUpForOthers(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 4, nil)
	a, busy, b := p.Connect(), p.Connect(), p.Connect()
	pool.MustQuery(t, a, "SELECT pg_advisory_lock(7)")
	pid := pool.BackendPID(t, a)
	other := func(cl *pgtest.Client) bool {
		pool.MustQuery(t, cl, "BEGIN")
		return pool.BackendPID(t, cl) != pid
	}
	// Each client has a connection already, because a connection would be reset for its
	// next client.
	pool.MustQuery(t, a, "BEGIN")
	if !other(busy) || !other(b) {
		t.Fatal("two clients have one connection")
	}
	pool.MustQuery(t, a, "COMMIT")
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	if _, err := b.Query(ctx, "SELECT pg_advisory_lock(7)"); err != nil {
		t.Errorf("a client waits for the lock of an idle client: %v", err)
	}
	pool.MustQuery(t, a, "SELECT 1") // it stays connected
}

// The client that waits for a lock and the client that holds it may each be the only client
// of their worker.
func TestPooledLockIsGivenUpForAClientOfAnotherWorker(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 4, map[string]string{"workers": "2"})
	open := func() (cl *pgtest.Client, worker int) {
		cl = p.Connect()
		pool.MustQuery(t, cl, "BEGIN") // on a connection of its own
		return cl, p.WorkerOf(cl)
	}
	a, its := open()
	b, other := open()
	for range 6 {
		if other != its {
			break
		}
		b.Close()
		b, other = open()
	}
	if other == its {
		t.Fatal("every client is on one worker")
	}
	pool.MustQuery(t, a, "SELECT pg_advisory_lock(7); COMMIT")
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	if _, err := b.Query(ctx, "SELECT pg_advisory_lock(7)"); err != nil {
		t.Errorf("a client waits for the lock of an idle client of another worker: %v", err)
	}
	pool.MustQuery(t, a, "SELECT 1") // it stays
}

// No reset query removes this state, so the connection is closed at the end of the
// transaction.
func TestPooledConnectionEndsWithWhatNoResetRemoves(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE EXTENSION dblink")
	p := pool.TxPool(t, c, 1, nil)
	for _, sql := range []string{
		"SELECT setseed(0.5)", fmt.Sprintf("SELECT dblink_connect('there', 'host=127.0.0.1 port=%d user=postgres dbname=postgres')", c.Primary().Port),
		"SELECT pg_create_physical_replication_slot('mine', false, true)",
	} {
		a, b := p.Connect(), p.Connect()
		pid := pool.BackendPID(t, a)
		pool.MustQuery(t, a, "BEGIN")
		pool.MustQuery(t, a, sql)
		if got := pool.BackendPID(t, a); got != pid {
			t.Errorf("%s: the connection ends within the transaction", sql)
		}
		pool.MustQuery(t, a, "COMMIT")
		if got := pool.BackendPID(t, b); got == pid {
			t.Errorf("%s: another client has the same connection", sql)
		}
		a.Close()
		b.Close()
	}
}

// A reset would release an advisory lock of the session, which the test can see.
func TestPooledPlainTransactionsCauseNoReset(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	a, b := p.Connect(), p.Connect()
	pool.AskNode(t, c.Primary(), "CREATE TABLE plain (i int); CREATE FUNCTION hidden(i int) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(i)'")
	for i, sql := range []string{
		"SELECT 1", "BEGIN; SET LOCAL work_mem = '7MB'; COMMIT", "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
		"SET application_name = 'me'", "SET TIME ZONE 'Europe/Rome'", "INSERT INTO plain VALUES (1)",
		"UPDATE plain SET i = 2", "BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT", "DELETE FROM plain", "BEGIN; ROLLBACK",
		"SELECT * FROM plain WHERE i = 77", "CREATE TABLE plain2 (i int)", "CREATE INDEX ON plain2 (i)", "DROP TABLE plain2",
		"SELECT set_config('work_mem', '7MB', true)", "BEGIN; SELECT pg_advisory_xact_lock(5); ROLLBACK",
		"BEGIN; SELECT lo_open(lo_create(4711), 131072); ROLLBACK", "INSERT INTO plain (i) VALUES (1), (2), (length('set_config'))",
	} {
		pool.MustQuery(t, a, fmt.Sprintf("SELECT hidden(%d)", i))
		pool.MustQuery(t, a, sql)
		if got := pool.MustQuery(t, b, fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %d", i))[0][0]; got != "1" {
			t.Errorf("%q caused a reset", sql)
		}
	}
}

// No notification would ever arrive, so LISTEN is an ordinary error, in each state of a
// transaction.
func TestPooledListenIsRefused(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	a := p.Connect()
	refused := "error 0A000 LISTEN is not supported in the transaction pipeline "
	extended := []pgproto3.FrontendMessage{pool.BindMsg("l"), pool.ExecuteMsg, pool.SyncMsg}
	for _, step := range []struct {
		say  []pgproto3.FrontendMessage
		want string
	}{
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "LISTEN news"}}, refused + "; I"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "SELECT 'a; b'; /* c */ listen \"News\";"}}, refused + "; I"},
		{append([]pgproto3.FrontendMessage{pool.ParseMsg("l", "LISTEN news")}, extended...), refused + "; I"},
		{extended, "error 26000 prepared statement \"l\" does not exist FetchPreparedStatement; I"},
		{[]pgproto3.FrontendMessage{pool.ParseMsg("", "Listen news"), pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg}, refused + "; I"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "BEGIN"}}, "BEGIN; T"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "LISTEN news"}}, refused + "; E"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "ROLLBACK"}}, "ROLLBACK; I"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "SELECT '; LISTEN news' AS listen"}}, "returns listen/25; row[\"; LISTEN news\"]; SELECT 1; I"},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "UNLISTEN *; NOTIFY news"}}, "UNLISTEN; NOTIFY; I"},
	} {
		if got := heard(t, a, step.say...); got != step.want {
			t.Errorf("told %s\nwant %s", got, step.want)
		}
	}
}

func TestPooledTrackedParametersFollowTheClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	ask := "SELECT current_setting('application_name') || '/' || current_setting('TimeZone') || '/' || current_setting('DateStyle') || '/' || " +
		"current_setting('IntervalStyle') || '/' || current_setting('client_encoding') || '/' || current_setting('standard_conforming_strings')"
	cfg := p.Config("postgres", "", "postgres")
	cfg.Params = map[string]string{"application_name": "a'b\\", "TimeZone": "Europe/Rome", "DateStyle": "German", "client_encoding": "LATIN1"}
	a, b := p.ConnectAs(cfg), p.Connect()
	plain := pool.MustQuery(t, b, ask)[0][0]
	mine := "a'b\\/Europe/Rome/German, DMY/postgres/LATIN1/on"
	for i := range 3 {
		if got := pool.MustQuery(t, a, ask)[0][0]; got != mine {
			t.Fatalf("round %d: %s, want %s", i, got, mine)
		}
		if got := pool.MustQuery(t, b, ask)[0][0]; got != plain {
			t.Fatalf("round %d: the other client has %s, want %s", i, got, plain)
		}
	}
	pool.MustQuery(t, a, "SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo'; SET standard_conforming_strings = off")
	pool.MustQuery(t, a, "BEGIN; SET DateStyle = 'SQL'; ROLLBACK")
	pool.MustQuery(t, a, "BEGIN; SET LOCAL TimeZone = 'UTC'; COMMIT")
	mine = "a'b\\/Asia/Tokyo/German, DMY/iso_8601/LATIN1/off"
	if got := pool.MustQuery(t, b, ask)[0][0]; got != plain {
		t.Fatalf("the other client has %s, want %s", got, plain)
	}
	if got := pool.MustQuery(t, a, ask)[0][0]; got != mine || a.Params["TimeZone"] != "Asia/Tokyo" {
		t.Fatalf("after SET: %s, want %s; reported %s", got, mine, a.Params["TimeZone"])
	}
}

// After DISCARD ALL a client has the settings of its start-up packet, as it would
// without a pool.
func TestPooledDiscardAllRestoresStartupParameters(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl := p.ConnectAs(pool.WithParam(p.Config("postgres", "", "postgres"), "TimeZone", "Europe/Rome"))
	pool.MustQuery(t, cl, "SET TimeZone = 'Asia/Tokyo'")
	pool.MustQuery(t, cl, "DISCARD ALL")
	if got := pool.ShowSetting(t, cl, "TimeZone"); got != "Europe/Rome" || cl.Params["TimeZone"] != got {
		t.Errorf("TimeZone is %s, reported %s", got, cl.Params["TimeZone"])
	}
}

func TestPooledOtherStartupParametersMakeAPool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	a, b := p.ConnectAs(pool.WithParam(p.Config("postgres", "", "postgres"), "options", "-c work_mem=9MB")), p.Connect()
	for range 3 {
		if got := pool.ShowSetting(t, a, "work_mem"); got != "9MB" {
			t.Errorf("work_mem is %s", got)
		}
		pool.MustQuery(t, a, "SET work_mem = '5MB'; RESET work_mem")
		if got := pool.ShowSetting(t, b, "work_mem"); got != "4MB" {
			t.Errorf("the other client's work_mem is %s", got)
		}
	}
}
