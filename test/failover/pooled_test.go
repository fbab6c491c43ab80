package failover

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// refusedWith runs a query that must fail with a code and an error that leaves
// the connection open.
func refusedWith(t *testing.T, c *pgtest.Client, sql, code string) {
	t.Helper()
	_, err := pool.Query(c, sql)
	if pgtest.Code(err) != code || strings.Contains(err.Error(), "FATAL") {
		t.Errorf("%q got %v, want ERROR %s", sql, err, code)
	}
}

// tagOf runs a statement and returns its tag.
func tagOf(t *testing.T, c *pgtest.Client, sql string) string {
	t.Helper()
	res, err := c.Query(pool.Within(t), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(res.Tags, " ")
}

func TestClientsOfTheTransactionPipelineStayThroughAFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "transaction"}})
	s.Opened("n1")
	idle, block, failed, running, waiting := s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect()
	batch, rollback := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, idle, "CREATE TABLE t(i int)")
	pool.PrepareStatement(t, idle, "kept", "SELECT 7")
	for i, client := range []*pgtest.Client{block, failed, waiting, batch, rollback} {
		pool.MustQuery(t, client, "BEGIN")
		pool.MustQuery(t, client, "INSERT INTO t VALUES ("+string(rune('1'+i))+")")
	}
	if _, err := pool.Query(failed, "SELECT 1/0"); err == nil {
		t.Fatal("a division by zero succeeded")
	}
	pool.Must(t, running.Send(pool.Within(t), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	pool.Must(t, c.Nodes[0].Set(pool.Within(t), "synchronous_standby_names", "nobody"))
	pool.Must(t, waiting.Send(pool.Within(t), &pgproto3.Query{String: "COMMIT"}))
	pool.Must(t, batch.Send(pool.Within(t), &pgproto3.Parse{Query: "SELECT pg_sleep(600)"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{}))
	pgtest.WaitUntil(t, pool.Generous, "the statements to be under way", func() bool {
		out, err := c.Nodes[0].Query(pool.Within(t), "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('SyncRep', 'PgSleep')")
		return err == nil && out == "3"
	})
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Nodes[0])) // at least the tables
	pool.Must(t, c.Nodes[0].Kill())

	for name, client := range map[string]*pgtest.Client{"statement": running, "COMMIT": waiting} {
		if _, err := client.ReadResult(pool.Within(t)); pgtest.Code(err) != "08007" || strings.Contains(err.Error(), "FATAL") {
			t.Errorf("a client with a %s under way got %v, want ERROR 08007", name, err)
		}
	}
	if got := pool.Told(t, batch, "error:08006"); !strings.Contains(got, "error:08006") {
		t.Errorf("a client with a batch under way was told %s", got)
	}
	pool.Send(t, batch, &pgproto3.Sync{})
	if got := pool.Told(t, batch, "ready:E"); got != "ready:E" {
		t.Errorf("after its Sync it was told %s", got)
	}
	refusedWith(t, block, "INSERT INTO t VALUES (8)", "08006")
	s.Opened("n2")
	if got := pool.RunPrepared(t, idle, "kept"); got != "7" {
		t.Errorf("the prepared statement returned %s", got)
	}
	for name, client := range map[string]*pgtest.Client{"block": block, "failed": failed, "batch": batch} {
		refusedWith(t, client, "INSERT INTO t VALUES (9)", "25P02")
		if got := tagOf(t, client, "COMMIT"); got != "ROLLBACK" {
			t.Errorf("COMMIT of the %s block answered %s", name, got)
		}
	}
	if got := tagOf(t, rollback, "ROLLBACK"); got != "ROLLBACK" {
		t.Errorf("ROLLBACK of a lost block answered %s", got)
	}
	for _, client := range []*pgtest.Client{idle, block, failed, running, waiting, batch, rollback} {
		if got := pool.NodeOf(t, client); got != "n2" {
			t.Errorf("a client is on %s", got)
		}
	}
	if n := pool.MustQuery(t, idle, "SELECT count(*) FROM t WHERE i <> 3")[0][0]; n != "0" {
		t.Errorf("%s rows of lost blocks are there", n)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestAPooledClientThatGetsNoPrimaryInTimeStays(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, map[string]string{"pipeline": "transaction", "failover_client_wait": "300ms"})
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	client, other := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, client, "CREATE TABLE t(i int)")
	pool.MustQuery(t, other, "BEGIN")
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	s.WaitStatus("Phase", "running")
	refusedWith(t, client, "INSERT INTO t VALUES (1)", "57P03")
	pool.Send(t, client, &pgproto3.Query{String: "BEGIN"})
	if got := pool.Told(t, client, "ready:I"); got != "error:57P03 ready:I" {
		t.Errorf("a BEGIN got %s", got)
	}
	pool.Send(t, client, &pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Query{String: "SELECT 2"})
	if got, want := pool.Told(t, client, "ready:I")+" "+pool.Told(t, client, "ready:I"), "error:57P03 ready:I error:57P03 ready:I"; got != want {
		t.Errorf("two batches got %s, want %s", got, want)
	}
	refusedWith(t, other, "SELECT 1", "08006")
	refusedWith(t, other, "SELECT 1", "57P03")
	open()
	s.Opened("n2")
	for _, cl := range []*pgtest.Client{client, other} {
		if _, err := pool.Query(cl, "ROLLBACK"); err != nil {
			t.Error(err)
		}
		if got := pool.NodeOf(t, cl); got != "n2" {
			t.Errorf("a client is on %s", got)
		}
	}
	s.Notify.WaitRuns(1)
}

