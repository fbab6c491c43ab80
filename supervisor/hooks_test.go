package supervisor

import (
	"bytes"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func withFailover(c *config.Config) { c.Failover = true; c.FailoverScript = "/script" }

func withService(c *config.Config) { withFailover(c); c.ScriptrunnerSocket = "/run/runner" }

// runnerUp starts a runner that has read the same as we.
func (w *world) runnerUp() *fakeChild {
	w.t.Helper()
	w.s.linkRunner()
	w.settle()
	return w.runnerReady(&ipc.RunnerReady{})
}

func (w *world) runnerReady(m *ipc.RunnerReady) *fakeChild {
	w.t.Helper()
	r := w.children[len(w.children)-1]
	if r.spec.role != proc.RoleRunner {
		w.t.Fatal("no runner was started")
	}
	w.say(r, &ipc.RunnerHello{Version: ipc.Version, PID: 77})
	m.Digest = w.s.cfg.HooksDigest()
	w.say(r, m)
	return r
}

// A service of the version before runs on when another version is installed.
func TestRunnerOfAnotherBuildIsUsedAndTold(t *testing.T) {
	for build, told := range map[string]bool{"1": false, "2": true} {
		w := newWorld(t, 0, withService)
		var log bytes.Buffer
		w.s.log, w.s.build = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})), "1"
		w.s.linkRunner()
		w.settle()
		r := w.children[len(w.children)-1]
		w.say(r, &ipc.RunnerHello{Version: ipc.Version, PID: 77, Build: build})
		if strings.Contains(log.String(), `msg="the script runner is of another build" runner=2 pgagroal=1`) != told {
			t.Errorf("of a runner of %s: %s", build, &log)
		}
		if len(messagesOf[*ipc.RunnerConfigure](r)) != 1 {
			t.Errorf("a runner of %s isn't used", build)
		}
	}
}

// Without state_dir in the configuration the supervisor chooses a directory, and the runner looks for the proof there.
func TestProofLiesInTheStateDirThatIsUsed(t *testing.T) {
	w := newWorld(t, 0, withService)
	w.s.dir.Path = "/chosen"
	var in []string
	w.s.env.prove = func(dir string) (ipc.Secret, error) {
		in = append(in, dir)
		return "secret", nil
	}
	w.s.linkRunner()
	w.settle()
	if want := []string{"/chosen"}; !slices.Equal(in, want) {
		t.Errorf("the proof lies in %q, want %q", in, want)
	}
}

func run(id string) failover.StartRun {
	return failover.StartRun{RunID: id, Hook: failover.HookFailover, Args: []string{"a", "1", "b", "2"}, Timeout: time.Minute}
}

