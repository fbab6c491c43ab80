package process

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// storm connects n silent clients as fast as the kernel accepts them, and returns a function that disconnects them.
func storm(t *testing.T, p *pool.Pool, n int) (hangUp func()) {
	t.Helper()
	to := &unix.SockaddrInet4{Port: p.Port, Addr: [4]byte{127, 0, 0, 1}}
	var list []int
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		pool.Must(t, err)
		list = append(list, fd)
		if err := unix.Connect(fd, to); err != unix.EINPROGRESS { // with a full backlog the connection stays in progress
			pool.Must(t, err)
		}
	}
	return sync.OnceFunc(func() {
		for _, fd := range list {
			unix.Close(fd)
		}
	})
}

// settled waits until the supervisor accepts no more clients, that is until its number of descriptors stays
// the same.
func settled(t *testing.T, p *pool.Pool) {
	t.Helper()
	last := -1
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	pgtest.WaitUntil(t, pool.Generous, "the supervisor to take no more clients", func() bool {
		<-look.C
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
		pool.Must(t, err)
		same := len(fds) == last
		last = len(fds)
		return same
	}, p.Log)
}

// under prepares a pool with a limit on open files.
func under(t *testing.T, c *pgtest.Cluster, limit int) *pool.Pool {
	t.Helper()
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "10", "authentication_timeout": "2s"}})
	prlimit, err := exec.LookPath("prlimit")
	pool.Must(t, err)
	p.Wrap = []string{prlimit, fmt.Sprintf("--nofile=%d", limit)}
	return p
}

// TestServiceComesBackAfterAStormUnderAnyLimit: more clients than there are descriptors connect while the workers are
// stopped. Then the workers either continue or are killed, and the clients leave. No process keeps the descriptors of
// clients that have left.
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
				hangUp := storm(t, p, max(2500, 2*limit))
				defer hangUp()
				settled(t, p)
				for _, w := range workers {
					pool.Must(t, syscall.Kill(w, sig))
				}
				if sig == syscall.SIGKILL {
					pgtest.WaitUntil(t, pool.Generous, "other workers", func() bool {
						now := p.Workers()
						return len(now) == len(workers) && !slices.ContainsFunc(now, func(w int) bool { return slices.Contains(workers, w) })
					}, p.Log)
				}
				hangUp()
				pgtest.WaitUntil(t, pool.Generous, "a client is served", func() bool {
					cl, err := p.Try(p.Config("postgres", "", "postgres"))
					if err == nil {
						cl.Close()
					}
					return err == nil
				}, p.Log)
				if now := p.Workers(); sig == syscall.SIGCONT && !slices.Equal(now, workers) {
					t.Errorf("the workers were %v and are %v:\n%s", workers, now, p.Log())
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
