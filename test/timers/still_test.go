package timers

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// ways are both pipelines, one on each event loop.
var ways = map[string]map[string]string{
	"session":     {"pipeline": "session", "ev_backend": "epoll"},
	"transaction": {"pipeline": "transaction", "ev_backend": "auto"},
}

// inEachWay runs a test in both pipelines, with a cluster for both.
func inEachWay(t *testing.T, keys map[string]string, test func(t *testing.T, c *pgtest.Cluster, p *pool.Pool)) {
	t.Helper()
	t.Parallel()
	inEachWayOn(t, pgtest.New(t, pgtest.Options{}), keys, test)
}

func inEachWayOn(t *testing.T, c *pgtest.Cluster, keys map[string]string, test func(t *testing.T, c *pgtest.Cluster, p *pool.Pool)) {
	t.Helper()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := maps.Clone(way)
			maps.Copy(all, keys)
			all["workers"] = "1"
			test(t, c, pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: all}))
		})
	}
}

// sleep is a statement that runs until it is cancelled.
const sleep = "SELECT pg_sleep(600)"

func say(t *testing.T, c *pgtest.Client, sql string) {
	t.Helper()
	pool.Send(t, c, &pgproto3.Query{String: sql})
}

// wantEnd reads up to the FATAL error that ends the session, and then its end.
func wantEnd(t *testing.T, c *pgtest.Client, code string) {
	t.Helper()
	if told := pool.Told(t, c, "error"); !strings.HasSuffix(told, "error:"+code) {
		t.Errorf("the client was told %q, want %s", told, code)
	}
	if m, err := c.Receive(pool.Within(t)); err == nil {
		t.Errorf("after the last error the client got %T", m)
	}
}

// closed waits until the server has no such backend any more.
func closed(t *testing.T, c *pgtest.Cluster, pid string) {
	t.Helper()
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid, "0")
}

func TestStatementThatRunsTooLongIsCancelled(t *testing.T) {
	inEachWay(t, map[string]string{"query_timeout": "3s"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		idle, cl := p.Connect(), p.Connect()
		pool.MustQuery(t, idle, "BEGIN")
		pid := pool.BackendPID(t, idle)
		say(t, cl, sleep)
		if told, want := pool.Told(t, cl, "ready"), "NoticeResponse RowDescription error:57014 ready:I"; told != want {
			t.Errorf("the client was told %q, want %q", told, want)
		}
		p.WaitLog("statement cancelled")
		pool.Send(t, cl, pool.ParseMsg("", sleep), pool.BindMsg(""), &pgproto3.Execute{}, &pgproto3.Sync{})
		if told := pool.Told(t, cl, "ready"); !strings.HasSuffix(told, "error:57014 ready:I") {
			t.Errorf("the client of the extended protocol was told %q", told)
		}
		pool.MustQuery(t, cl, "SELECT 1")
		if got := pool.BackendPID(t, idle); got != pid || idle.Status != 'T' {
			t.Errorf("backend %s and status %q of a client that ran nothing, want %s in its transaction", got, idle.Status, pid)
		}
	})
}

// A line of pgagroal_databases.conf has a time of its own, or none.
func TestStatementsOfSomeUsersMayRunForLonger(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE quick LOGIN; CREATE ROLE unnamed LOGIN")
	for name, tt := range map[string]struct {
		main, lines string
		cancelled   []string
		longer      string
	}{
		"shorter": {"0", "all postgres 9\npostgres=alias quick 9 query_timeout=1s\n", []string{"quick/postgres", "quick/alias"}, "postgres"},
		"off":     {"1s", "all postgres 9 query_timeout=0\n", []string{"quick/postgres", "unnamed/postgres"}, "postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Databases: tt.lines, Keys: map[string]string{"query_timeout": tt.main}})
			longer := p.ConnectAs(p.Config(tt.longer, "", "postgres"))
			say(t, longer, sleep)
			for _, who := range tt.cancelled {
				user, database, _ := strings.Cut(who, "/")
				cl := p.ConnectAs(p.Config(user, "", database))
				say(t, cl, sleep)
				if told := pool.Told(t, cl, "ready"); !strings.Contains(told, "error:57014") {
					t.Errorf("%s: %s", who, told)
				}
			}
			pool.WaitNode(t, c.Primary(), fmt.Sprintf("SELECT state || ' ' || query FROM pg_stat_activity WHERE pid = %d", longer.PID), "active "+sleep)
		})
	}
}

