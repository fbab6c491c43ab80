package test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// orphaned starts the pool again after the death of everything but the script
// of a failover and the old primary, which is back, and checks that nothing is
// decided before the script has ended.
func (s *scene) orphaned(script int, g latch) {
	s.t.Helper()
	s.p.Restart()
	s.held("")
	must(s.t, s.node(1).Start(within(s.t)))
	s.seen("n1", "primary")
	s.runnerUp(0)
	// By now the runner's answer and the probe would have been enough.
	neverWithin(s.t, time.Second, "n1 is used while the script may promote n2", func() bool { return s.word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		s.t.Fatal("the script has ended with its runner")
	}
	g.open()
	s.opened("n1")
	if n := len(s.failover.Runs()); n != 1 || s.epoch() != 1 || len(s.notify.Runs()) != 0 {
		s.t.Errorf("%d runs in epoch %d, notified %v; want one in 1, and nobody", n, s.epoch(), s.notify.Runs())
	}
}

func TestARunThatOutlivesServiceAndSupervisorIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	g := latch{t, s.p.path("hooks/gate")}
	s.failover = s.p.hook("failover.sh", "echo $$ > "+s.p.path("hooks/pid")+"\n"+g.wait()+"exit 7")
	v := s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	s.runnerUp(0)
	s.kill(1)
	script := s.running()
	v.kill()
	s.p.Kill()
	s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.orphaned(script, g)
}

func TestARunThatOutlivesRunnerAndSupervisorIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.kill(1)
	script := s.running()
	runner := s.p.Runner()
	s.p.Kill()
	sigkill(t, runner)
	s.orphaned(script, g)
}

// What is left of a lost notification is in the record as well.
func TestALostNotificationDoesNotBlockFailoversForEver(t *testing.T) {
	t.Parallel()
	s := separate(t, 2, plan{})
	g := latch{t, s.p.path("hooks/gate")}
	s.notify = s.p.hook("notify.sh", g.wait())
	v := s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	s.runnerUp(0)
	s.kill(1)
	s.notify.WaitRuns(1)
	v.kill()
	s.alarmed("the outcome of the notify script is unknown")
	s.p.Kill()
	s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Restart()
	first, last := s.node(2), s.node(3)
	if s.word("Primary") == last.Name {
		first, last = last, first
	}
	s.opened(first.Name)
	s.runnerUp(0)
	g.open()
	s.follow(last, first)
	s.p.Connect()
	must(t, first.Kill())
	s.opened(last.Name)
}

func TestAChangedScriptIsAnAlarmUntilBothHaveReadIt(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	v := s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	s.opened("n1")
	s.runnerUp(0)
	old := s.failover
	s.failover = s.p.hook("other.sh", promote(s.c))
	conf := s.p.path("pgagroal.conf")
	data, err := os.ReadFile(conf)
	must(t, err)
	writeFile(t, conf, strings.Replace(string(data), old.Path, s.failover.Path, 1), 0o644)
	if s.hasAlarm("hooks") {
		t.Error("an alarm before anybody has read the change")
	}
	pid := v.cmd.Process.Pid
	v.kill()
	s.p.runnerAt(conf)
	s.alarmed("other hooks or servers than we have; restart both with the same configuration")
	if r, _ := s.status()["Runner"].(map[string]any); r["DigestMatch"] != false || r["Connected"] != true {
		t.Errorf("runner %v, want one that is connected and doesn't match", r)
	}
	s.p.Stop()
	s.p.Restart()
	s.runnerUp(pid)
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	if len(old.Runs()) != 0 {
		t.Error("the old script has run")
	}
}

// A supervisor that starts with the change makes the service read it too.
func TestARestartOfPgagroalAloneMakesItsServiceReadTheChangeToo(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{})
	conf := s.p.path("pgagroal.conf")
	s.p.runnerAt(conf)
	s.p.Run()
	s.opened("n1")
	s.runnerUp(0)
	old := s.failover
	s.failover = s.p.hook("other.sh", promote(s.c))
	data, err := os.ReadFile(conf)
	must(t, err)
	writeFile(t, conf, strings.Replace(string(data), old.Path, s.failover.Path, 1), 0o644)
	s.p.Stop()
	s.p.Restart()
	s.runnerUp(0)
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	if len(s.failover.Runs()) != 1 || len(old.Runs()) != 0 {
		t.Errorf("the new script ran %d times, the old one %d times", len(s.failover.Runs()), len(old.Runs()))
	}
}
