package process

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// manager collects the lines that a service manager receives.
type manager struct {
	t    testing.TB
	path string
	mu   sync.Mutex
	said []string
}

// newManager listens on a socket to which NOTIFY_SOCKET can point.
func newManager(t testing.TB, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	pool.Must(t, err)
	pool.Must(t, os.Chmod(path, 0o777))
	m := &manager{t: t, path: path}
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, strings.Split(string(buf[:n]), "\n")...)
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() { conn.Close(); reader.Wait() })
	return m
}

func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

func (m *manager) count(text string) int {
	n := 0
	for _, l := range m.heard() {
		if strings.HasPrefix(l, text) {
			n++
		}
	}
	return n
}

// wait waits for n lines that begin with a prefix.
func (m *manager) wait(text string, n int) {
	m.t.Helper()
	pgtest.WaitUntil(m.t, pool.Generous, "the service manager to hear "+text, func() bool { return m.count(text) >= n },
		func() string { return strings.Join(m.heard(), "\n") })
}

func TestTheServiceManagerHearsReadyWhenClientsAreServedAndNotBefore(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	x := pgtest.NewProxy(t, c.Primary().Addr())
	x.Silence(pgtest.ToClient | pgtest.ToServer)
	p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: x.Port()}}, Keys: map[string]string{
		"failover_start_timeout": "60s", "failover_probe_timeout": "500ms", "health_check_user": "postgres",
		"shutdown_mode": "gracefully",
	}})
	m := newManager(t, p.Path("notify"))
	p.Begin("NOTIFY_SOCKET=" + m.path)
	p.WaitLog("worker is ready worker=0")
	p.WaitLog("worker is ready worker=1")
	if m.count("READY=1") != 0 {
		t.Error("READY=1 although nothing is known of the server")
	}
	x.Unsilence()
	m.wait("READY=1", 1)
	pool.MustQuery(t, p.Connect(), "SELECT 1")
	m.wait("STATUS=open, primary n1", 1)
	if m.count("WATCHDOG=1") != 0 {
		t.Error("WATCHDOG=1 although nobody asked for it")
	}
	pool.Must(t, p.Cmd.Process.Signal(syscall.SIGTERM))
	m.wait("STOPPING=1", 1)
	m.wait("EXTEND_TIMEOUT_USEC=30000000", 1) // there is a client
	pool.Must(t, p.Cmd.Process.Signal(syscall.SIGTERM))
	if code := p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if n := m.count("READY=1"); n != 1 {
		t.Errorf("READY=1 was said %d times", n)
	}
}

func TestTheServiceManagerFollowsAFailover(t *testing.T) {
	t.Parallel()
	s := pool.Ready(t, pgtest.New(t, pgtest.Options{Standbys: 1}), pool.Plan{Keys: pool.HastyKeys(nil)})
	m := newManager(t, s.Pool.Path("notify"))
	s.Pool.Run("NOTIFY_SOCKET=" + m.path)
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	m.wait("STATUS=open, primary n2", 1)
	var phases []string
	for _, l := range m.heard() {
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
	m := newManager(t, p.Path("notify"))
	begin := time.Now()
	p.Run("NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=400000")
	m.wait("WATCHDOG=1", 5)
	if d := time.Since(begin); d < 800*time.Millisecond {
		t.Errorf("five signs of life in %v: it doesn't wait in between", d)
	}
	// A stopped supervisor sends no more watchdog messages, so they come from the
	// supervisor itself.
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGSTOP))
	last := m.count("WATCHDOG=1")
	pool.NeverWithin(t, time.Second, "a sign of life of a stopped supervisor", func() bool { return m.count("WATCHDOG=1") > last+1 })
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGCONT))
	m.wait("WATCHDOG=1", last+3)
}
