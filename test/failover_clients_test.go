package test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// gated is the body of a script that waits for a file before it goes on; a test
// that has failed never makes it, and the script must end all the same.
func gated(file, body string) string {
	return fmt.Sprintf("for i in $(seq 500); do [ -e %[1]s ] && break; sleep 0.05; done\n[ -e %[1]s ] || exit 1\n%[2]s", file, body)
}

// gatedPlan returns a plan whose failover script waits until open is called.
func gatedPlan(t *testing.T, c *pgtest.Cluster, keys map[string]string) (pl plan, open func()) {
	t.Helper()
	dir := privateDir(t)
	file := dir + "/go"
	return plan{keys: keys, script: gated(file, promote(c))}, func() { must(t, os.WriteFile(file, nil, 0o644)) }
}

func TestSessionsAreToldWhatBecameOfTheirWork(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"pipeline": "session"}})
	s.opened("n1")
	idle, block, failed, running, waiting := s.p.Connect(), s.p.Connect(), s.p.Connect(), s.p.Connect(), s.p.Connect()
	mustQuery(t, idle, "CREATE TABLE t(i int)")
	mustQuery(t, block, "BEGIN")
	mustQuery(t, block, "INSERT INTO t VALUES (1)")
	mustQuery(t, failed, "BEGIN")
	if _, err := query(failed, "SELECT 1/0"); err == nil {
		t.Fatal("a division by zero succeeded")
	}
	must(t, running.Send(within(t), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	mustQuery(t, waiting, "BEGIN")
	mustQuery(t, waiting, "INSERT INTO t VALUES (2)")
	// A commit that waits for a standby which never comes.
	must(t, c.Nodes[0].Set(within(t), "synchronous_standby_names", "nobody"))
	must(t, waiting.Send(within(t), &pgproto3.Query{String: "COMMIT"}))
	pgtest.WaitUntil(t, generous, "both statements to be under way", func() bool {
		out, err := c.Nodes[0].Query(within(t), "SELECT count(*) FROM pg_stat_activity WHERE wait_event IN ('SyncRep', 'PgSleep')")
		return err == nil && out == "2"
	})
	must(t, c.Nodes[0].Kill())
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
		_, err := tt.client.ReadResult(within(t))
		if pgtest.Code(err) != tt.code || !strings.Contains(err.Error(), "FATAL") {
			t.Errorf("a session %s got %v, want FATAL %s", tt.name, err, tt.code)
		}
		if _, err := tt.client.ReadResult(within(t)); err == nil || pgtest.Code(err) != "" {
			t.Errorf("a session %s got %v after that, want its end", tt.name, err)
		}
	}
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestLoginsWaitForTheFailoverAndAreServedByTheNewPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := gatedPlan(t, c, nil)
	s := play(t, c, pl)
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	s.waitStatus("Phase", "running")
	var waiting []<-chan login
	for range 5 {
		waiting = append(waiting, s.logIn())
	}
	s.p.WaitState("n1", "Failover")
	says(t, s.status(), "Run", "failover")
	says(t, s.status(), "Held", "true")
	for _, l := range waiting {
		if len(l) > 0 {
			t.Fatal("a login ended before the failover did")
		}
	}
	open()
	for _, l := range waiting {
		if got := at(t, s.served(l)); got != "n2" {
			t.Errorf("a held client is on %s, want n2", got)
		}
	}
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
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
			pl, open := gatedPlan(t, c, keys)
			s := play(t, c, pl)
			s.opened("n1")
			s.p.Connect()
			must(t, c.Nodes[0].Kill())
			s.failover.WaitRuns(1)
			start := time.Now()
			s.refused(s.logIn(), "57P03")
			if d := time.Since(start); d < 900*time.Millisecond || d > 8*time.Second {
				t.Errorf("the login was held for %v, want 1 s", d)
			}
			open()
			s.opened("n2")
			mustQuery(t, s.p.Connect(), "SELECT 1")
			s.notify.WaitRuns(1)
			s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
		})
	}
}

// writer inserts numbers, each in a transaction of its own, and keeps those that
// were acknowledged. It connects anew when its session ends.
type writer struct {
	mu    sync.Mutex
	acked []string
}

func (w *writer) run(s *scene, id int, stop <-chan struct{}) {
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
			if client, _ = s.p.try(s.p.Config("postgres", "", "postgres")); client == nil {
				continue
			}
		}
		row := fmt.Sprintf("%d-%d", id, i)
		if _, err := query(client, "INSERT INTO t VALUES ('"+row+"')"); err != nil {
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
	s := play(t, c, plan{})
	s.opened("n1")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(v text)")
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
	pgtest.WaitUntil(t, generous, "200 rows", func() bool { return len(w.rows()) >= 200 })
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	before := len(w.rows())
	pgtest.WaitUntil(t, generous, "rows on the new primary", func() bool { return len(w.rows()) >= before+50 }, s.p.Log)
	end()
	all.Wait()
	there := map[string]bool{}
	for _, row := range mustQuery(t, s.p.Connect(), "SELECT v FROM t") {
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
	s.notify.WaitRuns(1)
	if n, m := len(s.failover.Runs()), len(s.notify.Runs()); n != 1 || m != 1 {
		t.Errorf("%d failover runs and %d notify runs, want one each", n, m)
	}
}

func TestWhatIsQueuedForADeadPrimaryNeverReachesIt(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := play(t, c, plan{keys: silence(nil)})
	s.opened("n1")
	n1 := c.Nodes[0]
	client := s.p.Connect()
	mustQuery(t, client, "CREATE TABLE t(i int)")
	mustQuery(t, client, "BEGIN")
	mustQuery(t, client, "INSERT INTO t VALUES (1)")
	pid := mustQuery(t, client, "SELECT pg_backend_pid()")[0][0]
	must(t, n1.Pause())
	// More than the frozen server's kernel takes, so that the COMMIT is still
	// on our side when the failover begins.
	padding := "SELECT 1 -- " + strings.Repeat("x", 2<<20)
	must(t, client.Send(within(t), &pgproto3.Query{String: padding}, &pgproto3.Query{String: "COMMIT"}))
	_, err := client.ReadResult(within(t))
	if pgtest.Code(err) != "08007" {
		t.Errorf("the client got %v, want 08007", err)
	}
	s.opened("n2")
	must(t, n1.Resume())
	pgtest.WaitUntil(t, generous, "the end of the session on the old primary", func() bool {
		out, err := n1.Query(within(t), "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid)
		return err == nil && out == "0"
	})
	out, err := n1.Query(within(t), "SELECT count(*) FROM t")
	must(t, err)
	if out != "0" {
		t.Errorf("the old primary has %s rows, want none", out)
	}
	s.notify.WaitRuns(1)
	s.ran(one(n1, c.Nodes[1]), one(n1, c.Nodes[1]))
}
