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
	pool.WriteFile(g.t, g.path, "", 0o644)
}

// latched starts a scene whose failover script waits at a gate before it does what
// script says, and promotes when that is empty; the gate opens at the end of
// the test, so that no script is left.
func latched(t testing.TB, standbys int, script string, keys map[string]string) (*pool.Scene, latch) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	if script == "" {
		script = pool.PromoteScript(c)
	}
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(keys)})
	g := latch{t, filepath.Join(s.Pool.Dir, "hooks", "gate")}
	s.Failover = s.Pool.Hook("failover.sh", "echo $$ > "+filepath.Join(s.Pool.Dir, "hooks", "pid")+"\n"+g.wait()+script)
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	return s, g
}

// running waits until the failover script runs, and returns its process id.
func running(s *pool.Scene) int {
	s.T.Helper()
	s.Failover.WaitRuns(1)
	var pid int
	_, err := fmt.Sscan(s.Dump("pid"), &pid)
	pool.Must(s.T, err)
	return pid
}

func sigkill(t testing.TB, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatalf("no process to kill: %d", pid)
	}
	pool.Must(t, syscall.Kill(pid, syscall.SIGKILL))
}

func TestARunnerThatDiesIdleIsShownAndReplaced(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	s.RunnerUp(0)
	old := s.Pool.Runner()
	sigkill(t, old)
	s.Pool.WaitLog("the script runner is gone")
	s.RunnerUp(old)
	s.Pool.WaitLog("alarm=runner")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s", got)
	}
	s.Kill(1)
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestARunWhoseRunnerDiesGoesOnAndItsResultIsAdopted(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.Kill(1)
	script := running(s)
	old := s.Pool.Runner()
	sigkill(t, old)
	s.Held("the outcome is unknown")
	if !proc.ProcessAlive(script) {
		t.Error("the script has ended with the runner")
	}
	s.RunnerUp(old) // only the run whose end nobody has seen keeps a new one from starting
	pool.Says(t, s.Told("failover"), "result", "unknown")
	s.Pool.WaitState("n2", "Failed")
	g.open()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	pool.Says(t, s.Told("settled"), "result", "adopted n2")
	if s.Epoch() != 2 {
		t.Errorf("epoch %d, want 2", s.Epoch())
	}
}

func TestTheOldPrimaryIsNotUsedBeforeNothingIsLeftOfALostRun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "exit 7", nil)
	s.Kill(1)
	script := running(s)
	sigkill(t, s.Pool.Runner())
	s.Held("the outcome is unknown")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Seen("n1", "primary")
	pool.NeverWithin(t, time.Second, "n1 is used while the script may promote n2", func() bool { return s.Word("Phase") == "open" })
	if !proc.ProcessAlive(script) {
		t.Fatal("the script has ended with its runner")
	}
	g.open()
	s.Opened("n1")
	if s.Epoch() != 1 || len(s.Failover.Runs()) != 1 || len(s.Notify.Runs()) != 0 {
		t.Errorf("epoch %d, runs %v, notified %v; want the same epoch, one run, nobody notified", s.Epoch(), s.Failover.Runs(), s.Notify.Runs())
	}
}

func TestACandidateThatIsPromotedByAScriptThatHangsIsAdopted(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{
		Keys:   pool.HastyKeys(map[string]string{"failover_script_timeout": "6s"}),
		Script: strings.Replace(pool.PromoteScript(c), "exec ", "", 1) + "sleep 1000\n",
	})
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	if e := s.Told("failover"); e["timed_out"] != true {
		t.Errorf("history: %v, want timed_out", e)
	}
	pool.Says(t, s.Told("settled"), "result", "adopted n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	s.Pool.WaitState("n1", "Failed")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
}

func TestOperatorsCannotInterfereWithARun(t *testing.T) {
	t.Parallel()
	s, g := latched(t, 1, "", nil)
	s.Kill(1)
	running(s)
	for _, cmd := range [][]string{{"switch-to", "n2"}, {"switch-to", "n2", "--force"}, {"clear", "server", "n1"}, {"clear", "server", "n1", "--force"}} {
		out, errs, code := s.Pool.CLI(cmd...)
		if code == 0 || !strings.Contains(out+errs, "run") {
			t.Errorf("%v: exit %d, %s%s; want a refusal that names the run", cmd, code, out, errs)
		}
	}
	g.open()
	s.Opened("n2")
	s.Told("notify")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAScriptThatLeavesAServerBehindDelaysNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	left := filepath.Join(s.Pool.Dir, "hooks", "left")
	s.Failover = s.Pool.Hook("failover.sh", "setsid sleep 1000 >/dev/null 2>&1 & echo $! > "+left+"\n"+pool.PromoteScript(c))
	s.Pool.Run()
	s.Opened("n1")
	s.Kill(1)
	s.Opened("n2")
	var pid int
	data, err := os.ReadFile(left)
	pool.Must(t, err)
	_, err = fmt.Sscan(string(data), &pid)
	pool.Must(t, err)
	if !proc.ProcessAlive(pid) {
		t.Error("what the script has left behind was ended")
	}
	sigkill(t, pid)
}