func TestRunnerOnlyWhereScriptsRun(t *testing.T) {
	mode := func(m string) func(*config.Config) {
		return func(c *config.Config) { withFailover(c); c.FailoverMode, c.FailoverNotifyScript = m, "/notify" }
	}
	for name, k := range map[string]struct {
		change          func(*config.Config)
		enabled, follow bool
	}{
		"failover off": {func(*config.Config) {}, false, false}, "mode off": {mode(config.ModeOff), false, false},
		"mode follow": {mode(config.ModeFollow), true, true},
	} {
		w := newWorld(t, 0, k.change)
		w.s.linkRunner()
		w.settle()
		m := machineConfig(w.s.cfg)
		if len(w.children) != 0 || m.NotifyConfigured {
			t.Errorf("%s: scripts would run", name)
		}
		if m.Enabled != k.enabled || m.Follow != k.follow {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if !machineConfig(newWorld(t, 0, withFailover).s.cfg).Enabled {
		t.Error("no script would run")
	}
}

func TestRunnerThatReadOtherHooksIsDown(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.s.linkRunner()
	w.settle()
	w.say(w.children[0], &ipc.RunnerHello{Version: ipc.Version})
	w.say(w.children[0], &ipc.RunnerReady{Digest: "another"})
	down := eventsOf[failover.RunnerDown](w)
	if len(down) != 1 || !strings.Contains(down[0].Reason, "other hooks") || len(eventsOf[failover.RunnerUp](w)) != 0 {
		t.Errorf("%+v", down)
	}
	w.act(run("r"))
	if ended := eventsOf[failover.RunEnded](w); len(ended) != 1 || ended[0].Refused == "" {
		t.Errorf("%+v", ended)
	}
}

func TestHookThatCannotRunIsToldBeforeItIsNeeded(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.s.linkRunner()
	w.settle()
	w.runnerReady(&ipc.RunnerReady{Hooks: []ipc.HookCheck{{Hook: failover.HookFailover, Problem: "not executable"}}})
	if down := eventsOf[failover.RunnerDown](w); len(down) != 1 || !strings.Contains(down[0].Reason, "not executable") {
		t.Errorf("%+v", down)
	}
}

// A notify script that can't run keeps no run away. The machine is told when that
// begins and when it is over, and not more often.
func TestBrokenNotifyScriptIsToldOnceAndAgainWhenItIsMended(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.s.linkRunner()
	w.settle()
	broken := []ipc.HookCheck{{Hook: failover.HookNotify, Problem: "not executable"}}
	w.runnerReady(&ipc.RunnerReady{Hooks: broken})
	w.s.onHooksChecked(w.s.runner.end, &ipc.HooksChecked{Hooks: broken})
	w.s.onHooksChecked(w.s.runner.end, &ipc.HooksChecked{})
	w.s.onHooksChecked(w.s.runner.end, &ipc.HooksChecked{})
	told := eventsOf[failover.NotifyBroken](w)
	if diff := cmp.Diff([]failover.NotifyBroken{{Reason: "not executable"}, {}}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if down := eventsOf[failover.RunnerDown](w); len(down) != 0 {
		t.Errorf("no run has to wait for the notify script, but %+v", down)
	}
}

func TestFenceScriptThatCannotRunKeepsEveryRunAway(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	w.s.linkRunner()
	w.settle()
	w.runnerReady(&ipc.RunnerReady{Hooks: []ipc.HookCheck{{Hook: failover.HookFence, Problem: "not executable"}}})
	if down := eventsOf[failover.RunnerDown](w); len(down) != 1 || !strings.Contains(down[0].Reason, "failover_fence_script can't run") {
		t.Errorf("%+v", down)
	}
}

func TestRunAndItsOutput(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	if len(eventsOf[failover.RunnerUp](w)) != 1 {
		t.Fatal("not up")
	}
	w.act(run("r"))
	if sent := messagesOf[*ipc.Run](r); len(sent) != 1 || sent[0].Hook != "failover" || len(sent[0].Args) != 4 {
		t.Fatalf("%+v", sent)
	}
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	for range 100 {
		w.say(r, &ipc.RunOutput{RunID: "r", Line: "line"})
	}
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "failover", Exit: -1, Signal: "SIGTERM", TimedOut: true})
	want := []failover.RunEnded{{RunID: "r", Hook: "failover", Exit: -1, Signal: 15, TimedOut: true}}
	if diff := cmp.Diff(want, eventsOf[failover.RunEnded](w)); diff != "" {
		t.Error(diff)
	}
	w.s.record(failover.HistoryEntry{RunID: "r"})
	if n := strings.Count(string(w.s.history.entries[0]), "line"); n != outputLines {
		t.Errorf("%d lines in the history", n)
	}
}

func TestEachEventOfARunIsOneLine(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	var log strings.Builder
	w.s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	a := run("r")
	a.Env = map[string]string{"PGAGROAL_OLD_NAME": "one", "PGAGROAL_NEW_NAME": "two"}
	w.act(a)
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "failover", Exit: 3, DurationMS: 70})
	w.act(run("s"))
	w.say(r, &ipc.RunStarted{RunID: "s", PGID: 501})
	w.say(r, &ipc.RunEnded{RunID: "s", Hook: "failover", Exit: -1, Signal: "SIGKILL", TimedOut: true, DurationMS: 80})
	w.act(run("u"))
	w.say(r, &ipc.RunEnded{RunID: "u", Hook: "failover", Exit: -1, Refused: "not executable"})
	want := `msg="script is started" run=r hook=failover old=one new=two args="` + strings.Join(a.Args, " ") + `" pid=500
msg="script has ended" run=r hook=failover exit=3 ms=70
msg="script is started" run=s hook=failover old="" new="" args="` + strings.Join(a.Args, " ") + `" pid=501
msg="script has ended" run=s hook=failover signal=SIGKILL timed_out=true ms=80
msg="script was refused" run=u hook=failover why="not executable"
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRunIsStoppedByItsRunner(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(failover.StopRun{RunID: "r"}) // nothing runs
	w.act(run("r"))
	w.act(failover.StopRun{RunID: "another"})
	w.act(failover.StopRun{RunID: "r", Why: "its new primary is dead"})
	if diff := cmp.Diff([]*ipc.StopRun{{RunID: "r"}}, messagesOf[*ipc.StopRun](r)); diff != "" {
		t.Fatal(diff)
	}
	if len(eventsOf[failover.RunEnded](w)) != 0 {
		t.Error("over before the runner has said so")
	}
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "notify", Exit: -1, Signal: "SIGTERM"})
	want := []failover.RunEnded{{RunID: "r", Hook: "notify", Exit: -1, Signal: 15}}
	if diff := cmp.Diff(want, eventsOf[failover.RunEnded](w)); diff != "" {
		t.Error(diff)
	}
}

func TestLostRunIsWatchedUntilNothingIsLeft(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	w.settle()
	if len(eventsOf[failover.RunLost](w)) != 1 || len(eventsOf[failover.RunnerDown](w)) != 1 {
		t.Fatal("not lost")
	}
	if r.killed {
		t.Error("a runner with a script was killed")
	}
	empty := func(what string) {
		t.Helper()
		w.advance(time.Second)
		if len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
			t.Fatal("over although " + what)
		}
	}
	empty("the runner lives")
	r.exited("exit status 1")
	empty("the group lives")
	w.groupEmpty, w.strangers = true, true
	empty("a process is left")
	w.strangers = false
	w.advance(time.Second)
	if len(eventsOf[failover.RunGroupEmpty](w)) != 1 {
		t.Error("never over")
	}
	if len(w.children) != 2 {
		t.Error("no other runner was started")
	}
}

func TestLostRunIsEndedAtItsTimeout(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	r.exited("signal: killed")
	w.advance(59 * time.Second)
	if len(w.signals) != 0 {
		t.Fatal("ended before its time")
	}
	w.advance(2 * time.Second)
	if diff := cmp.Diff([]bool{false}, w.signals); diff != "" {
		t.Fatal(diff)
	}
	w.advance(w.s.cfg.FailoverKillDelay + time.Minute)
	if diff := cmp.Diff([]bool{false, true}, w.signals); diff != "" {
		t.Error(diff)
	}
}

func TestRunnerThatIsLateWithATimeoutIsKilled(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarting{RunID: "r"})
	r.ended(io.EOF)
	w.advance(time.Minute + w.s.cfg.FailoverKillDelay)
	if r.killed {
		t.Fatal("too early")
	}
	w.advance(2 * runnerLate)
	if !r.killed {
		t.Error("not killed")
	}
}

func TestServiceRunnerTellsWhatBecameOfARun(t *testing.T) {
	w := newWorld(t, 0, withService)
	w.s.runner.inherits.id = "old"
	w.s.linkRunner()
	w.settle()
	r := w.runnerReady(&ipc.RunnerReady{Running: "old"})
	if len(eventsOf[failover.RunGroupEmpty](w)) != 0 {
		t.Fatal("over although it runs")
	}
	w.say(r, &ipc.RunEnded{RunID: "old", Hook: "failover", Exit: 4})
	if diff := cmp.Diff([]failover.RunEnded{{RunID: "old", Hook: "failover", Exit: 4}}, eventsOf[failover.RunEnded](w)); diff != "" {
		t.Error(diff)
	}
	w.act(run("new"))
	w.say(r, &ipc.RunStarting{RunID: "new"})
	r.ended(io.EOF)
	w.settle()
	w.advance(time.Second)
	w.runnerReady(&ipc.RunnerReady{})
	if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "new"}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
		t.Error(diff)
	}
}

func TestServiceRunnerKnowsTheOutcomeOfARunWhoseEndWasMissed(t *testing.T) {
	results := []ipc.RunEnded{
		{RunID: "before", Hook: "notify"},
		{RunID: "r", Hook: "failover", Exit: -1, Signal: "SIGTERM", TimedOut: true},
	}
	want := []failover.RunEnded{{RunID: "r", Hook: "failover", Exit: -1, Signal: 15, TimedOut: true}}
	for name, lose := range map[string]func(*world){
		"by a lost link": func(w *world) {
			r := w.runnerUp()
			w.act(run("r"))
			w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
			r.ended(io.EOF)
			w.settle()
			w.advance(time.Second)
		},
		"by the supervisor before": func(w *world) {
			w.s.runner.inherits.id = "r"
			w.s.linkRunner()
			w.settle()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0, withService)
			lose(w)
			w.runnerReady(&ipc.RunnerReady{Results: results})
			if diff := cmp.Diff(want, eventsOf[failover.RunEnded](w)); diff != "" {
				t.Error(diff)
			}
			if n := len(eventsOf[failover.RunGroupEmpty](w)); n != 0 || w.s.runner.current != nil || w.s.runner.inherits.id != "" {
				t.Errorf("told %d times that it is over, and waits for %v %q", n, w.s.runner.current, w.s.runner.inherits.id)
			}
		})
	}
}

func TestRunOfAServiceThatWasStartedAnewIsOverWhenNothingIsLeft(t *testing.T) {
	w := newWorld(t, 0, withService)
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	r.ended(io.EOF)
	w.settle()
	w.advance(time.Second)
	w.runnerReady(&ipc.RunnerReady{}) // another process, which knows nothing of it
	if n := len(eventsOf[failover.RunGroupEmpty](w)); n != 0 {
		t.Fatal("over although its processes live")
	}
	w.groupEmpty = true
	w.advance(groupLook)
	if diff := cmp.Diff([]failover.RunGroupEmpty{{RunID: "r"}}, eventsOf[failover.RunGroupEmpty](w)); diff != "" {
		t.Error(diff)
	}
}

func TestNamesOfVariablesGoToTheRunnerWithoutThePrefixThatItAdds(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.runnerUp()
	a := run("r")
	a.Env = map[string]string{"PGAGROAL_EPOCH": "4", "PGAGROAL_OLD_NAME": "PGAGROAL_x"}
	w.act(a)
	sent := messagesOf[*ipc.Run](r)
	if diff := cmp.Diff(map[string]string{"EPOCH": "4", "OLD_NAME": "PGAGROAL_x"}, sent[0].Env); diff != "" {
		t.Error(diff)
	}
}

func TestShutdownDrainsThenKills(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.arrive()
	w.s.shutNow()
	if len(messagesOf[*ipc.Drain](w.children[0])) != 1 || len(eventsOf[failover.Stopping](w)) != 1 {
		t.Fatal("not drained")
	}
	w.say(w.children[0], &ipc.Drained{})
	if !w.children[0].closed || w.children[0].killed {
		t.Error("a drained worker's link is not closed")
	}
	w.die(w.children[0])
	w.advance(drainLimit + time.Millisecond)
	if !w.children[1].killed || w.s.over {
		t.Fatalf("killed %v, over %v", w.children[1].killed, w.s.over)
	}
	w.die(w.children[1])
	if !w.s.over || w.s.result != nil {
		t.Errorf("over %v, %v", w.s.over, w.s.result)
	}
	if len(w.children) != 2 {
		t.Error("a worker was started again")
	}
}

func TestNothingIsOpenedAheadDuringAShutdown(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Users = []config.Credential{{Name: "u", Password: "p"}}
		c.Limits = []config.Limit{{Database: config.Named("d"), User: config.Named("u"), MaxSize: 2, InitialSize: 1, MinSize: 1}}
	})
	w.up()
	given := messagesOf[*ipc.OpenAhead](w.children[0])
	if len(given) != 1 {
		t.Fatalf("%d leases given ahead", len(given))
	}
	w.say(w.children[0], &ipc.LeaseOpened{Lease: given[0].Lease, PID: 7})
	w.s.shutNow()
	w.say(w.children[0], &ipc.LeaseReturn{Lease: given[0].Lease})
	w.s.publish(w.s.servers.snapshot)
	if n := len(messagesOf[*ipc.OpenAhead](w.children[0])); n != 1 {
		t.Errorf("%d more leases are given ahead to a worker that ends", n-1)
	}
}

func TestShutdownWaitsForAScriptEvenWhenAskedTwice(t *testing.T) {
	w := newWorld(t, 1, withFailover)
	w.up()
	r := w.runnerUp()
	w.act(run("r"))
	w.say(r, &ipc.RunStarted{RunID: "r", PGID: 500})
	w.machine.status.Run = &failover.RunStatus{ID: "r"}
	w.s.shutNow()
	w.s.shutNow()
	if !w.children[0].killed {
		t.Error("asked twice, the worker is still waited for")
	}
	w.die(w.children[0])
	w.advance(30 * time.Second)
	if w.s.over || r.killed || r.closed {
		t.Fatalf("over %v, runner killed %v, closed %v", w.s.over, r.killed, r.closed)
	}
	w.say(r, &ipc.RunEnded{RunID: "r", Hook: "failover"})
	if !r.closed || w.s.over {
		t.Fatalf("link closed %v, over %v", r.closed, w.s.over)
	}
	r.ended(io.EOF)
	r.exited("exit status 0")
	w.settle()
	if !w.s.over {
		t.Error("not over")
	}
}

func TestShutdownWaitsForTheRecord(t *testing.T) {
	w := newWorld(t, 0)
	w.act(failover.Save{Seq: 1})
	w.s.shutNow()
	if w.s.over {
		t.Fatal("over before the record was written")
	}
	w.settle()
	if !w.s.over {
		t.Error("not over")
	}
}

func TestGracefulShutdownWaitsForTheLastClient(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.arrive()
	w.s.shutGracefully(0)
	states := messagesOf[*ipc.ServerState](w.children[0])
	if !states[len(states)-1].Graceful || !w.s.clients.gate.IsOpen() {
		t.Error("new clients are not told")
	}
	w.live(10 * time.Minute)
	if len(messagesOf[*ipc.Drain](w.children[0])) != 0 {
		t.Fatal("it did not wait")
	}
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{1}})
	if len(messagesOf[*ipc.Drain](w.children[0])) != 1 {
		t.Error("it did not end")
	}
}

func TestGracefulShutdownEndsAtItsLimitAndCanBeCancelled(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.arrive()
	w.s.shutGracefully(time.Minute)
	if _, err := w.s.shutdownBy(control.ShutdownCancel, nil); err != nil {
		t.Fatal(err)
	}
	w.live(2 * time.Minute)
	states := messagesOf[*ipc.ServerState](w.children[0])
	if states[len(states)-1].Graceful || w.s.stop.mode != stopNot {
		t.Fatal("not cancelled")
	}
	limit := time.Second
	if _, err := w.s.shutdownBy(control.ShutdownGraceful, &limit); err != nil {
		t.Fatal(err)
	}
	w.advance(2 * time.Second)
	if w.s.stop.mode != stopNow {
		t.Error("its limit did not end it")
	}
	if _, err := w.s.shutdownBy(control.ShutdownCancel, nil); err == nil {
		t.Error("cancelled too late")
	}
}

func TestWatchdogIsToldAtOnceAndTwiceAnInterval(t *testing.T) {
	w := newWorld(t, 0)
	told := func() int { return strings.Count(strings.Join(w.notified, "\n"), "WATCHDOG=1") }
	w.s.service.watchdog = 10 * time.Second
	w.s.startWatchdog()
	if n := told(); n != 1 {
		t.Errorf("%d times at once; the program before an upgrade may have told it half an interval ago", n)
	}
	w.advance(20 * time.Second)
	if n := told(); n != 5 {
		t.Errorf("%d times", n)
	}
}

func TestServiceManagerIsToldOnceThatClientsAreServed(t *testing.T) {
	w := newWorld(t, 2)
	ready := 0
	w.s.service.onReady = func() { ready++ }
	w.up()
	w.s.publish(openAt(0, 1))
	if n := strings.Count(strings.Join(w.notified, "\n"), "READY=1"); n != 1 || ready != 1 {
		t.Errorf("%d times, %d", n, ready)
	}
}
