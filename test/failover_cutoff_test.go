package test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// cutOff starts a scene of n1 and n2 with a failover_fence_script, and a
// failover_script that fails unless the other one has ended before it.
func cutOff(t *testing.T, script string) (s *scene, fence *Hook) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s = ready(t, c, plan{keys: hasty(nil)})
	cut := filepath.Join(s.p.Dir, "hooks", "cut")
	s.failover = s.p.hook("failover.sh", fmt.Sprintf("test -e %s || exit 8\n", cut)+promote(c))
	fence = s.p.hook("fence.sh", script+"\n: > "+cut)
	s.p.setKey("failover_fence_script", fence.Path)
	s.p.Run()
	s.opened("n1")
	return s, fence
}

// cutTimes checks how often n1 was cut off so far.
func (s *scene) cutTimes(fence *Hook, n int) {
	s.t.Helper()
	var want [][]string
	for range n {
		want = append(want, args(s.node(1)))
	}
	if d := cmp.Diff(want, fence.Runs()); d != "" {
		s.t.Errorf("runs of failover_fence_script (-want +got):\n%s", d)
	}
}

func TestTheOldPrimaryIsCutOffBeforeAnotherOneIsPromoted(t *testing.T) {
	t.Parallel()
	s, fence := cutOff(t, "echo $PGAGROAL_HOOK of $PGAGROAL_OLD_NAME")
	s.kill(1)
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.cutTimes(fence, 1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
	says(t, s.told("fence"), "result", "exit code 0")
	says(t, s.told("fence"), "old", "n1")
	s.p.WaitLog("fence of n1")
}

func TestAFailedFencePromotesNothingUntilItIsBegunAnewByCommand(t *testing.T) {
	t.Parallel()
	s, fence := cutOff(t, "exit 3")
	s.kill(1)
	s.held("failover_fence_script ended with exit code 3")
	s.p.WaitState("n1", "Failed")
	says(t, s.server("n1"), "EndedBy", "pgagroal-cli clear server n1")
	s.quiet(time.Second)
	s.cutTimes(fence, 1)
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.p.hook("fence.sh", ": > "+filepath.Join(s.p.Dir, "hooks", "cut"))
	if out, errs, code := s.p.CLI("clear", "server", "n1"); code != 0 {
		t.Fatalf("clear server: exit %d\n%s%s", code, out, errs)
	}
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.cutTimes(fence, 2)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAFenceWhoseSupervisorDiedIsNotRepeatedAndPromotesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(nil)})
	g := latch{t, filepath.Join(s.p.Dir, "hooks", "gate")}
	fence := s.p.hook("fence.sh", g.wait())
	s.p.setKey("failover_fence_script", fence.Path)
	s.p.Run()
	t.Cleanup(g.open)
	s.opened("n1")
	s.kill(1)
	fence.WaitRuns(1)
	s.p.Kill()
	s.p.Restart()
	s.held("the supervisor ended during failover_fence_script")
	g.open()
	s.seen("n1", "refused")
	s.quiet(time.Second)
	s.cutTimes(fence, 1)
	must(t, s.node(1).Start(within(t)))
	s.same()
}

func TestAFenceScriptThatCannotRunIsAnAlarmBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	s := separate(t, 1, plan{before: func(s *scene) {
		s.p.setKey("failover_fence_script", s.p.path("hooks/none.sh"))
	}})
	s.p.runnerAt(s.p.path("pgagroal.conf"))
	s.p.Run()
	s.opened("n1")
	s.alarmed("failover_fence_script can't run")
	runner, _ := s.status()["Runner"].(map[string]any)
	says(t, runner, "Problems", "none.sh")
}
