package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// idleClients need as many descriptors here, and in the workers together.
const idleClients = 5000

// raiseFiles sets the limit of open files of this process, and so of its children, to the
// maximum. The limit that Go sets by itself it resets in children.
func raiseFiles(t testing.TB) {
	t.Helper()
	var was syscall.Rlimit
	pool.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	pool.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: was.Max, Max: was.Max}))
}

// memory returns the memory of the pool's processes: private memory, and each one's part of what
// they share, in bytes.
func memory(t testing.TB, p *pool.Pool) (sum int64) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.PID()))
	pool.Must(t, err)
	for _, pid := range append(strings.Fields(string(children)), strconv.Itoa(p.PID())) {
		text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		pool.Must(t, err)
		_, rest, ok := strings.Cut(string(text), "\nPss:")
		value, _, _ := strings.Cut(rest, "kB")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if !ok || err != nil {
			t.Fatalf("memory of process %s: %v\n%s", pid, err, text)
		}
		sum += n << 10
	}
	return sum
}

// Upgrades with 5,000 idle clients: each is served afterwards, and nothing is left of the old workers, so
// memory is what it was.
func TestIdleClientsLiveThroughUpgrades(t *testing.T) {
	onlyAll(t)
	raiseFiles(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
		"pipeline": "transaction", "log_level": "info", "log_connections": "off", "log_disconnections": "off",
	}})
	installed(t, p)
	p.Run()
	clients := make([]*pgtest.Client, idleClients)
	for i := range clients {
		clients[i] = p.Connect()
	}
	serve := func() {
		t.Helper()
		for _, cl := range clients {
			pool.MustQuery(t, cl, "SELECT 1")
		}
	}
	serve()
	before := memory(t, p)
	for n := 1; n <= *upgrades; n++ {
		install(t, p, build(t, versions[n%2]))
		began := time.Now()
		order(t, p)
		upgraded(t, p, n)
		pgtest.WaitUntil(t, pool.Generous, "the old workers to end", func() bool { return len(p.Workers()) == 2 }, p.Log)
		took, after := time.Since(began), memory(t, p)
		serve()
		t.Logf("upgrade %d with %d idle clients took %v; memory was %.1f MiB, then %.1f, and %.1f after a query of each",
			n, idleClients, took.Round(time.Millisecond), float64(before)/(1<<20), float64(after)/(1<<20), float64(memory(t, p))/(1<<20))
	}
}
