package supervisor

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// refused expects that the machine was told, once, that nothing was executed.
func (w *world) refused(why string) {
	w.t.Helper()
	ended := eventsOf[failover.RunEnded](w)
	if len(ended) != 1 || !strings.Contains(ended[0].Refused, why) || len(eventsOf[failover.RunLost](w)) != 0 {
		w.t.Fatalf("ended %+v, lost %+v", ended, eventsOf[failover.RunLost](w))
	}
	if w.s.runner.current != nil {
		w.t.Error("the run is still waited for")
	}
}

func (w *world) undecided(what string) {
	w.t.Helper()
	if n := len(eventsOf[failover.RunEnded](w)) + len(eventsOf[failover.RunLost](w)); n != 0 {
		w.t.Fatalf("decided %s: %+v", what, w.machine.events)
	}
}

func TestARunSaysWhenItExpires(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	want := (w.s.env.sinceBoot() + runExpiry).Milliseconds()
	if sent := messagesOf[*ipc.Run](r); sent[0].Expires != want {
		t.Errorf("expires at %d, want %d", sent[0].Expires, want)
	}
}

func TestARunThatIsNotStartedInTimeIsGivenUpWithItsRunner(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.advance(runExpiry)
	if r.killed {
		t.Fatal("killed before the run has expired")
	}
	w.advance(runSlack)
	if !r.killed || !r.closed {
		t.Fatalf("killed %v, closed %v", r.killed, r.closed)
	}
	w.advance(time.Minute)
	w.undecided("before the runner was seen dead")
	r.exited("signal: killed")
	w.advance(groupLook)
	w.refused("it has not started a script within 10s")
}

func TestAServicesRunIsNotOverBeforeItHasExpired(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.act(run("r"))
	r.ended(io.EOF)
	w.advance(runExpiry - groupLook)
	w.undecided("although the runner may still start it")
	w.advance(2 * groupLook)
	w.refused("was lost before it had started anything")
}

func TestAServicesRunThatIsNotStartedInTimeIsGivenUp(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.act(run("r"))
	w.advance(runExpiry + runSlack)
	if !r.closed {
		t.Fatal("the link is still open")
	}
	w.refused("it has not started a script within 10s")
}

// After RunStarting nobody can know whether the script was executed.
func TestARunThatMayHaveBegunIsLost(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarting{RunID: "r"})
	w.advance(runExpiry + runSlack)
	if !r.killed || len(eventsOf[failover.RunLost](w)) != 1 {
		t.Fatalf("killed %v, %+v", r.killed, w.machine.events)
	}
	if n := w.s.console.figures.runs[ipc.RunCount{Hook: failover.HookFailover, Outcome: outcomeUnknown}]; n != 1 {
		t.Errorf("%d runs of unknown outcome are counted, want 1", n)
	}
	r.exited("signal: killed")
	w.advance(groupLook)
	if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "r"}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
		t.Error(diff)
	}
	if n := len(eventsOf[failover.RunEnded](w)); n != 0 {
		t.Errorf("%d outcomes are told of", n)
	}
}

// The runner's last messages may be lost with a link that didn't end by itself.
func TestALinkThatBreaksLeavesTheOutcomeOpen(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	r.ended(io.ErrUnexpectedEOF)
	w.settle()
	if n := len(eventsOf[failover.RunLost](w)); n != 1 {
		t.Errorf("lost %d times", n)
	}
}

// The supervisor itself was stopped: its deadlines are due before it has read the
// messages that arrived meanwhile.
func TestASupervisorThatWasStoppedListensBeforeItGivesUp(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.now += time.Hour
	w.s.timers.run(w.now)
	if r.killed {
		t.Fatal("given up at once")
	}
	w.say(r, &ipc.RunStarting{RunID: "r"})
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "failover"})
	w.advance(time.Minute)
	if diff := cmp.Diff([]failover.RunEnded{{RunID: "r", Hook: "failover"}}, eventsOf[failover.RunEnded](w)); diff != "" {
		t.Error(diff)
	}
}

func TestARunnerThatNeverTellsTheEndIsGivenUp(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	w.advance(time.Minute + w.s.cfg.FailoverKillDelay + unkillable)
	if r.killed {
		t.Fatal("killed while it may still end the script")
	}
	w.advance(runnerLate)
	if !r.killed || len(eventsOf[failover.RunLost](w)) != 1 {
		t.Fatalf("killed %v, %+v", r.killed, w.machine.events)
	}
	r.exited("signal: killed")
	w.advance(groupLook)
	if diff := cmp.Diff([]bool{true}, w.signals); diff != "" {
		t.Errorf("what is left of the script: %s", diff)
	}
}

