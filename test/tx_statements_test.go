package test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Each client finds its own statements on whatever backend it gets: a third one
// holds one of the two in an open transaction, now this, now that.
func TestPooledStatementsFollowTheirClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 2, nil)
	a, b, holder := p.Connect(), p.Connect(), p.Connect()
	prepare(t, a, "s", "SELECT 'a' || $1")
	prepare(t, b, "s", "SELECT 'b' || $1")
	pids := map[string]bool{}
	for i := range 12 {
		arg := fmt.Sprint(i)
		if i%2 == 0 {
			mustQuery(t, holder, "BEGIN")
		}
		pids[backendPID(t, a)] = true
		for cl, want := range map[*pgtest.Client]string{a: "a", b: "b"} {
			if got := runPrepared(t, cl, "s", arg); got != want+arg {
				t.Fatalf("%s instead of %s", got, want+arg)
			}
		}
		mustQuery(t, holder, "COMMIT")
	}
	if len(pids) != 2 {
		t.Errorf("the statements were used on backends %v only", pids)
	}
}

func TestPooledNamesBehaveAsInPostgreSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 1, nil)
	direct, err := c.Primary().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	pooled, other := p.Connect(), p.Connect()
	prepare(t, other, "s", "SELECT 'not yours'")
	for i, say := range [][]pgproto3.FrontendMessage{
		{bindMsg("s"), execMsg, syncMsg},
		{bindMsg(""), execMsg, syncMsg},
		{&pgproto3.Describe{ObjectType: 'S', Name: "s"}, syncMsg},
		{&pgproto3.Describe{ObjectType: 'S'}, syncMsg},
		{&pgproto3.Close{ObjectType: 'S', Name: "s"}, syncMsg},
		{parseMsg("s", "SELECT 1"), &pgproto3.Describe{ObjectType: 'S', Name: "s"}, syncMsg},
		{parseMsg("s", "SELECT 2"), syncMsg},
		{bindMsg("s"), execMsg, syncMsg},
		{&pgproto3.Close{ObjectType: 'S', Name: "s"}, parseMsg("s", "SELECT 3"), bindMsg("s"), execMsg, syncMsg},
		{parseMsg("", "SELECT 1/0"), bindMsg(""), execMsg, &pgproto3.Close{ObjectType: 'S', Name: "s"}, syncMsg},
		{bindMsg("s"), execMsg, syncMsg},
		{parseMsg("t", "nonsense"), syncMsg},
		{bindMsg("t"), execMsg, syncMsg},
		{parseMsg("", "SELECT 'unnamed'"), &pgproto3.Describe{ObjectType: 'S'}, syncMsg},
		{bindMsg(""), execMsg, syncMsg},
		{bindMsg(""), &pgproto3.Describe{ObjectType: 'P'}, execMsg, syncMsg},
		{&pgproto3.Query{String: "SELECT 'ends the unnamed one'"}},
		{bindMsg(""), execMsg, syncMsg},
		{&pgproto3.Query{String: "DEALLOCATE s"}},
		{bindMsg("s"), execMsg, syncMsg},
		{parseMsg("s", "SELECT 4"), syncMsg},
		{parseMsg("", "DEALLOCATE s"), bindMsg(""), &pgproto3.Describe{ObjectType: 'P'}, execMsg, syncMsg},
		{&pgproto3.Query{String: "DEALLOCATE s"}},
		{parseMsg("s", "SELECT 5"), parseMsg("u", "SELECT 6"), syncMsg},
		{&pgproto3.Query{String: "DEALLOCATE ALL"}},
		{bindMsg("s"), execMsg, syncMsg},
		{parseMsg("s", "SELECT 7"), bindMsg("s"), execMsg, syncMsg},
		{&pgproto3.Query{String: "DISCARD ALL"}},
		{bindMsg("s"), execMsg, syncMsg},
	} {
		send(t, direct, say...)
		want := told(t, direct, "ready")
		send(t, pooled, say...)
		if got := told(t, pooled, "ready"); got != want {
			t.Errorf("step %d: told %q, PostgreSQL says %q", i, got, want)
		}
		if got := runPrepared(t, other, "s"); got != "not yours" {
			t.Fatalf("step %d: the other client's statement gives %q", i, got)
		}
	}
}

