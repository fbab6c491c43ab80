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

// latch is a file in the hooks directory that a script waits for.
type latch struct {
	t    testing.TB
	path string
}

// wait is the part of a script that waits.
func (g latch) wait() string {
	return fmt.Sprintf("while [ ! -e %s ]; do sleep 0.05; done\n", g.path)
}

func (g latch) open() {
	g.t.Helper()
	writeFile(g.t, g.path, "", 0o644)
}

// latched starts a scene whose failover script waits at a gate before it does what
// script says, and promotes when that is empty; the gate opens at the end of
// the test, so that no script is left.
func latched(t testing.TB, standbys int, script string, keys map[string]string) (*scene, latch) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	if script == "" {
		script = promote(c)
	}
	s := ready(t, c, plan{keys: hasty(keys)})
	g := latch{t, filepath.Join(s.p.Dir, "hooks", "gate")}
	s.failover = s.p.hook("failover.sh", "echo $$ > "+filepath.Join(s.p.Dir, "hooks", "pid")+"\n"+g.wait()+script)
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	return s, g
}

// running waits until the failover script runs, and returns its process id.
func (s *scene) running() int {
	s.t.Helper()
	s.failover.WaitRuns(1)
	var pid int
	_, err := fmt.Sscan(s.dump("pid"), &pid)
	must(s.t, err)
	return pid
}

func sigkill(t testing.TB, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatalf("no process to kill: %d", pid)
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
}

// runnerUp waits for another runner than old, linked and of one mind with us.
func (s *scene) runnerUp(old int) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, "a new runner", func() bool {
		r, _ := s.status()["Runner"].(map[string]any)
		pid, _ := r["PID"].(float64)
		return int(pid) != old && pid > 0 && r["Connected"] == true && r["DigestMatch"] == true && !s.hasAlarm("script runner is not available")
	}, func() string { return fmt.Sprint(s.status()) }, s.p.Log)
}

func TestARunnerThatDiesIdleIsShownAndReplaced(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	s.runnerUp(0)
	old := s.p.Runner()
	sigkill(t, old)
	s.p.WaitLog("the script runner is gone")
	s.runnerUp(old)
	if !strings.Contains(s.p.Log(), "alarm=runner") {
		t.Errorf("no alarm was raised:\n%s", s.p.Log())
	}
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s", got)
	}
	s.kill(1)
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestARunWhoseRunnerDiesGoesOnAndItsResultIsAdopted(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.kill(1)
	script := s.running()
	old := s.p.Runner()
	sigkill(t, old)
	s.held("the outcome is unknown")
	if !proc.ProcessAlive(script) {
		t.Error("the script has ended with the runner")
	}
	s.runnerUp(old) // a run could start now, but for the one that nobody has seen the end of
	says(t, s.told("failover"), "result", "unknown")
	s.p.WaitState("n2", "Failed")
	g.open()
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	says(t, s.told("settled"), "result", "adopted n2")
	if s.epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.epoch())
	}
}

func TestTheOldPrimaryIsNotUsedBeforeNothingIsLeftOfALostRun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.kill(1)
	script := s.running()
	sigkill(t, s.p.Runner())
	s.held("the outcome is unknown")
	must(t, s.node(1).Start(within(t)))
	s.seen("n1", "primary")
	neverWithin(t, time.Second, "n1 is used while the script may promote n2", func() bool { return s.word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		t.Fatal("the script has ended with its runner")
	}
	g.open()
	s.opened("n1")
	if s.epoch() != 1 || len(s.failover.Runs()) != 1 || len(s.notify.Runs()) != 0 {
		t.Errorf("epoch %d, runs %v, notified %v; want the same epoch, one run, nobody notified", s.epoch(), s.failover.Runs(), s.notify.Runs())
	}
}

func TestACandidateThatIsPromotedByAScriptThatHangsIsAdopted(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{
		keys:   hasty(map[string]string{"failover_script_timeout": "2s"}),
		script: strings.Replace(promote(c), "exec ", "", 1) + "sleep 1000\n",
	})
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	if e := s.told("failover"); e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	says(t, s.told("settled"), "result", "adopted n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	s.p.WaitState("n1", "Failed")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
}

func TestOperatorsCannotInterfereWithARun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.kill(1)
	s.running()
	for _, cmd := range [][]string{{"switch-to", "n2"}, {"switch-to", "n2", "--force"}, {"clear", "server", "n1"}, {"clear", "server", "n1", "--force"}} {
		out, errs, code := s.p.CLI(cmd...)
		if code == 0 || !strings.Contains(out+errs, "run") {
			t.Errorf("%v: exit %d, %s%s; want a refusal that names the run", cmd, code, out, errs)
		}
	}
	g.open()
	s.opened("n2")
	s.told("notify")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAScriptThatLeavesAServerBehindDelaysNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil)})
	left := filepath.Join(s.p.Dir, "hooks", "left")
	s.failover = s.p.hook("failover.sh", "setsid sleep 1000 >/dev/null 2>&1 & echo $! > "+left+"\n"+promote(c))
	s.p.Run()
	s.opened("n1")
	s.kill(1)
	s.opened("n2")
	var pid int
	data, err := os.ReadFile(left)
	must(t, err)
	_, err = fmt.Sscan(string(data), &pid)
	must(t, err)
	if !proc.ProcessAlive(pid) {
		t.Error("what the script has left behind was ended")
	}
	sigkill(t, pid)
}
