package process

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestDeadWorkerTakesNobodyWithItButItsOwnClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "2", "orphan_grace": "500ms"}})
	victim := 0
	var lost, kept *pgtest.Client
	for pid, cl := range pool.BothWorkers(t, p) {
		if victim == 0 {
			victim, lost = pid, cl
		} else {
			kept = cl
		}
	}
	if err := lost.Send(t.Context(), &pgproto3.Query{String: "SELECT pg_sleep(600)"}); err != nil {
		t.Fatal(err)
	}
	pool.WaitNode(t, c.Primary(), fmt.Sprintf("SELECT state FROM pg_stat_activity WHERE pid = %d", lost.PID), "active")
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.ReadResult(t.Context()); err == nil {
		t.Error("the client of the dead worker got an answer")
	}
	pool.MustQuery(t, kept, "SELECT 1")
	// The place of the lost backend comes back, and its query is ended on the server.
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid() AND state = 'active'", "0")
	pgtest.WaitUntil(t, pool.Generous, "a new worker", func() bool { return len(p.Workers()) == 2 }, p.Log)
	pool.MustQuery(t, kept, "SELECT 1")
}

// A client that connects while a worker dies, or while a worker hangs and is killed for
// that, is served by another worker.
func TestClientsThatADeadWorkerHasNotTakenAreServedByAnother(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	stuck := p.Workers()[0]
	pool.Freeze(t, stuck)
	const clients = 6 // three for each worker, as long as no client leaves
	type result struct {
		cl  *pgtest.Client
		err error
	}
	served := make(chan result, clients)
	for range clients {
		go func() {
			cl, err := p.Try(p.Config("postgres", "", "postgres"))
			served <- result{cl, err}
		}()
	}
	for i := range clients {
		if i == clients/2 {
			pool.Must(t, syscall.Kill(stuck, syscall.SIGKILL))
		}
		select {
		case r := <-served:
			if r.err != nil {
				t.Fatalf("%d are served, then %v", i, r.err)
			}
			t.Cleanup(func() { r.cl.Close() })
			pool.MustQuery(t, r.cl, "SELECT 1")
		case <-time.After(pool.Generous):
			t.Fatalf("%d of %d are served", i, clients)
		}
	}
	rescued := regexp.MustCompile(`worker ended .*rescued=[1-9]`)
	pgtest.WaitUntil(t, pool.Generous, "the worker to have had clients to take, or nothing was tested", func() bool {
		return rescued.MatchString(p.Log())
	}, p.Log)
}

func TestChildrenOfADeadSupervisorEndWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	p, _, _ := pool.StartFailover(t, c, nil)
	idle, busy := p.Connect(), p.Connect()
	pool.WaitSleeping(t, c.Primary(), busy)
	children := append(p.Workers(), p.Runner())
	if len(children) != 3 || children[2] == 0 {
		t.Fatalf("children %v", children)
	}
	p.Kill()
	died := time.Now()
	_, err := idle.ReadResult(t.Context())
	if code := pgtest.Code(err); code != "57P01" && code != "" {
		t.Errorf("the idle client gets %v", err)
	}
	if _, err := busy.ReadResult(t.Context()); err == nil || pgtest.Code(err) == "57014" {
		t.Errorf("the busy client gets %v", err)
	}
	for _, pid := range children {
		pgtest.WaitUntil(t, pool.Generous, fmt.Sprintf("the end of child %d", pid), func() bool { return gone(pid) })
	}
	if took := time.Since(died); took > 2*time.Second && !pool.RaceEnabled {
		t.Errorf("the children lived for %v", took)
	}
}

func TestSIGTERMAndSIGINTStopAtOnce(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
			idle, busy := p.Connect(), p.Connect()
			pool.WaitSleeping(t, c.Primary(), busy)
			workers := p.Workers()
			if err := syscall.Kill(p.PID(), sig); err != nil {
				t.Fatal(err)
			}
			_, err := idle.ReadResult(t.Context())
			pool.WantCode(t, err, "57P01", "terminating connection")
			if _, err := busy.ReadResult(t.Context()); err == nil {
				t.Error("the busy client got an answer")
			}
			if code := p.WaitEnd(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, pid := range workers {
				if !gone(pid) {
					t.Errorf("worker %d outlives the supervisor", pid)
				}
			}
			left, err := os.ReadDir(p.Path("run"))
			if err != nil || len(left) != 0 {
				t.Errorf("left in the directory of the sockets: %v %v", left, err)
			}
			pool.WaitNode(t, c.Primary(), pool.CountPooled, "0")
		})
	}
}

func TestSIGTRAPWaitsForTheClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	cl := p.Connect()
	if err := syscall.Kill(p.PID(), syscall.SIGTRAP); err != nil {
		t.Fatal(err)
	}
	p.WaitLog("shutting down when the last client has left")
	pgtest.WaitUntil(t, pool.Generous, "new clients to be refused", func() bool {
		other, err := p.Try(p.Config("postgres", "", "postgres"))
		if err == nil {
			other.Close()
		}
		return pgtest.Code(err) == "57P03"
	})
	pool.MustQuery(t, cl, "SELECT 1")
	cl.Close()
	left := time.Now()
	if code := p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(left); took > 1500*time.Millisecond && !pool.RaceEnabled {
		t.Errorf("it ended %v after the last client: a worker had to be killed", took)
	}
	for line := range strings.Lines(p.Log()) {
		line = strings.ReplaceAll(line, "workers_killed=0", "")                    // of the last line
		if strings.Contains(line, "killed") && !strings.Contains(line, "prober") { // the prober is killed at every shutdown
			t.Errorf("a worker had to be killed: %s", line)
		}
	}
}

func TestStalePIDFileIsNoObstacle(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c)})
	pool.WriteFile(t, p.Path(fmt.Sprintf("run/pgagroal.%d.pid", p.Port)), "1\n", 0o644)
	p.Run()
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	p.Kill()
	p.Restart()
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	p.WaitLog("stale pid file is replaced")
}

func TestSecondInstanceIsRefusedAndTheFirstServesOn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	out, err := p.Command("pgagroal", "-D", p.Dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "pgagroal") || !strings.Contains(string(out), "another") &&
		!strings.Contains(string(out), "running") && !strings.Contains(string(out), "in use") {
		t.Errorf("second instance: %v\n%s", err, out)
	}
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	pool.Succeed(t, p.PSQL(t.Context(), "SELECT 1"))
}

// The prober's end says nothing about a server: no server is suspected, and another
// prober takes over.
func TestDeadOrHangingProberIsReplacedAndAccusesNobody(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"failover_probe_timeout": "5s", "health_check": "on", "health_check_period": "1s"}})
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		old := s.Pool.Prober()
		if err := syscall.Kill(old, how); err != nil {
			t.Fatal(err)
		}
		pgtest.WaitUntil(t, pool.Generous, "another prober", func() bool {
			pid := s.Pool.Prober()
			return gone(old) && pid != 0 && pid != old
		}, s.Pool.Log)
		pool.MustQuery(t, s.Pool.Connect(), "SELECT 1")
	}
	if log := s.Pool.Log(); strings.Contains(log, "suspect") || strings.Contains(log, "refused") {
		t.Errorf("a server is accused:\n%s", log)
	}
	if n := len(s.Failover.Runs()); n > 0 {
		t.Errorf("%d scripts ran", n)
	}
}
