package runner

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// cutOff starts a scene of n1 and n2 with a failover_fence_script, and a
// failover_script that fails unless the other one has ended before it.
func cutOff(t *testing.T, script string) (s *pool.Scene, fence *pool.Hook) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s = pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	cut := filepath.Join(s.Pool.Dir, "hooks", "cut")
	s.Failover = s.Pool.Hook("failover.sh", fmt.Sprintf("test -e %s || exit 8\n", cut)+pool.PromoteScript(c))
	fence = s.Pool.Hook("fence.sh", script+"\n: > "+cut)
	s.Pool.SetKey("failover_fence_script", fence.Path)
	s.Pool.Run()
	s.Opened("n1")
	return s, fence
}

// cutTimes checks how often n1 was cut off so far.
func cutTimes(s *pool.Scene, fence *pool.Hook, n int) {
	s.T.Helper()
	var want [][]string
	for range n {
		want = append(want, pool.RunArgs(s.Node(1)))
	}
	if d := cmp.Diff(want, fence.Runs()); d != "" {
		s.T.Errorf("runs of failover_fence_script (-want +got):\n%s", d)
	}
}

func TestTheOldPrimaryIsCutOffBeforeAnotherOneIsPromoted(t *testing.T) {
	t.Parallel()
	s, fence := cutOff(t, "echo $PGAGROAL_HOOK of $PGAGROAL_OLD_NAME")
	s.Kill(1)
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	cutTimes(s, fence, 1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
	pool.Says(t, s.Told("fence"), "result", "exit code 0")
	pool.Says(t, s.Told("fence"), "old", "n1")
	s.Pool.WaitLog("fence of n1")
}

func TestAFailedFencePromotesNothingUntilItIsBegunAnewByCommand(t *testing.T) {
	t.Parallel()
	s, fence := cutOff(t, "exit 3")
	s.Kill(1)
	s.Held("failover_fence_script ended with exit code 3")
	s.Pool.WaitState("n1", "Failed")
	pool.Says(t, s.Server("n1"), "EndedBy", "pgagroal-cli clear server n1")
	s.Quiet(time.Second)
	cutTimes(s, fence, 1)
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.Pool.Hook("fence.sh", ": > "+filepath.Join(s.Pool.Dir, "hooks", "cut"))
	if out, errs, code := s.Pool.CLI("clear", "server", "n1"); code != 0 {
		t.Fatalf("clear server: exit %d\n%s%s", code, out, errs)
	}
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	cutTimes(s, fence, 2)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAFenceWhoseSupervisorDiedIsNotRepeatedAndPromotesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	g := latch{t, filepath.Join(s.Pool.Dir, "hooks", "gate")}
	fence := s.Pool.Hook("fence.sh", g.wait())
	s.Pool.SetKey("failover_fence_script", fence.Path)
	s.Pool.Run()
	t.Cleanup(g.open)
	s.Opened("n1")
	s.Kill(1)
	fence.WaitRuns(1)
	s.Pool.Kill()
	s.Pool.Restart()
	s.Held("the supervisor ended during failover_fence_script")
	g.open()
	s.Seen("n1", "refused")
	s.Quiet(time.Second)
	cutTimes(s, fence, 1)
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Same()
}

func TestAFenceScriptThatCannotRunIsAnAlarmBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, pool.Plan{Before: func(s *pool.Scene) {
		s.Pool.SetKey("failover_fence_script", s.Pool.Path("hooks/none.sh"))
	}})
	runnerAt(s.Pool, s.Pool.Path("pgagroal.conf"))
	s.Pool.Run()
	s.Opened("n1")
	s.Alarmed("failover_fence_script can't run")
	runner, _ := s.Status()["Runner"].(map[string]any)
	pool.Says(t, runner, "Problems", "none.sh")
}