func TestATerminatedBackendCostsAPooledClientOneError(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 4, nil)
	client, other := p.Connect(), p.Connect()
	pool.MustQuery(t, client, "BEGIN")
	pid := pool.MustQuery(t, client, "SELECT pg_backend_pid()")[0][0]
	pool.MustQuery(t, other, "SELECT pg_terminate_backend("+pid+", 10000)")
	_, err := pool.Query(client, "SELECT 1")
	if pgtest.Code(err) != "08006" || !strings.Contains(err.Error(), "ERROR") {
		t.Errorf("got %v, want ERROR 08006", err)
	}
	refusedWith(t, client, "SELECT 1", "25P02")
	pool.MustQuery(t, client, "ROLLBACK")
	pool.MustQuery(t, client, "SELECT 1")
}

func TestABeginThatIsLostOpensNoBlock(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	client := pool.TxPool(t, c, 1, nil).Connect()
	pid, err := strconv.Atoi(pool.BackendPID(t, client))
	pool.Must(t, err)
	pool.Freeze(t, pid)
	pool.Must(t, client.Send(pool.Within(t), &pgproto3.Query{String: "BEGIN"}))
	pgtest.WaitUntil(t, pool.Generous, "the BEGIN to reach the backend", func() bool { return unread(t, c.Primary().Port) > 0 })
	if _, err := c.Primary().Query(pool.Within(t), fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid)); err != nil {
		t.Error(err)
	}
	pool.Must(t, syscall.Kill(pid, syscall.SIGCONT))
	if got := pool.Told(t, client, "ready:I"); got != "error:08006 ready:I" {
		t.Errorf("its client was told %s", got)
	}
	pool.MustQuery(t, client, "BEGIN") // without a ROLLBACK, as pgx and psycopg2 do it
	pool.MustQuery(t, client, "COMMIT")
}

// unread returns how many bytes wait to be read from connections to a port of
// this host.
func unread(t testing.TB, port int) (n int64) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	pool.Must(t, err)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl, local address, remote address, state, tx_queue:rx_queue
		if strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "01" {
			_, rx, _ := strings.Cut(f[4], ":")
			waiting, err := strconv.ParseInt(rx, 16, 64)
			pool.Must(t, err)
			n += waiting
		}
	}
	return n
}

func TestASessionThatHasAskedNothingMovesToTheNewPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "session", "failover_keep_sessions": "off"}})
	s.Opened("n1")
	pool.Must(t, c.Nodes[1].Set(pool.Within(t), "IntervalStyle", "sql_standard"))
	client := s.Pool.Connect()
	was := maps.Clone(client.Params)
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	if got := pool.NodeOf(t, client); got != "n2" {
		t.Errorf("the client is on %s", got)
	}
	// The client is told of parameters that differ on the new primary.
	was["IntervalStyle"] = "sql_standard"
	if d := cmp.Diff(was, client.Params); d != "" {
		t.Errorf("what the client was told (-want +got):\n%s", d)
	}
	// The client's cancel key works for the new primary, whichever worker gets the
	// cancel request.
	for range 4 {
		pool.Must(t, client.Send(pool.Within(t), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
		pgtest.WaitUntil(t, pool.Generous, "the query to be under way", func() bool {
			out, err := c.Nodes[1].Query(pool.Within(t), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
			return err == nil && out == "1"
		})
		pool.Must(t, client.Cancel(pool.Within(t)))
		if _, err := client.ReadResult(pool.Within(t)); pgtest.Code(err) != "57014" {
			t.Fatalf("cancelled query: %v", err)
		}
	}
	s.Notify.WaitRuns(1)
}

// Between two transactions a client of the transaction pipeline moves as well.
func TestAPooledClientIsToldWhatDiffersOnTheNewPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "transaction"}})
	s.Opened("n1")
	pool.Must(t, c.Nodes[1].Set(pool.Within(t), "default_transaction_read_only", "on"))
	client := s.Pool.Connect()
	if got := client.Params["default_transaction_read_only"]; got != "off" {
		t.Fatalf("at first: %q", got)
	}
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	if got := pool.NodeOf(t, client); got != "n2" {
		t.Errorf("the client is on %s", got)
	}
	if got := client.Params["default_transaction_read_only"]; got != "on" {
		t.Errorf("after the failover: %q", got)
	}
	s.Notify.WaitRuns(1)
}
