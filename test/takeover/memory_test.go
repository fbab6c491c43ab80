package takeover

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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

func TestNobodyOfTheSameUserReadsTheMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the harness lets the memory be read unless it is root; run the tests as root")
	}
	s := pool.PlayOpen(t, 1, pool.Plan{})
	all := map[string]int{"supervisor": s.Pool.PID(), "worker": s.Pool.Workers()[0], "script runner": s.Pool.Runner()}
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