// A client that sends many statements at once never lets the server rest. The limit is for each
// of them.
func TestManyStatementsAtOnceMayTakeLonger(t *testing.T) {
	const n = 20 // for 4 s together
	inEachWay(t, map[string]string{"query_timeout": "3s"}, func(t *testing.T, _ *pgtest.Cluster, p *pool.Pool) {
		simple, extended := p.Connect(), p.Connect()
		say(t, simple, sleep) // so that the worker has looked before the others are through
		var queries, batches []pgproto3.FrontendMessage
		for range n {
			queries = append(queries, &pgproto3.Query{String: "SELECT pg_sleep(0.2)"})
			batches = append(batches, pool.ParseMsg("", "SELECT pg_sleep(0.2)"), pool.BindMsg(""), &pgproto3.Execute{}, &pgproto3.Sync{})
		}
		pool.Send(t, extended, batches...)
		other := p.Connect()
		pool.Send(t, other, queries...)
		for _, cl := range []*pgtest.Client{extended, other} {
			for i := range n {
				if told := pool.Told(t, cl, "ready"); strings.Contains(told, "error") || strings.Contains(told, "Notice") {
					t.Fatalf("statement %d of %d: %s", i+1, n, told)
				}
			}
		}
		if told := pool.Told(t, simple, "ready"); !strings.Contains(told, "error:57014") {
			t.Errorf("the statement that took too long: %s", told)
		}
	})
}

// A server that waits for the data of a COPY notices no cancel request.
func TestStatementThatCannotBeCancelledEndsTheSession(t *testing.T) {
	inEachWay(t, map[string]string{"query_timeout": "3s"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		pool.AskNode(t, c.Primary(), fmt.Sprintf("CREATE TABLE copied%d (i int)", p.Port))
		cl := p.Connect()
		pool.MustQuery(t, cl, "BEGIN")
		pid := pool.BackendPID(t, cl)
		say(t, cl, fmt.Sprintf("COPY copied%d FROM STDIN", p.Port))
		if told, want := pool.Told(t, cl, "NoticeResponse"), "CopyInResponse NoticeResponse"; told != want {
			t.Errorf("the client was told %q, want %q", told, want)
		}
		wantEnd(t, cl, "57014")
		closed(t, c, pid)
		p.Connect().Close()
	})
}

// The transaction is rolled back, and the backend serves the next client.
func TestClientThatIsIdleInATransactionIsDisconnected(t *testing.T) {
	inEachWay(t, map[string]string{"idle_in_transaction_timeout": "3s", "max_connections": "5"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		pool.AskNode(t, c.Primary(), fmt.Sprintf("CREATE TABLE written%d (i int)", p.Port))
		outside, runs := p.Connect(), p.Connect()
		pool.MustQuery(t, outside, "SELECT 1")
		pool.MustQuery(t, runs, "BEGIN")
		say(t, runs, "SELECT pg_sleep(8)")
		pids := map[string]bool{}
		var idle []*pgtest.Client
		for _, last := range []string{fmt.Sprintf("INSERT INTO written%d VALUES (1)", p.Port), "SELECT 1/0"} {
			cl := p.Connect()
			pool.MustQuery(t, cl, "BEGIN")
			pids[pool.BackendPID(t, cl)] = true
			_, _ = pool.Query(cl, last)
			idle = append(idle, cl)
		}
		for _, cl := range idle {
			wantEnd(t, cl, "25P03")
		}
		p.WaitLog("idle_in_transaction_timeout")
		if got := pool.AskNode(t, c.Primary(), fmt.Sprintf("SELECT count(*) FROM written%d", p.Port)); got != "0" {
			t.Errorf("%s rows of a transaction that has ended so", got)
		}
		if told := pool.Told(t, runs, "ready"); strings.Contains(told, "error") {
			t.Errorf("a statement in a transaction: %s", told)
		}
		pool.MustQuery(t, outside, "SELECT 1")
		next := p.Connect()
		if got := pool.BackendPID(t, next); !pids[got] {
			t.Errorf("the next client has backend %s, not one of %v", got, pids)
		}
	})
}

func TestIdleClientIsDisconnected(t *testing.T) {
	inEachWay(t, map[string]string{"disconnect_client": "4"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		in, runs, idle := p.Connect(), p.Connect(), p.Connect()
		pool.MustQuery(t, in, "BEGIN")
		say(t, runs, "SELECT 'end' FROM pg_sleep(7)")
		pool.MustQuery(t, idle, "SELECT 1")
		wantEnd(t, idle, "57P05")
		p.WaitLog("disconnect_client")
		if pool.MustQuery(t, in, "SELECT 1"); in.Status != 'T' {
			t.Errorf("status %q in a transaction", in.Status)
		}
		if told := pool.Told(t, runs, "ready"); !strings.Contains(told, "row:end") {
			t.Errorf("a statement that ran: %s", told)
		}
	})
}

func TestClientIsDisconnectedByForce(t *testing.T) {
	inEachWay(t, map[string]string{"disconnect_client": "4", "disconnect_client_force": "on"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		in, runs := p.Connect(), p.Connect()
		pool.MustQuery(t, in, "BEGIN")
		say(t, runs, fmt.Sprintf("SELECT pg_sleep(600) /* %s */", p.Dir))
		wantEnd(t, in, "57P01")
		wantEnd(t, runs, "57P01")
		pool.WaitNode(t, c.Primary(), fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%600) /* %s%%' AND pid <> pg_backend_pid()", p.Dir), "0")
	})
}