func TestWhatCannotBeEndedIsNotWaitedForWithoutEnd(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	r.exited("signal: killed")
	w.strangers = true // and the group is never empty
	w.s.shutNow()
	w.advance(time.Minute + w.s.cfg.FailoverKillDelay + unkillable)
	if w.s.over {
		t.Fatal("over before its time")
	}
	w.advance(runnerLate + groupLook)
	if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "r", GivenUp: true}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
		t.Fatal(diff)
	}
	w.advance(2 * runnerLimit) // for the runner that was started meanwhile
	if !w.s.over {
		t.Error("pgagroal never ends")
	}
	looks := 0
	w.s.env.groupEmpty = func(int) bool { looks++; return false }
	w.advance(time.Minute)
	if looks != 0 {
		t.Errorf("%d looks after it was given up", looks)
	}
}

func TestARunnerThatCannotBeKilledIsLeftBehind(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.s.shutNow()
	w.advance(2*runnerLimit - time.Millisecond)
	if !r.killed || w.s.over {
		t.Fatalf("killed %v, over %v", r.killed, w.s.over)
	}
	w.advance(time.Millisecond)
	if !w.s.over {
		t.Error("pgagroal never ends")
	}
}

func TestProcessesThatAreLeftAreNamed(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "failover", Exit: -1, TimedOut: true, Left: []int{17, 18}})
	if diff := cmp.Diff([]failover.RunEnded{{RunID: "r", Hook: "failover", Exit: -1, TimedOut: true, Left: "17 18"}}, eventsOf[failover.RunEnded](w)); diff != "" {
		t.Error(diff)
	}
}

// beating lets a runner answer its heartbeat for so long.
func (w *world) beating(r *fakeChild, d time.Duration, clock func() time.Duration) {
	w.t.Helper()
	answered := 0
	for end := w.now + d; w.now < end; w.advance(runnerBeat / 3) {
		if asked := messagesOf[*ipc.CheckHooks](r); len(asked) > answered {
			answered = len(asked)
			w.say(r, &ipc.HooksChecked{ID: asked[answered-1].ID, Clock: clock().Milliseconds()})
		}
	}
}

func TestAHangingRunnerIsAnAlarmWithinSeconds(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.beating(r, time.Minute, w.s.env.sinceBoot)
	if n := len(eventsOf[failover.RunnerSilent](w)); n != 0 {
		t.Fatalf("%d alarms of one that answers", n)
	}
	w.advance(15*time.Second - runnerBeat)
	if silent := eventsOf[failover.RunnerSilent](w); len(silent) != 1 || !strings.Contains(silent[0].Reason, "has not answered for") {
		t.Fatalf("%+v", silent)
	}
	w.beating(r, runnerBeat, w.s.env.sinceBoot)
	if silent := eventsOf[failover.RunnerSilent](w); len(silent) != 2 || silent[1].Reason != "" {
		t.Errorf("it answers again: %+v", silent)
	}
	if len(eventsOf[failover.RunnerDown](w)) != 0 {
		t.Error("a run could not even be asked for")
	}
}

func TestAHangingRunnerOfOursIsReplacedUnlessAScriptRuns(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "with a script": true} {
		w := newWorld(t, 0, withFailover)
		r := w.runnerUp()
		if busy {
			a := run("r")
			a.Timeout = time.Hour
			w.act(a)
			w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
		}
		w.advance(runnerReplace + runnerBeat)
		if r.killed == busy {
			t.Errorf("%s: killed %v", name, r.killed)
		}
		if silent := eventsOf[failover.RunnerSilent](w); len(silent) == 0 || (silent[len(silent)-1].Reason != "") != busy {
			t.Errorf("%s: %+v", name, silent)
		}
	}
}

func TestASupervisorThatWasStoppedDoesNotBlameTheRunner(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.beating(r, runnerBeat, w.s.env.sinceBoot)
	w.now += time.Hour
	w.advance(runnerBeat)
	if r.killed || len(eventsOf[failover.RunnerSilent](w)) != 0 {
		t.Errorf("killed %v, %+v", r.killed, w.machine.events)
	}
}

func TestARunnerWithAnotherClockCannotRun(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.beating(r, 2*runnerBeat, func() time.Duration { return w.s.env.sinceBoot() + time.Hour })
	if down := eventsOf[failover.RunnerDown](w); len(down) != 1 || !strings.Contains(down[0].Reason, "clock") {
		t.Fatalf("%+v", down)
	}
	w.beating(r, 2*runnerBeat, w.s.env.sinceBoot)
	if n := len(eventsOf[failover.RunnerUp](w)); n != 2 {
		t.Errorf("up %d times", n)
	}
}

func TestTheSecretIsShownToAServiceAlone(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	if got := messagesOf[*ipc.RunnerConfigure](r)[0].Secret; got != "secret" {
		t.Errorf("a service is shown %q", got.Reveal())
	}
	w = newWorld(t, 0, withFailover)
	r = w.runnerUp()
	if got := messagesOf[*ipc.RunnerConfigure](r)[0].Secret; got != "" {
		t.Error("a runner of ours is shown the secret")
	}
}
