package process

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestTheServiceManagerHearsReadyWhenClientsAreServedAndNotBefore(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	x := pgtest.NewProxy(t, c.Primary().Addr())
	x.Silence(pgtest.ToClient | pgtest.ToServer)
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: x.Port()}}, Keys: map[string]string{
		"failover_start_timeout": "60s", "failover_probe_timeout": "500ms", "health_check_user": "postgres",
		"shutdown_mode": "gracefully",
	}})
	m := pool.NewManager(t, p.Path("notify"))
	p.Begin("NOTIFY_SOCKET=" + m.Path)
	p.WaitLog("worker is ready worker=0")
	p.WaitLog("worker is ready worker=1")
	if m.Count("READY=1") != 0 {
		t.Error("READY=1 although nothing is known of the server")
	}
	x.Unsilence()
	m.Wait("READY=1", 1)
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	m.Wait("STATUS=open, primary n1", 1)
	if m.Count("WATCHDOG=1") != 0 {
		t.Error("WATCHDOG=1 although nobody asked for it")
	}
	pool.Must(t, p.Cmd.Process.Signal(syscall.SIGTERM))
	m.Wait("STOPPING=1", 1)
	m.Wait("EXTEND_TIMEOUT_USEC=30000000", 1) // there is a client
	pool.Must(t, p.Cmd.Process.Signal(syscall.SIGTERM))
	if code := p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if n := m.Count("READY=1"); n != 1 {
		t.Errorf("READY=1 was said %d times", n)
	}
}

func TestTheServiceManagerFollowsAFailover(t *testing.T) {
	t.Parallel()
	s := pool.Ready(t, pgtest.New(t, pgtest.Options{Standbys: 1}), pool.Plan{Keys: pool.HastyKeys(nil)})
	m := pool.NewManager(t, s.Pool.Path("notify"))
	s.Pool.Run("NOTIFY_SOCKET=" + m.Path)
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	m.Wait("STATUS=open, primary n2", 1)
	var phases []string
	for _, l := range m.Heard() {
		if status, ok := strings.CutPrefix(l, "STATUS="); ok {
			phase, _, _ := strings.Cut(status, ",")
			if n := len(phases); n == 0 || phases[n-1] != phase {
				phases = append(phases, phase)
			}
		}
	}
	for _, want := range []string{"suspect", "fencing", "running"} {
		if !slices.Contains(phases, want) {
			t.Errorf("phases %v, without %s", phases, want)
		}
	}
}

func TestTheWatchdogIsFedInTime(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c)})
	m := pool.NewManager(t, p.Path("notify"))
	begin := time.Now()
	p.Run("NOTIFY_SOCKET="+m.Path, "WATCHDOG_USEC=400000")
	m.Wait("WATCHDOG=1", 5)
	if d := time.Since(begin); d < 800*time.Millisecond {
		t.Errorf("five signs of life in %v: it doesn't wait in between", d)
	}
	// A stopped supervisor sends no more watchdog messages, so they come from the
	// supervisor itself.
	pool.Freeze(t, p.PID())
	m.CatchUp()
	last := m.Count("WATCHDOG=1")
	pool.NeverWithin(t, time.Second, "a sign of life of a stopped supervisor", func() bool { return m.Count("WATCHDOG=1") > last+1 })
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGCONT))
	m.Wait("WATCHDOG=1", last+3)
}
