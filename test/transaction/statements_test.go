package transaction

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// Each client finds its own statements on whatever backend it gets. A third client
// holds one of the two backends in an open transaction, a different one each time.
func TestPooledStatementsFollowTheirClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	a, b, holder := p.Connect(), p.Connect(), p.Connect()
	pool.PrepareStatement(t, a, "s", "SELECT 'a' || $1")
	pool.PrepareStatement(t, b, "s", "SELECT 'b' || $1")
	pids := map[string]bool{}
	for i := range 12 {
		arg := fmt.Sprint(i)
		if i%2 == 0 {
			pool.MustQuery(t, holder, "BEGIN")
		}
		pids[pool.BackendPID(t, a)] = true
		for cl, want := range map[*pgtest.Client]string{a: "a", b: "b"} {
			if got := pool.RunPrepared(t, cl, "s", arg); got != want+arg {
				t.Fatalf("%s instead of %s", got, want+arg)
			}
		}
		pool.MustQuery(t, holder, "COMMIT")
	}
	if len(pids) != 2 {
		t.Errorf("the statements were used on backends %v only", pids)
	}
}

func TestPooledNamesBehaveAsInPostgreSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	direct, err := c.Primary().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	pooled, other := p.Connect(), p.Connect()
	pool.PrepareStatement(t, other, "s", "SELECT 'not yours'")
	for i, say := range [][]pgproto3.FrontendMessage{
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Describe{ObjectType: 'S', Name: "s"}, pool.SyncMsg},
		{&pgproto3.Describe{ObjectType: 'S'}, pool.SyncMsg},
		{&pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.SyncMsg},
		{pool.ParseMsg("s", "SELECT 1"), &pgproto3.Describe{ObjectType: 'S', Name: "s"}, pool.SyncMsg},
		{pool.ParseMsg("s", "SELECT 2"), pool.SyncMsg},
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.ParseMsg("s", "SELECT 3"), pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.ParseMsg("", "SELECT 1/0"), pool.BindMsg(""), pool.ExecuteMsg, &pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.SyncMsg},
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.ParseMsg("t", "nonsense"), pool.SyncMsg},
		{pool.BindMsg("t"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.ParseMsg("", "SELECT 'unnamed'"), &pgproto3.Describe{ObjectType: 'S'}, pool.SyncMsg},
		{pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg},
		{pool.BindMsg(""), &pgproto3.Describe{ObjectType: 'P'}, pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Query{String: "SELECT 'ends the unnamed one'"}},
		{pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Query{String: "DEALLOCATE s"}},
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.ParseMsg("s", "SELECT 4"), pool.SyncMsg},
		{pool.ParseMsg("", "DEALLOCATE s"), pool.BindMsg(""), &pgproto3.Describe{ObjectType: 'P'}, pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Query{String: "DEALLOCATE s"}},
		{pool.ParseMsg("s", "SELECT 5"), pool.ParseMsg("u", "SELECT 6"), pool.SyncMsg},
		{&pgproto3.Query{String: "DEALLOCATE ALL"}},
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{pool.ParseMsg("s", "SELECT 7"), pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
		{&pgproto3.Query{String: "DISCARD ALL"}},
		{pool.BindMsg("s"), pool.ExecuteMsg, pool.SyncMsg},
	} {
		pool.Send(t, direct, say...)
		want := pool.Told(t, direct, "ready")
		pool.Send(t, pooled, say...)
		if got := pool.Told(t, pooled, "ready"); got != want {
			t.Errorf("step %d: told %q, PostgreSQL says %q", i, got, want)
		}
		if got := pool.RunPrepared(t, other, "s"); got != "not yours" {
			t.Fatalf("step %d: the other client's statement gives %q", i, got)
		}
	}
}

