package takeover

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// readable says whether a process of the pool's user can read the memory of another,
// as a script could: environ is part of it.
func readable(t *testing.T, pid int) bool {
	t.Helper()
	cmd := exec.Command("cat", fmt.Sprintf("/proc/%d/environ", pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pool.ServingUser(t)}
	out, err := cmd.Output()
	if err == nil && len(out) == 0 {
		t.Errorf("process %d has no environment, so this proves nothing", pid)
	}
	return err == nil
}

func coreLimit(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	pool.Must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Fields(rest)[0]
		}
	}
	t.Fatalf("no limit of core files in %s", b)
	return ""
}

// holds says whether a process has a text anywhere in its memory.
func holds(t *testing.T, pid int, text string) bool {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	pool.Must(t, err)
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	pool.Must(t, err)
	defer mem.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // what isn't there is no memory of its own
		if bytes.Contains(b[:n], []byte(text)) {
			return true
		}
	}
	return false
}

// TestWorkersHoldNoSecretThatTheyDontNeed searches the memory of live processes.
func TestWorkersHoldNoSecretThatTheyDontNeed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || pool.RaceEnabled {
		t.Skip("needs root, to read the memory of others, and no race detector, whose memory has no end")
	}
	c := pgtest.New(t, pgtest.Options{})
	const server, front, super = "the-servers-password-91", "the-clients-password-92", "the-superusers-password-93"
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"somebody": server}, Superuser: "boss:" + super,
		Before: func(p *pool.Pool) {
			p.Admin("-f", p.Path("pgagroal_frontend_users.conf"), "-U", "somebody", "-P", front, "user", "add")
		},
	})
	for _, pid := range p.Workers() {
		if holds(t, pid, front) || holds(t, pid, super) {
			t.Errorf("worker %d holds a password that it has no use for", pid)
		}
		if !holds(t, pid, server) {
			t.Errorf("worker %d doesn't hold the password for the servers: the test proves nothing", pid)
		}
	}
	for _, secret := range []string{server, front, super} {
		if !holds(t, p.PID(), secret) {
			t.Errorf("the supervisor doesn't hold %s: the test proves nothing", secret)
		}
	}
}

func TestNobodyOfTheSameUserReadsTheMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the harness lets the memory be read unless it is root; run the tests as root")
	}
	s := pool.PlayOpen(t, 1, pool.Plan{})
	all := map[string]int{"supervisor": s.Pool.PID(), "worker": s.Pool.Workers()[0], "script runner": s.Pool.Runner(), "prober": s.Pool.Prober()}
	for name, pid := range all {
		if readable(t, pid) {
			t.Errorf("the memory of the %s can be read", name)
		}
		if got := coreLimit(t, pid); got != "0" {
			t.Errorf("the %s may write core files of %s bytes", name, got)
		}
	}
	s.Pool.Stop()
	s.Pool.Restart("PGAGROAL_CORES=on")
	s.Pool.WaitLog("every process of this user can read our passwords")
	s.Pool.WaitLog("script runner is ready")
	for name, pid := range map[string]int{"supervisor": s.Pool.PID(), "worker": s.Pool.Workers()[0]} {
		if !readable(t, pid) {
			t.Errorf("with the switch the memory of the %s can't be read: the test proves nothing", name)
		}
	}
}
