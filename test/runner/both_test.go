package runner

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// orphaned starts the pool again after every process of pgagroal has died while the
// script of a failover still runs. It starts the old primary, too, and checks that
// nothing is decided before the script has ended.
func orphaned(s *pool.Scene, script int, g latch) {
	s.T.Helper()
	s.Pool.Restart()
	s.Held("")
	pool.Must(s.T, s.Node(1).Start(pool.Within(s.T)))
	s.Seen("n1", "primary")
	s.RunnerUp(0)
	// By now the runner's answer and the probe would have been enough.
	pool.NeverWithin(s.T, time.Second, "n1 is used while the script may promote n2", func() bool { return s.Word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		s.T.Fatal("the script has ended with its runner")
	}
	g.open()
	s.Opened("n1")
	if n := len(s.Failover.Runs()); n != 1 || s.Epoch() != 1 || len(s.Notify.Runs()) != 0 {
		s.T.Errorf("%d runs in epoch %d, notified %v; want one in 1, and nobody", n, s.Epoch(), s.Notify.Runs())
	}
}

func TestARunThatOutlivesServiceAndSupervisorIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	g := latch{t, s.Pool.Path("hooks/gate")}
	s.Failover = s.Pool.Hook("failover.sh", "echo $$ > "+s.Pool.Path("hooks/pid")+"\n"+g.wait()+"exit 7")
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	s.RunnerUp(0)
	s.Kill(1)
	script := running(s)
	v.kill()
	s.Pool.Kill()
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	orphaned(s, script, g)
}

func TestARunThatOutlivesRunnerAndSupervisorIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.Kill(1)
	script := running(s)
	runner := s.Pool.Runner()
	s.Pool.Kill()
	sigkill(t, runner)
	orphaned(s, script, g)
}

// The record also keeps a notification whose runner was lost.
func TestALostNotificationDoesNotBlockFailoversForEver(t *testing.T) {
	t.Parallel()
	s := separate(t, 2, pool.Plan{})
	g := latch{t, s.Pool.Path("hooks/gate")}
	s.Notify = s.Pool.Hook("notify.sh", g.wait())
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	s.RunnerUp(0)
	s.Kill(1)
	s.Notify.WaitRuns(1)
	v.kill()
	s.Alarmed("the outcome of the notify script is unknown")
	s.Pool.Kill()
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Restart()
	first, last := s.Node(2), s.Node(3)
	if s.Word("Primary") == last.Name {
		first, last = last, first
	}
	s.Opened(first.Name)
	s.RunnerUp(0)
	g.open()
	s.Follow(last, first)
	s.Pool.Connect()
	pool.Must(t, first.Kill())
	s.Opened(last.Name)
}

func TestAChangedScriptIsAnAlarmUntilBothHaveReadIt(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	v := runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	s.Opened("n1")
	s.RunnerUp(0)
	old := s.Failover
	s.Failover = s.Pool.Hook("other.sh", pool.PromoteScript(s.Cluster))
	conf := s.Pool.Path("pgagroal.conf")
	data, err := os.ReadFile(conf)
	pool.Must(t, err)
	pool.WriteFile(t, conf, strings.Replace(string(data), old.Path, s.Failover.Path, 1), 0o644)
	if s.HasAlarm("hooks") {
		t.Error("an alarm before anybody has read the change")
	}
	pid := v.cmd.Process.Pid
	v.kill()
	runnerAt(s.Pool, conf)
	s.Alarmed("other hooks or servers than we have; restart both with the same configuration")
	if r, _ := s.Status()["Runner"].(map[string]any); r["DigestMatch"] != false || r["Connected"] != true {
		t.Errorf("runner %v, want one that is connected and doesn't match", r)
	}
	s.Pool.Stop()
	s.Pool.Restart()
	s.RunnerUp(pid)
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	if len(old.Runs()) != 0 {
		t.Error("the old script has run")
	}
}

// A supervisor that starts with the changed configuration makes the service read it,
// too.
func TestARestartOfPgagroalAloneMakesItsServiceReadTheChangeToo(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{})
	conf := s.Pool.Path("pgagroal.conf")
	runnerAt(s.Pool, conf)
	s.Pool.Run()
	s.Opened("n1")
	s.RunnerUp(0)
	old := s.Failover
	s.Failover = s.Pool.Hook("other.sh", pool.PromoteScript(s.Cluster))
	data, err := os.ReadFile(conf)
	pool.Must(t, err)
	pool.WriteFile(t, conf, strings.Replace(string(data), old.Path, s.Failover.Path, 1), 0o644)
	s.Pool.Stop()
	s.Pool.Restart()
	s.RunnerUp(0)
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	if len(s.Failover.Runs()) != 1 || len(old.Runs()) != 0 {
		t.Errorf("the new script ran %d times, the old one %d times", len(s.Failover.Runs()), len(old.Runs()))
	}
}