// The same text prepared under a different DateStyle is a different statement.
func TestPooledStatementsKeepTheSettingsOfTheirParse(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	a := p.ConnectAs(pool.WithParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, MDY"))
	b := p.ConnectAs(pool.WithParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, DMY"))
	for _, name := range []string{"x", "y"} {
		pool.PrepareStatement(t, a, name, "SELECT '01/02/2003'::date")
		pool.PrepareStatement(t, b, name, "SELECT '01/02/2003'::date")
		for range 2 {
			if got := pool.RunPrepared(t, a, name); got != "2003-01-02" {
				t.Errorf("MDY: %s", got)
			}
			if got := pool.RunPrepared(t, b, name); got != "2003-02-01" {
				t.Errorf("DMY: %s", got)
			}
		}
	}
	// A setting that changes in the transaction counts, too, even in a pipelined batch,
	// in which the pool hasn't seen the change yet.
	pool.Send(t, a, &pgproto3.Query{String: "BEGIN; SET LOCAL DateStyle = 'ISO, DMY'"},
		pool.ParseMsg("z", "SELECT '01/02/2003'::date"), pool.BindMsg("z"), pool.ExecuteMsg, pool.SyncMsg, &pgproto3.Query{String: "COMMIT"})
	pool.Told(t, a, "done:COMMIT")
	pool.Told(t, a, "ready:I")
	for _, cl := range []*pgtest.Client{p.ConnectAs(pool.WithParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, MDY")), a} {
		pool.PrepareStatement(t, cl, "fresh", "SELECT '01/02/2003'::date")
		if got := pool.RunPrepared(t, cl, "fresh"); got != "2003-01-02" {
			t.Errorf("a statement parsed under DMY serves a client with MDY: %s", got)
		}
	}
}

func TestPooledSchemaChangeCostsOneError(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	pool.AskNode(t, c.Primary(), "CREATE TABLE growing (a int); INSERT INTO growing VALUES (1)")
	cl, holder := p.Connect(), p.Connect()
	pool.PrepareStatement(t, cl, "s", "SELECT * FROM growing")
	pool.RunPrepared(t, cl, "s")
	pool.MustQuery(t, holder, "BEGIN") // holds one backend; the other one has the statement, too
	pool.RunPrepared(t, cl, "s")
	pool.MustQuery(t, holder, "COMMIT")
	pool.AskNode(t, c.Primary(), "ALTER TABLE growing ALTER a TYPE text")
	_, err := cl.ExecPrepared(t.Context(), "s")
	pool.WantCode(t, err, "0A000", "cached plan must not change result type")
	for range 4 {
		pool.Send(t, cl, &pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.ParseMsg("s", "SELECT * FROM growing"), pool.SyncMsg)
		wantTold(t, cl, "CloseComplete ParseComplete ready:I")
		if got := pool.RunPrepared(t, cl, "s"); got != "1" {
			t.Errorf("after preparing it again: %s", got)
		}
	}
}

func TestPooledBackendHolds512Statements(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl := p.Connect()
	const n = 600
	for i := range n {
		pool.PrepareStatement(t, cl, fmt.Sprint("s", i), fmt.Sprintf("SELECT %d", i))
	}
	if got := pool.MustQuery(t, cl, "SELECT count(*) FROM pg_prepared_statements")[0][0]; got != "512" {
		t.Errorf("%s statements on the backend", got)
	}
	for i := range n {
		if got := pool.RunPrepared(t, cl, fmt.Sprint("s", i)); got != fmt.Sprint(i) {
			t.Fatalf("statement %d gives %s", i, got)
		}
	}
	if got := pool.MustQuery(t, cl, "SELECT count(*) FROM pg_prepared_statements")[0][0]; got != "512" {
		t.Errorf("%s statements on the backend at the end", got)
	}
}

// Another client's DISCARD ALL or DEALLOCATE ALL takes nobody's statements away.
func TestPooledStatementsSurviveWhatOthersDiscard(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	cl, other := p.Connect(), p.Connect()
	pool.PrepareStatement(t, cl, "s", "SELECT 'mine'")
	for _, sql := range []string{"DISCARD ALL", "DEALLOCATE ALL", "SET work_mem = '7MB'"} {
		pool.MustQuery(t, other, sql)
		if got := pool.RunPrepared(t, cl, "s"); got != "mine" {
			t.Errorf("after %s: %s", sql, got)
		}
	}
	// A change that the pool can't see costs one error.
	pool.MustQuery(t, other, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
	if got := pool.RunPrepared(t, cl, "s"); got != "mine" {
		t.Errorf("after DO: %s", got)
	}
}

// lib/pq describes an unnamed statement in one round trip and runs it in the next.
func TestPooledUnnamedStatementFollowsAcrossTransactions(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	cl, holder := p.Connect(), p.Connect()
	pad := "/*"
	for range 17 { // up to 128 kB
		pad += pad + "x"
		if len(pad) > 100000 {
			break
		}
	}
	for _, comment := range []string{"", pad} {
		text := "SELECT pg_backend_pid() || $1"
		if comment != "" {
			text += " -- " + comment
		}
		pool.Send(t, cl, pool.ParseMsg("", text), &pgproto3.Describe{ObjectType: 'S'}, pool.SyncMsg)
		wantTold(t, cl, "ParseComplete ParameterDescription RowDescription ready:I")
		pool.MustQuery(t, holder, "BEGIN") // takes the backend that has the statement
		pool.Send(t, cl, pool.BindMsg("", "x"), pool.ExecuteMsg, pool.SyncMsg)
		pool.Told(t, cl, "row")
		pool.Told(t, cl, "ready:I")
		pool.MustQuery(t, holder, "COMMIT")
	}
}

// If the reset query closes no statements, the pool still knows them, so it uses them
// again and a backend never has more than 512.
func TestPooledStatementsStayBoundedWithAnyResetQuery(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, keys := range []map[string]string{
		{"server_reset_query": "'RESET ALL'", "server_reset_query_always": "on"},
		{"server_reset_query": "'RESET ALL'"},
		{"server_reset_query": "'DEALLOCATE ALL; RESET ALL'"},
	} {
		p := pool.TxPool(t, c, 1, keys)
		for i := range 700 {
			cl := p.Connect()
			pool.PrepareStatement(t, cl, "s", fmt.Sprintf("SELECT %d", i))
			if got := pool.RunPrepared(t, cl, "s"); got != fmt.Sprint(i) {
				t.Fatalf("statement %d gives %s", i, got)
			}
			if i%2 == 0 {
				pool.MustQuery(t, cl, "SET work_mem = '7MB'")
			}
			cl.Close()
		}
		cl := p.Connect()
		var n int
		_, _ = fmt.Sscan(pool.MustQuery(t, cl, "SELECT count(*) FROM pg_prepared_statements")[0][0], &n)
		if n > 512 || n == 0 && keys["server_reset_query"] == "'RESET ALL'" {
			t.Errorf("%v: %d statements on the server", keys, n)
		}
		if got := pool.ShowSetting(t, cl, "work_mem"); got != "4MB" {
			t.Errorf("%v: work_mem is %s", keys, got)
		}
	}
}

// DISCARD ALL can't run in a transaction, and several statements in one query are a
// transaction.
func TestResetQueryOfSeveralStatementsKeepsTheConnection(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, pipeline := range []string{"transaction", "session"} {
		for query, kept := range map[string]bool{
			"'DISCARD ALL; SET work_mem = \"5MB\";'": true, "'BEGIN; DISCARD ALL; SET work_mem = \"5MB\"; COMMIT'": false,
		} {
			p := pool.TxPool(t, c, 1, map[string]string{"pipeline": pipeline, "server_reset_query": query})
			a := p.Connect()
			pid := pool.BackendPID(t, a)
			pool.MustQuery(t, a, "SET work_mem = '7MB'")
			a.Close()
			b := p.Connect()
			if same := pool.BackendPID(t, b) == pid; same != kept {
				t.Errorf("%s, %s: the same connection: %v", pipeline, query, same)
			}
			if got := pool.ShowSetting(t, b, "work_mem"); got != map[bool]string{true: "5MB", false: "4MB"}[kept] {
				t.Errorf("%s, %s: work_mem is %s", pipeline, query, got)
			}
			if !kept {
				p.WaitLog("no BEGIN, COMMIT")
			}
		}
	}
}
