package backends

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// twoWorkers starts two workers with the transaction pipeline that share so many
// backends, and connects a client to each.
func twoWorkers(t *testing.T, c *pgtest.Cluster, backends string, keys map[string]string) (*pool.Pool, []*pgtest.Client) {
	t.Helper()
	all := map[string]string{"max_connections": backends, "pipeline": "transaction", "orphan_grace": "500ms"}
	for k, v := range keys {
		all[k] = v
	}
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: all})
	p.WaitLog("worker is ready worker=0")
	p.WaitLog("worker is ready worker=1")
	clients := []*pgtest.Client{p.Connect(), p.Connect()}
	var workers []int
	for _, cl := range clients { // status shows the clients that have had a backend
		pool.MustQuery(t, cl, "BEGIN")
		workers = append(workers, p.WorkerOf(cl))
		pool.MustQuery(t, cl, "COMMIT")
	}
	if workers[0] == workers[1] {
		t.Fatal("both clients are on one worker")
	}
	return p, clients
}

func TestBackendMovesToTheWorkerWhoseClientNeedsIt(t *testing.T) {
	t.Parallel()
	for _, loop := range []string{"epoll", "io_uring"} {
		t.Run(loop, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			_, clients := twoWorkers(t, c, "1", map[string]string{"ev_backend": loop})
			pid := pool.BackendPID(t, clients[0])
			for i := range 10 {
				if got := pool.BackendPID(t, clients[(i+1)%2]); got != pid {
					t.Fatalf("turn %d has backend %s instead of %s", i, got, pid)
				}
			}
		})
	}
}

// On a backend from the other worker a prepared statement is there, a parameter follows
// its client, and the other client's state is gone.
func TestStateMovesWithABackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	_, clients := twoWorkers(t, c, "1", nil)
	a, b := clients[0], clients[1]
	pid := pool.BackendPID(t, a)
	const sql = "SELECT count(*), current_setting('TimeZone') FROM pg_prepared_statements WHERE name LIKE 'pgagroal%'"
	for i, cl := range []*pgtest.Client{a, b, a, b} {
		if i < 2 {
			if err := cl.Prepare(t.Context(), "mine", sql); err != nil {
				t.Fatal(err)
			}
		}
		res, err := cl.ExecPrepared(t.Context(), "mine")
		if err != nil {
			t.Fatal(err)
		}
		// The second client's Parse has made a second statement, which turned out to be
		// the same.
		if n := res.Rows[0][0]; n != "1" && (i == 0 || n != "2") {
			t.Errorf("turn %d: %s statements on the backend, one is needed, and one may wait to be closed", i, n)
		}
	}
	pool.MustQuery(t, a, "SET TimeZone TO 'Asia/Tokyo'")
	pool.MustQuery(t, a, "SET work_mem TO '7MB'")
	if got := pool.MustQuery(t, a, "SHOW work_mem")[0][0]; got != "7MB" {
		t.Errorf("its own client finds work_mem %s", got)
	}
	if got := pool.MustQuery(t, b, "SHOW work_mem")[0][0]; got != "4MB" {
		t.Errorf("the other client finds work_mem %s", got)
	}
	if got := pool.MustQuery(t, b, "SHOW TimeZone")[0][0]; got == "Asia/Tokyo" {
		t.Error("the other client finds a time zone that it didn't ask for")
	}
	if got := pool.MustQuery(t, a, "SHOW TimeZone")[0][0]; got != "Asia/Tokyo" {
		t.Errorf("its own client finds the time zone %s", got)
	}
	if got := pool.BackendPID(t, b); got != pid {
		t.Error("the backend was replaced: the test tests nothing")
	}
}

func TestIdleBackendMovesInTheSessionPipelineToo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "1"}})
	workers := map[int]bool{}
	pid, left := "", 0
	for turn := range 4 {
		var busy net.Conn // this connection makes the other worker the one with fewer clients
		if turn%2 == 1 {
			busy = p.DialRaw()
		}
		cl := p.Connect()
		if got := pool.BackendPID(t, cl); pid != "" && got != pid {
			t.Errorf("backend %s instead of %s", got, pid)
		} else {
			pid = got
		}
		workers[p.WorkerOf(cl)] = true
		cl.Close()
		left++
		if busy != nil {
			busy.Close()
			left++
		}
		waitLeft(p, left)
	}
	if len(workers) != 2 {
		t.Error("all clients were on one worker")
	}
}

// waitLeft waits until the supervisor knows that n clients have left in all.
func waitLeft(p *pool.Pool, n int) {
	p.T.Helper()
	pgtest.WaitUntil(p.T, pool.Generous, fmt.Sprintf("%d clients to leave", n), func() bool {
		return strings.Count(p.Log(), "disconnection client=") == n
	}, p.Log)
	p.JSON("status") // workers report clients that have left before they answer
}

// Workers die while backends move back and forth between them: no place is lost, and
// none exists twice.
func TestLimitHoldsWhenWorkersDieDuringHandOvers(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: map[string]string{
		"max_connections": "2", "pipeline": "transaction", "orphan_grace": "30s", // longer than a server needs to end a connection
	}})
	w := watchCount(t, c.Primary(), pool.CountPooled)
	var over atomic.Bool
	var served atomic.Int64
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for !over.Load() {
				cl, err := p.Try(p.Config("postgres", "", "postgres"))
				for err == nil && !over.Load() {
					if _, err = pool.Query(cl, "SELECT 1"); err == nil {
						served.Add(1)
					}
				}
				if cl != nil {
					cl.Close()
				}
			}
		})
	}
	for range 4 {
		before := served.Load()
		pgtest.WaitUntil(t, pool.Generous, "clients to be served", func() bool { return served.Load() > before+200 }, p.Log)
		workers := p.Workers()
		if err := syscall.Kill(workers[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pgtest.WaitUntil(t, pool.Generous, "a new worker", func() bool {
			now := p.Workers()
			return len(now) == 2 && now[0] != workers[0] && now[1] != workers[0]
		}, p.Log)
	}
	before := served.Load()
	pgtest.WaitUntil(t, pool.Generous, "clients to be served", func() bool {
		return served.Load() > before+200 && w.looks.Load() >= enoughLooks
	}, p.Log)
	over.Store(true)
	clients.Wait()
	w.stop()
	if most, looks := w.most.Load(), w.looks.Load(); most > 2 {
		t.Errorf("the server has shown %d connections of the pool, in %d looks; 2 are allowed", most, looks)
	}
	// Both places still exist.
	a, b := p.Connect(), p.Connect()
	pool.MustQuery(t, a, "BEGIN")
	pool.MustQuery(t, b, "BEGIN")
	if n := pool.AskNode(t, c.Primary(), pool.CountPooled); n != "2" {
		t.Errorf("%s connections of the pool", n)
	}
}
