package failover

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestSessionsAreToldWhatBecameOfTheirWork(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "session", "failover_keep_sessions": "off"}})
	s.Opened("n1")
	idle, block, failed, running, waiting := s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, idle, "CREATE TABLE t(i int)")
	pool.MustQuery(t, block, "BEGIN")
	pool.MustQuery(t, block, "INSERT INTO t VALUES (1)")
	pool.MustQuery(t, failed, "BEGIN")
	if _, err := pool.Query(failed, "SELECT 1/0"); err == nil {
		t.Fatal("a division by zero succeeded")
	}
	pool.Must(t, running.Send(pool.Within(t), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	pool.MustQuery(t, waiting, "BEGIN")
	pool.MustQuery(t, waiting, "INSERT INTO t VALUES (2)")
	// A commit that waits for a standby which never comes.
	pool.Must(t, c.Nodes[0].Set(pool.Within(t), "synchronous_standby_names", "nobody"))
	pool.Must(t, waiting.Send(pool.Within(t), &pgproto3.Query{String: "COMMIT"}))
	pgtest.WaitUntil(t, pool.Generous, "both statements to be under way", func() bool {
		out, err := c.Nodes[0].Query(pool.Within(t), "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('SyncRep', 'PgSleep')")
		return err == nil && out == "2"
	})
	pool.Must(t, c.Nodes[0].Kill())
	for _, tt := range []struct {
		name   string
		client *pgtest.Client
		code   string
	}{
		{"idle", idle, "57P01"},
		{"in a transaction", block, "57P01"},
		{"in a failed transaction", failed, "57P01"},
		{"with a statement under way", running, "08007"},
		{"with a COMMIT under way", waiting, "08007"},
	} {
		_, err := tt.client.ReadResult(pool.Within(t))
		if pgtest.Code(err) != tt.code || !strings.Contains(err.Error(), "FATAL") {
			t.Errorf("a session %s got %v, want FATAL %s", tt.name, err, tt.code)
		}
		if _, err := tt.client.ReadResult(pool.Within(t)); err == nil || pgtest.Code(err) != "" {
			t.Errorf("a session %s got %v after that, want its end", tt.name, err)
		}
	}
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestLoginsWaitForTheFailoverAndAreServedByTheNewPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, nil)
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	s.WaitStatus("Phase", "running")
	var waiting []<-chan pool.Login
	for range 5 {
		waiting = append(waiting, s.LogIn())
	}
	s.Pool.WaitState("n1", "Failover")
	pool.Says(t, s.Status(), "Run", "failover")
	pool.Says(t, s.Status(), "Held", "true")
	for _, l := range waiting {
		if len(l) > 0 {
			t.Fatal("a login ended before the failover did")
		}
	}
	open()
	for _, l := range waiting {
		if got := pool.NodeOf(t, s.Served(l)); got != "n2" {
			t.Errorf("a held client is on %s, want n2", got)
		}
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestAHeldLoginIsRefusedAfterTheShorterOfItsTwoLimits(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]map[string]string{
		"failover_client_wait": {"failover_client_wait": "1s"},
		"blocking_timeout":     {"blocking_timeout": "1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			pl, open := pool.GatedPlan(t, c, keys)
			s := pool.Play(t, c, pl)
			s.Opened("n1")
			s.Pool.Connect()
			pool.Must(t, c.Nodes[0].Kill())
			s.Failover.WaitRuns(1)
			start := time.Now()
			s.Refused(s.LogIn(), "57P03")
			if d := time.Since(start); d < 900*time.Millisecond || d > 20*time.Second { // the longer limit is 30 s
				t.Errorf("the login was held for %v, want 1 s", d)
			}
			open()
			s.Opened("n2")
			pool.MustQuery(t, s.Pool.Connect(), "SELECT 1")
			s.Notify.WaitRuns(1)
			s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
		})
	}
}

// writer inserts numbers, each in a transaction of its own, and keeps those that
// were acknowledged. It connects anew when its session ends.
type writer struct {
	mu    sync.Mutex
	acked []string
}

func (w *writer) run(s *pool.Scene, id int, stop <-chan struct{}) {
	var client *pgtest.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if client == nil {
			if client, _ = s.Pool.Try(s.Pool.Config("postgres", "", "postgres")); client == nil {
				continue
			}
		}
		row := fmt.Sprintf("%d-%d", id, i)
		if _, err := pool.Query(client, "INSERT INTO t VALUES ('"+row+"')"); err != nil {
			client.Close()
			client = nil
			continue
		}
		w.mu.Lock()
		w.acked = append(w.acked, row)
		w.mu.Unlock()
	}
}

func (w *writer) rows() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.acked...)
}

func TestNoAcknowledgedRowIsLostWithSynchronousReplication(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, SyncStandbys: "ANY 1 (n2, n3)"})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(v text)")
	var w writer
	var all sync.WaitGroup
	stop := make(chan struct{})
	for id := range 4 {
		all.Go(func() { w.run(s, id, stop) })
	}
	defer all.Wait()
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }) }
	defer end()
	pgtest.WaitUntil(t, pool.Generous, "200 rows", func() bool { return len(w.rows()) >= 200 })
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	before := len(w.rows())
	pgtest.WaitUntil(t, pool.Generous, "rows on the new primary", func() bool { return len(w.rows()) >= before+50 }, s.Pool.Log)
	end()
	all.Wait()
	there := map[string]bool{}
	for _, row := range pool.MustQuery(t, s.Pool.Connect(), "SELECT v FROM t") {
		there[row[0]] = true
	}
	lost := 0
	for _, row := range w.rows() {
		if !there[row] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged rows are lost", lost, len(w.rows()))
	}
	s.Notify.WaitRuns(1)
	if n, m := len(s.Failover.Runs()), len(s.Notify.Runs()); n != 1 || m != 1 {
		t.Errorf("%d failover runs and %d notify runs, want one each", n, m)
	}
}

func TestWhatIsQueuedForADeadPrimaryNeverReachesIt(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := pool.Play(t, c, pool.Plan{Keys: silence(nil)})
	s.Opened("n1")
	n1 := c.Nodes[0]
	client := s.Pool.Connect()
	pool.MustQuery(t, client, "CREATE TABLE t(i int)")
	pool.MustQuery(t, client, "BEGIN")
	pool.MustQuery(t, client, "INSERT INTO t VALUES (1)")
	pid := pool.MustQuery(t, client, "SELECT pg_backend_pid()")[0][0]
	pool.Must(t, n1.Pause())
	// More than the frozen server's kernel takes, so that the COMMIT is still
	// on our side when the failover begins.
	padding := "SELECT 1 -- " + strings.Repeat("x", 2<<20)
	pool.Must(t, client.Send(pool.Within(t), &pgproto3.Query{String: padding}, &pgproto3.Query{String: "COMMIT"}))
	_, err := client.ReadResult(pool.Within(t))
	if pgtest.Code(err) != "08007" {
		t.Errorf("the client got %v, want 08007", err)
	}
	s.Opened("n2")
	pool.Must(t, n1.Resume())
	pgtest.WaitUntil(t, pool.Generous, "the end of the session on the old primary", func() bool {
		out, err := n1.Query(pool.Within(t), "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid)
		return err == nil && out == "0"
	})
	out, err := n1.Query(pool.Within(t), "SELECT count(*) FROM t")
	pool.Must(t, err)
	if out != "0" {
		t.Errorf("the old primary has %s rows, want none", out)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, c.Nodes[1]), pool.OneRun(n1, c.Nodes[1]))
}
