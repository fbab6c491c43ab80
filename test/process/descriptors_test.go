package process

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// storm connects so many clients that say nothing and returns what hangs them up. A full backlog is no failure.
func storm(p *pool.Pool, n int) (hangUp func()) {
	var list []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)), 20*time.Millisecond)
		if err == nil {
			list = append(list, c)
		}
	}
	return func() {
		for _, c := range list {
			c.Close()
		}
	}
}

// under prepares a pool with a limit of open files.
func under(t *testing.T, c *pgtest.Cluster, limit int) *pool.Pool {
	t.Helper()
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "10", "authentication_timeout": "2s"}})
	prlimit, err := exec.LookPath("prlimit")
	pool.Must(t, err)
	p.Wrap = []string{prlimit, fmt.Sprintf("--nofile=%d", limit)}
	return p
}

// TestServiceComesBackAfterAStormUnderAnyLimit: clients storm in while the workers stand still, and then these go on, or
// are killed. Nobody stays stuck on the descriptors of clients that have left.
func TestServiceComesBackAfterAStormUnderAnyLimit(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, limit := range []int{64, 256, 1024} {
		for what, sig := range map[string]syscall.Signal{"go on": syscall.SIGCONT, "are killed": syscall.SIGKILL} {
			t.Run(fmt.Sprintf("%d, workers %s", limit, what), func(t *testing.T) {
				p := under(t, c, limit)
				p.Run()
				p.Connect().Close()
				workers := p.Workers()
				for _, w := range workers {
					pool.Must(t, syscall.Kill(w, syscall.SIGSTOP))
				}
				hangUp := storm(p, min(2*limit, 600))
				for _, w := range workers {
					pool.Must(t, syscall.Kill(w, sig))
				}
				hangUp()
				pgtest.WaitUntil(t, pool.Generous, "a client is served", func() bool {
					cl, err := p.Try(p.Config("postgres", "", "postgres"))
					if err == nil {
						cl.Close()
					}
					return err == nil
				}, p.Log)
				if sig == syscall.SIGCONT && strings.Contains(p.Log(), "worker is killed") {
					t.Errorf("a healthy worker was killed:\n%s", p.Log())
				}
				p.Stop()
			})
		}
	}
}

func TestTooLowALimitIsRefusedWithTheNumberThatIsNeeded(t *testing.T) {
	t.Parallel()
	p := under(t, pgtest.New(t, pgtest.Options{}), 30)
	cmd := p.Command("pgagroal", "-D", p.Dir)
	cmd.Args = append(p.Wrap, cmd.Args...)
	cmd.Path, cmd.Args[2] = p.Wrap[0], pool.Program("pgagroal")
	if said := pool.WontStart(t, cmd); !strings.Contains(said, "2 workers and 1 servers need 42 open files, and the limit is 30") {
		t.Errorf("it says %q", said)
	}
}
