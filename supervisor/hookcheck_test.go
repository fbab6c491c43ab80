package supervisor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// checkedRehearsal is a rehearsal with two scripts that know checks.
type checkedRehearsal struct {
	*world
	runner *fakeChild
	got    *control.RehearsalResponse
}

func rehearseScripts(t *testing.T) *checkedRehearsal {
	t.Helper()
	w := newWorld(t, 0, withFailover)
	w.settings = func(ipc.Target) (map[string]string, error) { return map[string]string{}, nil }
	x := &checkedRehearsal{world: w, runner: w.runnerUp()}
	w.s.rehearse(&rehearsal{
		Rehearsal: &failover.Rehearsal{Runs: []failover.Planned{
			{Hook: failover.HookFailover, Args: []string{"a", "1", "b", "2"}, Env: map[string]string{"PGAGROAL_REASON": "rehearsal"}},
			{Hook: failover.HookNotify, Args: []string{"a", "1", "b", "2"}},
		}},
		done: func(r control.RehearsalResponse, err error) { x.got = &r },
	})
	w.settle()
	w.say(x.runner, &ipc.HooksChecked{ID: 1, Hooks: []ipc.HookCheck{
		{Hook: failover.HookFailover, KnowsCheck: true}, {Hook: failover.HookNotify, KnowsCheck: true},
	}})
	return x
}

// asked returns the check that was asked for last, the nth.
func (x *checkedRehearsal) asked(n int) *ipc.CheckRun {
	x.t.Helper()
	list := messagesOf[*ipc.CheckRun](x.runner)
	if len(list) != n {
		x.t.Fatalf("%d checks were asked for, not %d", len(list), n)
	}
	return list[n-1]
}

// end answers the nth check.
func (x *checkedRehearsal) end(n int, end ipc.RunEnded) {
	x.t.Helper()
	m := x.asked(n)
	end.RunID, end.Hook = m.RunID, m.Hook
	x.say(x.runner, &ipc.RunOutput{RunID: m.RunID, Line: "this is " + m.Hook})
	x.say(x.runner, &end)
}

// results are those of the two checks.
func (x *checkedRehearsal) results() []string {
	x.t.Helper()
	if x.got == nil {
		x.t.Fatal("no answer")
	}
	var out []string
	for _, r := range x.got.Runs {
		out = append(out, r.Check.Result)
	}
	return out
}

func TestARehearsalTellsWhatScriptsSayOfThemselves(t *testing.T) {
	x := rehearseScripts(t)
	if m := x.asked(1); m.Hook != failover.HookFailover || m.Env["REASON"] != "rehearsal" || len(m.Args) != 4 {
		t.Errorf("asked for %+v", m)
	}
	x.end(1, ipc.RunEnded{Exit: 1})
	x.end(2, ipc.RunEnded{})
	if d := cmp.Diff([]string{"failed: exit code 1", "passed"}, x.results()); d != "" {
		t.Error(d)
	}
	if w := x.got.Runs[0].Check.Words; !slices.Equal(w, []string{"this is failover"}) {
		t.Errorf("words %q", w)
	}
	want := []string{": the failover script says that it couldn't do its work (failed: exit code 1): this is failover"}
	if d := cmp.Diff(want, texts(x.got.Problems)); d != "" || x.got.Well {
		t.Errorf("well %v %s", x.got.Well, d)
	}
	if n := len(eventsOf[failover.RunEnded](x.world)); n != 0 || x.s.runner.current != nil {
		t.Errorf("the machine was told of %d runs", n)
	}
}

func TestAScriptThatMustRunIsNotKeptByACheck(t *testing.T) {
	x := rehearseScripts(t)
	first := x.asked(1)
	x.s.startRun(failover.StartRun{RunID: "r1", Hook: failover.HookFailover, Timeout: time.Minute})
	x.settle()
	if n := len(messagesOf[*ipc.Run](x.runner)); n != 1 {
		t.Fatalf("%d runs were asked for while a check was in progress", n)
	}
	x.say(x.runner, &ipc.RunEnded{RunID: first.RunID, Hook: first.Hook, Exit: -1, Signal: "SIGKILL"})
	x.asked(1) // no check is asked for beside the run
	if d := cmp.Diff([]string{"unknown: it was ended because a script had to run", "not run: a script runs"}, x.results()); d != "" {
		t.Error(d)
	}
	x.say(x.runner, &ipc.RunEnded{RunID: "r1", Hook: failover.HookFailover})
	if n := len(eventsOf[failover.RunEnded](x.world)); n != 1 {
		t.Errorf("the machine was told of %d runs, not of the one", n)
	}
}

func TestARehearsalEndsWithoutItsRunner(t *testing.T) {
	x := rehearseScripts(t)
	x.s.dropRunner(x.s.runner.end, "test")
	x.settle()
	if got := x.results(); got[0] != "unknown: the script runner is gone" || got[1] != "not run: no script can run" {
		t.Errorf("results %q", got)
	}
}

func TestARehearsalEndsWithARunnerThatHangs(t *testing.T) {
	x := rehearseScripts(t)
	id := x.asked(1).RunID
	x.advance(hookCheckLimit + time.Millisecond)
	x.end(2, ipc.RunEnded{})
	if got := x.results(); !strings.Contains(got[0], "has not answered within 26s") {
		t.Errorf("results %q", got)
	}
	x.say(x.runner, &ipc.RunEnded{RunID: id, Hook: failover.HookFailover}) // much later
	if n := len(eventsOf[failover.RunEnded](x.world)); n != 0 {
		t.Errorf("the machine was told of %d runs", n)
	}
}

func TestScriptsThatDeclareNothingAreNotRunByARehearsal(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.rehearse(map[string]string{}, []ipc.HookCheck{{Hook: failover.HookFailover}})
	if got := r.Runs[0].Check.Result; got != "not run: it doesn't declare that it knows PGAGROAL_CHECK" || !r.Well {
		t.Errorf("well %v: %q", r.Well, got)
	}
	if n := len(messagesOf[*ipc.CheckRun](w.children[len(w.children)-1])); n != 0 {
		t.Errorf("%d checks were asked for", n)
	}
}
