package transaction

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// SQL names the statements that the protocol has made, by the client's names, on whatever
// connection the client gets. Another client has a statement of the same name.
func TestPooledSQLNamesStatementsOfTheProtocol(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE growing (a int); INSERT INTO growing VALUES (1); CREATE TABLE leaving (a int)")
	p := pool.TxPool(t, c, 2, nil)
	direct, err := c.Primary().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	pooled, other, holder := p.Connect(), p.Connect(), p.Connect()
	pool.PrepareStatement(t, other, "s", "SELECT 'not yours'")
	query := func(sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Query{String: sql}}
	}
	run := []pgproto3.FrontendMessage{pool.BindMsg("e"), pool.ExecuteMsg, pool.SyncMsg}
	unnamed := func(sql string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{pool.ParseMsg("", sql), &pgproto3.Describe{ObjectType: 'S'}, pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg}
	}
	for i, step := range []struct {
		alter string
		say   []pgproto3.FrontendMessage
	}{
		{"", []pgproto3.FrontendMessage{pool.ParseMsg("s", "SELECT 'mine' || $1::text"), pool.SyncMsg}},
		{"", query("EXECUTE s('1')")},
		{"", query("/* a */ execute S ( '2;' ) ;")},
		{"", query("EXPLAIN (COSTS OFF) EXECUTE s('1')")},
		{"", query("explain analyze execute s")},
		{"", query("BEGIN; EXECUTE s('3'); COMMIT")},
		{"", query("EXECUTE s('4'); SELECT 'b'; EXECUTE s('5')")},
		{"", query("BEGIN; EXECUTE s('6')")},
		{"", query("EXECUTE nobody")},
		{"", query("EXECUTE s('7')")},
		{"", query("ROLLBACK; EXECUTE s('8')")},
		{"", unnamed("EXECUTE s('9')")},
		{"", []pgproto3.FrontendMessage{pool.BindMsg(""), pool.ExecuteMsg, pool.SyncMsg}},
		{"", []pgproto3.FrontendMessage{pool.ParseMsg("e", "EXECUTE s('10')"), pool.SyncMsg}},
		{"", []pgproto3.FrontendMessage{&pgproto3.Describe{ObjectType: 'S', Name: "e"}, pool.SyncMsg}},
		{"", run},
		{"", run},
		{"", []pgproto3.FrontendMessage{&pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.ParseMsg("s", "SELECT 'another' || $1"), pool.SyncMsg}},
		{"", run},
		{"", []pgproto3.FrontendMessage{pool.ParseMsg("t", "SELECT 't'"), pool.ParseMsg("U", "SELECT 'U'"), pool.SyncMsg}},
		{"", query("EXECUTE t; DEALLOCATE t; DEALLOCATE \"U\"; SELECT 'gone'")},
		{"", query("EXECUTE t")},
		{"", query(`DEALLOCATE "U"`)},
		{"", []pgproto3.FrontendMessage{pool.ParseMsg("t", "SELECT 't'"), pool.ParseMsg("U", "SELECT 'U'"), pool.SyncMsg}},
		{"", query("DEALLOCATE t; SELECT 1/0; DEALLOCATE \"U\"")},
		{"", query(`EXECUTE "U"`)},
		{"", query("EXECUTE t")},
		{"", query("DEALLOCATE s; EXECUTE s('1')")},
		{"", run},
		{"", unnamed("DEALLOCATE \"U\"")},
		{"", query(`EXECUTE "U"`)},
		{"", []pgproto3.FrontendMessage{pool.ParseMsg("g", "SELECT * FROM growing"), pool.ParseMsg("l", "SELECT * FROM leaving"), pool.SyncMsg}},
		{"", query("EXECUTE g")},
		{"ALTER TABLE growing ALTER a TYPE text; DROP TABLE leaving", query("EXECUTE g")},
		{"", query("BEGIN; EXECUTE g")},
		{"", query("ROLLBACK")},
		{"", query("EXECUTE l")},
		{"", query("SELECT 'after it'")},
	} {
		if step.alter != "" {
			pool.AskNode(t, c.Primary(), step.alter)
		}
		pool.Send(t, direct, step.say...)
		want := pool.Told(t, direct, "ready")
		pool.MustQuery(t, holder, "BEGIN") // has the connection that was used last, unless the client is in a block
		pool.Send(t, pooled, step.say...)
		if got := pool.Told(t, pooled, "ready"); got != want {
			t.Errorf("step %d: told %q, PostgreSQL says %q", i, got, want)
		}
		pool.MustQuery(t, holder, "COMMIT")
		if got := pool.MustQuery(t, other, "EXECUTE s")[0][0]; got != "not yours" {
			t.Fatalf("step %d: the other client's statement gives %q", i, got)
		}
	}
}

// What an executed statement leaves behind doesn't reach the next client.
func TestPooledExecutedStatementLeavesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	for i, execute := range []string{"EXECUTE s", "EXPLAIN ANALYZE EXECUTE s", "SELECT 1; EXECUTE s"} {
		cl, next := p.Connect(), p.Connect()
		pool.PrepareStatement(t, cl, "s", fmt.Sprintf("SELECT pg_advisory_lock(%d)", i))
		pool.MustQuery(t, cl, execute)
		if got := pool.MustQuery(t, next, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0]; got != "0" {
			t.Errorf("%s: the next client finds %s locks", execute, got)
		}
		cl.Close()
		next.Close()
	}
}

// A client that waits for a statement's description to execute it by SQL hears of the
// end of its connection, and goes on.
func TestPooledStatementOfSQLCanBeCancelledOnANewConnection(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE locked (a int)")
	p := pool.TxPool(t, c, 2, nil)
	cl, holder := p.Connect(), p.Connect()
	pool.PrepareStatement(t, cl, "s", "SELECT count(*) FROM locked")
	for _, sql := range []string{"SELECT pg_cancel_backend(pid)", "SELECT pg_terminate_backend(pid)"} {
		pool.MustQuery(t, holder, "BEGIN")
		pool.MustQuery(t, holder, "LOCK locked") // has the connection that has the statement, so a Parse waits for the lock
		pool.Send(t, cl, &pgproto3.Query{String: "EXECUTE s"})
		pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "1")
		pool.AskNode(t, c.Primary(), sql+" FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
		if sql == "SELECT pg_cancel_backend(pid)" {
			wantTold(t, cl, "error:57014 ready:I")
		} else {
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "1") // on another connection
		}
		pool.MustQuery(t, holder, "COMMIT")
		if sql != "SELECT pg_cancel_backend(pid)" {
			wantTold(t, cl, "RowDescription row:0 done:SELECT_1 ready:I")
		}
		if got := pool.MustQuery(t, cl, "EXECUTE s")[0][0]; got != "0" {
			t.Errorf("afterwards it gives %s", got)
		}
	}
}
