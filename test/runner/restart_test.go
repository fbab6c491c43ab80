package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestARunThatOutlivesItsSupervisorIsNeverRepeated(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.Kill(1)
	script := running(s)
	s.Pool.Kill()
	if !proc.ProcessAlive(script) {
		t.Error("the script has ended with the supervisor")
	}
	s.Pool.Restart()
	s.Held("")
	s.Seen("n1", "refused")
	g.open()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	if s.Epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.Epoch())
	}
}

func TestARunThatEndedWhileNobodyLookedIsSettledByAdoption(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.Kill(1)
	script := running(s)
	s.Pool.Kill()
	g.open()
	pgtest.WaitUntil(t, pool.Generous, "the end of the script", func() bool { return !proc.ProcessAlive(script) })
	s.Pool.Restart()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAFailedRunThatEndedWhileNobodyLookedIsNotRepeated(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.Kill(1)
	script := running(s)
	s.Pool.Kill()
	g.open()
	pgtest.WaitUntil(t, pool.Generous, "the end of the script", func() bool { return !proc.ProcessAlive(script) })
	s.Pool.Restart()
	s.Held("")
	s.Seen("n1", "refused")
	// Three refused probes take 150 ms.
	pool.NeverWithin(t, time.Second, "a second run", func() bool { return len(s.Failover.Runs()) > 1 })
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Opened("n1")
	s.Pool.WaitState("n2", "Replica") // its run has failed, and it is in recovery
	if s.Epoch() != 1 {
		t.Errorf("epoch %d, want 1", s.Epoch())
	}
}

func TestASupervisorKilledBeforeTheRunHasDoneNothing(t *testing.T) {
	t.Parallel()
	// The stopped worker keeps the fence from completing; the other worker reports the
	// death.
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"fence_timeout": "60s", "workers": "2"}})
	pool.BothWorkers(t, s.Pool)
	worker := s.Pool.Workers()[0]
	pool.Freeze(t, worker)
	pool.Must(t, s.Node(1).Kill())
	pgtest.WaitUntil(t, pool.Generous, "fencing", func() bool { return strings.Contains(s.Pool.Log(), "fencing") }, s.Pool.Log)
	s.NothingRan()
	s.Pool.Kill()
	pool.Must(t, syscall.Kill(worker, syscall.SIGKILL))
	s.Pool.Restart()
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestSIGTERMWaitsForTheEndOfARun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.Kill(1)
	running(s)
	pool.Must(t, s.Pool.Cmd.Process.Signal(syscall.SIGTERM))
	s.Pool.WaitLog("a script is running; pgagroal ends when it has")
	// This is longer than pgagroal waits for its workers, and then for a runner without
	// a script.
	pool.NeverWithin(t, 5*time.Second, "pgagroal ends before its script", func() bool { return !proc.ProcessAlive(s.Pool.PID()) })
	g.open()
	if code := s.Pool.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	pool.WaitNode(t, s.Node(2), "SELECT pg_is_in_recovery()", "f")
	s.Pool.Restart()
	s.Opened("n2")
	if n := len(s.Failover.Runs()); n != 1 || s.Epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.Epoch())
	}
	s.Notify.WaitRuns(1)
}

func TestSIGTERMWaitsNoLongerThanTheTimeoutOfTheScript(t *testing.T) {
	t.Parallel()
	s, _ := latched(t, 1, "", map[string]string{"failover_script_timeout": "5s"})
	s.Kill(1)
	script := running(s)
	pool.Must(t, s.Pool.Cmd.Process.Signal(syscall.SIGTERM))
	if code := s.Pool.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if proc.ProcessAlive(script) {
		t.Error("the script lives on")
	}
	s.Pool.WaitLog("timed_out=true")
}

func TestARestartWhileNotifyRunsMakesNoSecondFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	g := latch{t, filepath.Join(s.Pool.Dir, "hooks", "gate")}
	s.Notify = s.Pool.Hook("notify.sh", g.wait())
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	s.Kill(1)
	s.Notify.WaitRuns(1)
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
	s.Pool.Kill()
	s.Pool.Restart()
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
	g.open()
	s.Opened("n2")
	if n := len(s.Failover.Runs()); n != 1 || s.Epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.Epoch())
	}
	if n := len(s.Notify.Runs()); n != 1 {
		t.Errorf("%d notifications, want one", n)
	}
	s.Alarmed("the supervisor ended during the notify script, its outcome is unknown")
}

func TestFailoverNeedsAStateDirThatCanBeWritten(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{})
	pool.Must(t, os.Chmod(s.Pool.Path("state"), 0o500))
	said := pool.WontStart(t, s.Pool.Command("pgagroal", "-D", s.Pool.Dir))
	if !strings.Contains(said, "state_dir") || !strings.Contains(said, "permission denied") {
		t.Errorf("it says %q", said)
	}
	pool.Must(t, os.Chmod(s.Pool.Path("state"), 0o755))
	s.Pool.Run()
	s.Opened("n1")
}

func TestAStateDirThatCannotBeWrittenAnyMoreIsAnAlarmAndNoObstacle(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	pool.Must(t, os.Chmod(s.Pool.Path("state"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(s.Pool.Path("state"), 0o755) })
	s.Kill(1)
	s.Opened("n2")
	s.Alarmed("state")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	pool.Must(t, os.Chmod(s.Pool.Path("state"), 0o755))
	pgtest.WaitUntil(t, pool.Generous, "the alarm to end", func() bool { return !s.HasAlarm("state") }, func() string { return fmt.Sprint(s.Status()["Alarms"]) })
	s.Pool.Kill()
	s.Pool.Restart()
	s.Opened("n2") // the record was written after all
	if n := len(s.Failover.Runs()); n != 1 || s.Epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.Epoch())
	}
}

func TestTwoPgagroalsDoNotShareAStateDir(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	other := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(s.Cluster), Keys: pool.FailoverKeys(map[string]string{"state_dir": s.Pool.Path("state")})})
	other.SetKey("failover_script", other.Hook("failover.sh", "exit 0").Path)
	said := pool.WontStart(t, other.Command("pgagroal", "-D", other.Dir))
	if !strings.Contains(said, s.Pool.Path("state")) || !strings.Contains(said, fmt.Sprintf("process %d", s.Pool.PID())) {
		t.Errorf("it says %q; want state_dir and process %d", said, s.Pool.PID())
	}
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("the first one serves %s", got)
	}
}
