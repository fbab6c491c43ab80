package timers

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// validated is a pattern of the query that tests an idle backend.
const validated = "%pgagroal validates%"

// idleFor waits until a backend has been idle for a while.
func idleFor(t *testing.T, c *pgtest.Cluster, pid, interval string) {
	t.Helper()
	pool.WaitNode(t, c.Primary(), fmt.Sprintf("SELECT state = 'idle' AND clock_timestamp() - state_change > '%s' FROM pg_stat_activity WHERE pid = %s", interval, pid), "t")
}

// freeze stops a backend's process until the end of the test: it takes every byte and answers none.
func freeze(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	pool.Must(t, err)
	pool.Must(t, syscall.Kill(n, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(n, syscall.SIGCONT) })
}

// leaveIdle makes n backends that are idle on the shelf and returns their process ids.
func leaveIdle(t *testing.T, p *pool.Pool, n int) []string {
	t.Helper()
	var clients []*pgtest.Client
	var pids []string
	for range n {
		cl := p.Connect()
		pool.MustQuery(t, cl, "BEGIN")
		pids = append(pids, pool.BackendPID(t, cl))
		clients = append(clients, cl)
	}
	for _, cl := range clients {
		pool.MustQuery(t, cl, "COMMIT")
		cl.Close()
	}
	return pids
}

// The client gets another backend, and waits only once although all idle ones hang.
func TestBackendThatHangsIsFoundBeforeAClientGetsIt(t *testing.T) {
	inEachWay(t, map[string]string{"validation": "foreground", "max_connections": "5"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		pids := leaveIdle(t, p, 3)
		for _, pid := range pids {
			idleFor(t, c, pid, "1.1 s")
			freeze(t, pid)
		}
		next := p.Connect()
		got := pool.BackendPID(t, next)
		for _, pid := range pids {
			if got == pid {
				t.Errorf("the client got backend %s, which hangs", pid)
			}
		}
		p.WaitLog("the server didn't answer in time")
		if n := strings.Count(p.Log(), "the server didn't answer in time"); n != 1 {
			t.Errorf("%d backends were found one by one, want 1 and the others with it", n)
		}
	})
}

func TestBackendThatAnswersIsKeptByValidation(t *testing.T) {
	inEachWay(t, map[string]string{"validation": "foreground", "max_connections": "1"}, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		holder := p.Connect()
		pid := pool.BackendPID(t, holder)
		holder.Close()
		idleFor(t, c, pid, "1.1 s")
		next := p.Connect()
		pool.MustQuery(t, next, "BEGIN") // in the transaction pipeline the login needs no backend
		if got := pool.BackendPID(t, next); got != pid {
			t.Errorf("backend %s instead of %s, which answers", got, pid)
		}
	})
}

// Without an error of its own the test leaves no trace but in the server's views.
func TestBackendIsTestedBeforeTheLoginIsOver(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"validation": "foreground", "pipeline": "session"})
	holder := p.Connect()
	pid := pool.BackendPID(t, holder)
	last := "SELECT query LIKE '" + validated + "' FROM pg_stat_activity WHERE pid = " + pid
	pgtest.WaitUntil(t, pool.Generous, "a login less than a second after the last use of the backend", func() bool {
		used := time.Now()
		if got := pool.BackendPID(t, holder); got != pid {
			t.Fatalf("the only backend is %s, and was %s", got, pid)
		}
		holder.Close()
		holder = p.Connect()
		if time.Since(used) >= time.Second {
			return false // a busy machine; such a backend may be tested
		}
		if pool.AskNode(t, c.Primary(), last) != "f" {
			t.Error("a backend that was used just now was tested")
		}
		return true
	})
	holder.Close()
	idleFor(t, c, pid, "1.1 s")
	next := p.Connect()
	if pool.AskNode(t, c.Primary(), last) != "t" {
		t.Error("the login is over, and its backend wasn't tested")
	}
	next.Close()
}

func TestIdleBackendsAreTestedInTheBackground(t *testing.T) {
	keys := map[string]string{"validation": "background", "background_interval": "5s", "max_connections": "5"}
	inEachWay(t, keys, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
		pids := leaveIdle(t, p, 2)
		good, bad := pids[0], pids[1]
		pool.WaitNode(t, c.Primary(), "SELECT query LIKE '"+validated+"' FROM pg_stat_activity WHERE pid = "+good, "t")
		freeze(t, bad)
		p.WaitLog("idle connection is broken")
		if got := pool.BackendPID(t, p.Connect()); got == bad {
			t.Errorf("the client got backend %s, which hangs", bad)
		}
	})
}

// idle_timeout and max_connection_age close idle backends, also while validation uses them.
func TestIdleAndOldBackendsAreClosed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for name, keys := range map[string]map[string]string{
		"idle_timeout":       {"idle_timeout": "1s"},
		"max_connection_age": {"max_connection_age": "1s"},
		"with validation":    {"idle_timeout": "12s", "validation": "background", "background_interval": "5s"},
	} {
		t.Run(name, func(t *testing.T) {
			all := maps.Clone(keys)
			all["max_connections"] = "5"
			inEachWayOn(t, c, all, func(t *testing.T, c *pgtest.Cluster, p *pool.Pool) {
				for _, pid := range leaveIdle(t, p, 2) {
					closed(t, c, pid)
				}
			})
		})
	}
}
