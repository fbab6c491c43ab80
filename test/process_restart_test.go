package test

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
)

func TestARunThatOutlivesItsSupervisorIsNeverRepeated(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.kill(1)
	script := s.running()
	s.p.Kill()
	if !proc.ProcessAlive(script) {
		t.Error("the script has ended with the supervisor")
	}
	s.p.Restart()
	s.held("")
	s.seen("n1", "refused")
	g.open()
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	if s.epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.epoch())
	}
}

func TestARunThatEndedWhileNobodyLookedIsSettledByAdoption(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.kill(1)
	script := s.running()
	s.p.Kill()
	g.open()
	pgtest.WaitUntil(t, generous, "the end of the script", func() bool { return !proc.ProcessAlive(script) })
	s.p.Restart()
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAFailedRunThatEndedWhileNobodyLookedIsNotRepeated(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.kill(1)
	script := s.running()
	s.p.Kill()
	g.open()
	pgtest.WaitUntil(t, generous, "the end of the script", func() bool { return !proc.ProcessAlive(script) })
	s.p.Restart()
	s.held("")
	s.seen("n1", "refused")
	// Three refused probes take 150 ms.
	neverWithin(t, time.Second, "a second run", func() bool { return len(s.failover.Runs()) > 1 })
	must(t, s.node(1).Start(within(t)))
	s.opened("n1")
	s.p.WaitState("n2", "Replica") // its run has failed, and it is in recovery
	if s.epoch() != 1 {
		t.Errorf("epoch %d, want 1", s.epoch())
	}
}

func TestASupervisorKilledBeforeTheRunHasDoneNothing(t *testing.T) {
	t.Parallel()
	// A worker that is stopped keeps the fence from being complete; the other one tells of
	// the death.
	s := contract(t, 1, plan{keys: map[string]string{"fence_timeout": "60s", "workers": "2"}})
	bothWorkers(t, s.p)
	worker := s.p.Workers()[0]
	must(t, syscall.Kill(worker, syscall.SIGSTOP))
	must(t, s.node(1).Kill())
	pgtest.WaitUntil(t, generous, "fencing", func() bool { return strings.Contains(s.p.Log(), "fencing") }, s.p.Log)
	s.nothingRan()
	s.p.Kill()
	must(t, syscall.Kill(worker, syscall.SIGKILL))
	s.p.Restart()
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestSIGTERMWaitsForTheEndOfARun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.kill(1)
	s.running()
	must(t, s.p.cmd.Process.Signal(syscall.SIGTERM))
	s.p.WaitLog("a script is running; pgagroal ends when it has")
	// Longer than it gives to its workers, and then to its runner when nothing runs.
	neverWithin(t, 5*time.Second, "pgagroal ends before its script", func() bool { return !proc.ProcessAlive(s.p.PID()) })
	g.open()
	if code := s.p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	waitNode(t, s.node(2), "SELECT pg_is_in_recovery()", "f")
	s.p.Restart()
	s.opened("n2")
	if n := len(s.failover.Runs()); n != 1 || s.epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.epoch())
	}
	s.notify.WaitRuns(1)
}

func TestSIGTERMWaitsNoLongerThanTheTimeoutOfTheScript(t *testing.T) {
	t.Parallel()
	s, _ := latched(t, 1, "", map[string]string{"failover_script_timeout": "2s"})
	s.kill(1)
	script := s.running()
	must(t, s.p.cmd.Process.Signal(syscall.SIGTERM))
	if code := s.p.WaitEnd(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if proc.ProcessAlive(script) {
		t.Error("the script lives on")
	}
	if !strings.Contains(s.p.Log(), "timed_out=true") {
		t.Errorf("the log doesn't tell of the time-out:\n%s", s.p.Log())
	}
}

func TestARestartWhileNotifyRunsMakesNoSecondFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil)})
	g := latch{t, filepath.Join(s.p.Dir, "hooks", "gate")}
	s.notify = s.p.hook("notify.sh", g.wait())
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	s.kill(1)
	s.notify.WaitRuns(1)
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
	s.p.Kill()
	s.p.Restart()
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s", got)
	}
	g.open()
	s.opened("n2")
	if n := len(s.failover.Runs()); n != 1 || s.epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.epoch())
	}
	if n := len(s.notify.Runs()); n != 1 {
		t.Errorf("%d notifications, want one", n)
	}
	s.alarmed("the supervisor ended during the notify script, its outcome is unknown")
}

func TestFailoverNeedsAStateDirThatCanBeWritten(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{})
	must(t, os.Chmod(s.p.path("state"), 0o500))
	said := wontStart(t, s.p.Command("pgagroal", "-D", s.p.Dir))
	if !strings.Contains(said, "state_dir") || !strings.Contains(said, "permission denied") {
		t.Errorf("it says %q", said)
	}
	must(t, os.Chmod(s.p.path("state"), 0o755))
	s.p.Run()
	s.opened("n1")
}

func TestAStateDirThatCannotBeWrittenAnyMoreIsAnAlarmAndNoObstacle(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	must(t, os.Chmod(s.p.path("state"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(s.p.path("state"), 0o755) })
	s.kill(1)
	s.opened("n2")
	s.alarmed("state")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	must(t, os.Chmod(s.p.path("state"), 0o755))
	pgtest.WaitUntil(t, generous, "the alarm to end", func() bool { return !s.hasAlarm("state") }, func() string { return fmt.Sprint(s.status()["Alarms"]) })
	s.p.Kill()
	s.p.Restart()
	s.opened("n2") // the record was written after all
	if n := len(s.failover.Runs()); n != 1 || s.epoch() != 2 {
		t.Errorf("%d runs in epoch %d, want one in 2", n, s.epoch())
	}
}

func TestTwoPgagroalsDoNotShareAStateDir(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	other := Prepare(t, Setup{Servers: nodes(s.c), Keys: failoverKeys(map[string]string{"state_dir": s.p.path("state")})})
	other.setKey("failover_script", other.hook("failover.sh", "exit 0").Path)
	said := wontStart(t, other.Command("pgagroal", "-D", other.Dir))
	if !strings.Contains(said, s.p.path("state")) || !strings.Contains(said, fmt.Sprintf("process %d", s.p.PID())) {
		t.Errorf("it says %q; want state_dir and process %d", said, s.p.PID())
	}
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("the first one serves %s", got)
	}
}