// The same text prepared under another DateStyle is another statement.
func TestPooledStatementsKeepTheSettingsOfTheirParse(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 1, nil)
	a := p.ConnectAs(withParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, MDY"))
	b := p.ConnectAs(withParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, DMY"))
	for _, name := range []string{"x", "y"} {
		prepare(t, a, name, "SELECT '01/02/2003'::date")
		prepare(t, b, name, "SELECT '01/02/2003'::date")
		for range 2 {
			if got := runPrepared(t, a, name); got != "2003-01-02" {
				t.Errorf("MDY: %s", got)
			}
			if got := runPrepared(t, b, name); got != "2003-02-01" {
				t.Errorf("DMY: %s", got)
			}
		}
	}
	// A setting that changes in the transaction counts, also unseen in a pipeline.
	send(t, a, &pgproto3.Query{String: "BEGIN; SET LOCAL DateStyle = 'ISO, DMY'"},
		parseMsg("z", "SELECT '01/02/2003'::date"), bindMsg("z"), execMsg, syncMsg, &pgproto3.Query{String: "COMMIT"})
	told(t, a, "done:COMMIT")
	told(t, a, "ready:I")
	for _, cl := range []*pgtest.Client{p.ConnectAs(withParam(p.Config("postgres", "", "postgres"), "DateStyle", "ISO, MDY")), a} {
		prepare(t, cl, "fresh", "SELECT '01/02/2003'::date")
		if got := runPrepared(t, cl, "fresh"); got != "2003-01-02" {
			t.Errorf("a statement parsed under DMY serves a client with MDY: %s", got)
		}
	}
}

func TestPooledSchemaChangeCostsOneError(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 2, nil)
	askNode(t, c.Primary(), "CREATE TABLE growing (a int); INSERT INTO growing VALUES (1)")
	cl, holder := p.Connect(), p.Connect()
	prepare(t, cl, "s", "SELECT * FROM growing")
	runPrepared(t, cl, "s")
	mustQuery(t, holder, "BEGIN") // one backend; the statement is on the other, too
	runPrepared(t, cl, "s")
	mustQuery(t, holder, "COMMIT")
	askNode(t, c.Primary(), "ALTER TABLE growing ALTER a TYPE text")
	_, err := cl.ExecPrepared(t.Context(), "s")
	wantCode(t, err, "0A000", "cached plan must not change result type")
	for range 4 {
		send(t, cl, &pgproto3.Close{ObjectType: 'S', Name: "s"}, parseMsg("s", "SELECT * FROM growing"), syncMsg)
		wantTold(t, cl, "CloseComplete ParseComplete ready:I")
		if got := runPrepared(t, cl, "s"); got != "1" {
			t.Errorf("after preparing it again: %s", got)
		}
	}
}

func TestPooledBackendHolds512Statements(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 1, nil)
	cl := p.Connect()
	const n = 600
	for i := range n {
		prepare(t, cl, fmt.Sprint("s", i), fmt.Sprintf("SELECT %d", i))
	}
	if got := mustQuery(t, cl, "SELECT count(*) FROM pg_prepared_statements")[0][0]; got != "512" {
		t.Errorf("%s statements on the backend", got)
	}
	for i := range n {
		if got := runPrepared(t, cl, fmt.Sprint("s", i)); got != fmt.Sprint(i) {
			t.Fatalf("statement %d gives %s", i, got)
		}
	}
	if got := mustQuery(t, cl, "SELECT count(*) FROM pg_prepared_statements")[0][0]; got != "512" {
		t.Errorf("%s statements on the backend at the end", got)
	}
}

// Another client's DISCARD ALL or DEALLOCATE ALL takes nobody's statements away.
func TestPooledStatementsSurviveWhatOthersDiscard(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 1, nil)
	cl, other := p.Connect(), p.Connect()
	prepare(t, cl, "s", "SELECT 'mine'")
	for _, sql := range []string{"DISCARD ALL", "DEALLOCATE ALL", "SET work_mem = '7MB'"} {
		mustQuery(t, other, sql)
		if got := runPrepared(t, cl, "s"); got != "mine" {
			t.Errorf("after %s: %s", sql, got)
		}
	}
	// What nobody can see costs one error.
	mustQuery(t, other, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
	if got := runPrepared(t, cl, "s"); got != "mine" {
		t.Errorf("after DO: %s", got)
	}
}

// lib/pq describes in one round trip and runs in the next, without a name.
func TestPooledUnnamedStatementFollowsAcrossTransactions(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := txPool(t, c, 2, nil)
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
		send(t, cl, parseMsg("", text), &pgproto3.Describe{ObjectType: 'S'}, syncMsg)
		wantTold(t, cl, "ParseComplete ParameterDescription RowDescription ready:I")
		mustQuery(t, holder, "BEGIN") // takes the backend that has it
		send(t, cl, bindMsg("", "x"), execMsg, syncMsg)
		told(t, cl, "row")
		told(t, cl, "ready:I")
		mustQuery(t, holder, "COMMIT")
	}
}
