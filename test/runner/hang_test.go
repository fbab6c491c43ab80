package runner

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// SIGSTOP simulates a runner whose call to a disk doesn't return.
func TestAHangingRunnerIsSeenBeforeItIsNeededAndExecutesNothingLate(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	runner := s.Pool.Runner()
	pool.Freeze(t, runner)
	t.Cleanup(func() { _ = syscall.Kill(runner, syscall.SIGCONT) })
	s.Alarmed("the script runner hangs")
	if _, errs, code := s.Pool.CLI("failover", "rehearse"); code != 1 {
		t.Errorf("a rehearsal with a hanging runner: exit code %d, %s", code, errs)
	}
	pool.Says(t, s.Pool.JSON("failover", "rehearse"), "Problems", "the script runner has not answered")
	s.Kill(1)
	s.Held("nothing ran")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Opened("n1")
	_ = syscall.Kill(runner, syscall.SIGCONT) // it has been killed, and would not come too late otherwise
	s.RunnerUp(runner)
	s.Same()
	if standby, err := s.Node(2).InRecovery(pool.Within(t)); err != nil || !standby {
		t.Errorf("n2 is in recovery: %v, %v", standby, err)
	}
}

func TestAHangingServiceExecutesNothingLate(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	s.Opened("n1")
	s.RunnerUp(0)
	pool.Must(t, v.cmd.Process.Signal(syscall.SIGSTOP))
	s.Alarmed("the script runner hangs")
	s.Kill(1)
	s.Held("nothing ran")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Opened("n1")
	pool.Must(t, v.cmd.Process.Signal(syscall.SIGCONT))
	s.RunnerUp(0)
	s.Same()
}

// The reason for the delay is for operators; a client only learns that a failover is in
// progress.
func TestClientsAreNotToldThePathOfAScript(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"failover_client_wait": "1s"}})
	pool.Must(t, os.Chmod(s.Failover.Path, 0o777))
	s.Alarmed(s.Failover.Path)
	s.Kill(1)
	s.WaitStatus("Phase", "choosing")
	_, err := s.Pool.Try(s.Pool.Config("postgres", "", "postgres"))
	if pgtest.Code(err) != "57P03" || strings.Contains(err.Error(), "hooks") || !strings.Contains(err.Error(), "a failover is under way") {
		t.Errorf("a client is told %v", err)
	}
	if why := s.Word("HeldReason"); !strings.Contains(why, s.Failover.Path) {
		t.Errorf("an operator is told %q", why)
	}
}
