package scriptrunner

import (
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// forms starts the runner in both.
var forms = map[string]func(*rig){"spawned": (*rig).spawn, "service": (*rig).serve}

// unknown is the end of a run whose runner has died.
func unknown(id string) *ipc.RunEnded {
	return &ipc.RunEnded{RunID: id, Hook: "failover", Exit: -1, Unknown: true}
}

func TestRunOfADeadRunnerIsLookedAfterByTheNextOne(t *testing.T) {
	for name, start := range forms {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			open := r.gate("gate")
			r.script("failover", "echo up; read x < "+r.path("gate")+"; exit 7")
			r.script("notify", "exit 0")
			start(r)
			r.ready()
			m := r.newRun("failover")
			r.begin(m)
			r.line()
			r.crash()

			start(r)
			if got := r.ready(); got.Running != m.RunID || len(got.Results) != 0 {
				t.Fatalf("the next runner says %+v", got)
			}
			r.refused(r.newRun("notify"), "run "+m.RunID+", which a runner before this one has started, is still in progress")
			r.refused(m, "executed before")
			open()
			if diff := cmp.Diff(unknown(m.RunID), r.end()); diff != "" {
				t.Error(diff)
			}
			if e := r.perform(r.newRun("notify")); e.Exit != 0 {
				t.Errorf("a run after it ended with %+v", e)
			}
			r.crash()

			start(r)
			got := r.ready()
			if got.Running != "" || len(got.Results) != 2 || !got.Results[0].Unknown || got.Results[1].Unknown {
				t.Errorf("the runner after that says %+v", got)
			}
		})
	}
}

func TestEndThatNobodyHasSeenIsUnknownToTheNextRunner(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate"))
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	pid := r.begin(m)
	r.line()
	r.crash()
	open()
	waitUntil(t, "the script has ended", func() bool { return !proc.ProcessAlive(pid) })
	r.spawn()
	got := r.ready()
	if diff := cmp.Diff([]ipc.RunEnded{*unknown(m.RunID)}, got.Results); diff != "" || got.Running != "" {
		t.Errorf("running %q, results:\n%s", got.Running, diff)
	}
}

// A shell with job control gives each of its jobs a group.
func TestRunOfADeadRunnerIsNotOverWhileItsSessionLives(t *testing.T) {
	r := newRig(t, nil)
	first, second := r.gate("first"), r.gate("second")
	// Nobody reads its output any more, and the shell complains.
	r.script("failover", `echo up; exec >/dev/null 2>&1; read x < `+r.path("first")+`
bash -c 'set -m; (read x < `+r.path("second")+`) & echo $! > `+r.path("job")+`'`)
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	pid := r.begin(m)
	r.line()
	r.crash()
	first()
	waitUntil(t, "the script has ended", func() bool { return !proc.ProcessAlive(pid) })
	if b, err := os.ReadFile(r.path("job")); err != nil || !proc.GroupEmpty(pid) || !proc.ProcessAlive(number(t, string(b))) {
		t.Fatalf("the job %s isn't alone in another group: %v", b, err)
	}
	r.spawn()
	if got := r.ready(); got.Running != m.RunID {
		t.Errorf("the next runner says %+v", got)
	}
	second()
	if diff := cmp.Diff(unknown(m.RunID), r.end()); diff != "" {
		t.Error(diff)
	}
}

func TestTimeoutOfADeadRunnersRunIsEnforcedByTheNextOne(t *testing.T) {
	r := newRig(t, settings{"failover_kill_delay": "200ms"})
	r.script("failover", `
trap 'echo asked >> `+r.path("asked")+`' TERM
sleep 1001 & echo $!
setsid sh -c 'trap "" TERM; while :; do sleep 1002; done' & echo $!
echo $$
exec >/dev/null 2>&1 # nobody reads it any more when the shell tells of a signal
while :; do sleep 0.05; done`)
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	r.begin(m)
	pids := []int{number(t, r.line()), number(t, r.line()), number(t, r.line())}
	r.crash()
	r.expire(m.RunID)
	r.spawn()
	var e *ipc.RunEnded
	if got := r.ready(); got.Running == m.RunID {
		e = r.end()
	} else if len(got.Results) == 1 {
		e = &got.Results[0] // on a busy machine that was quicker
	}
	want := unknown(m.RunID)
	want.TimedOut = true
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	for _, pid := range pids {
		if proc.ProcessAlive(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
	if b, err := os.ReadFile(r.path("asked")); err != nil || strings.Count(string(b), "asked") != 1 {
		t.Errorf("SIGTERM came %d times, %v", strings.Count(string(b), "asked"), err)
	}
}

func TestServerThatADeadRunnersScriptStartedIsNoPartOfItsRun(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "setsid sleep 1000 >/dev/null 2>&1 & echo $!; read x < "+r.path("gate"))
	r.spawn()
	r.ready()
	m := r.newRun("failover")
	r.begin(m)
	server := number(t, r.line())
	killAtEnd(t, server)
	r.crash()
	r.spawn()
	r.ready()
	open()
	if diff := cmp.Diff(unknown(m.RunID), r.end()); diff != "" {
		t.Error(diff)
	}
	if !proc.ProcessAlive(server) {
		t.Error("the server was ended")
	}
}

// expire lets the time of a recorded run be over now.
func (r *rig) expire(id string) {
	r.t.Helper()
	rec, err := openRecord(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rec.close()
	e := rec.find(id)
	if e == nil || e.PID == 0 {
		r.t.Fatalf("run %s is recorded as %+v", id, e)
	}
	e.Deadline = proc.SinceBoot().Milliseconds()
	if err := rec.put(*e); err != nil {
		r.t.Fatal(err)
	}
}

// recorded writes what an earlier runner has left behind.
func (r *rig) recorded(e entry) {
	r.t.Helper()
	line, err := json.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(recordName), append(line, '\n'), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// bystander is a process in a session of its own, with the mark of a run.
func bystander(t *testing.T, mark string) (l proc.Leader, kill func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.Env = []string{runVariable + "=" + mark}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	l, err := proc.LeaderOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return l, kill
}

func TestProcessesOfOthersAreNotTakenForThoseOfARun(t *testing.T) {
	l, _ := bystander(t, "other")
	deadline := (proc.SinceBoot() + limit).Milliseconds()
	for name, e := range map[string]entry{
		"another boot":             {Boot: "another", PID: l.PID, Start: l.Start},
		"the id was given away":    {Boot: l.Boot, PID: l.PID, Start: "1"},
		"never started":            {Boot: l.Boot},
		"never started, long past": {Boot: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			e.ID, e.Hook, e.Deadline = r.id(1), "failover", deadline
			r.recorded(e)
			r.spawn()
			got := r.ready()
			if diff := cmp.Diff([]ipc.RunEnded{*unknown(e.ID)}, got.Results); diff != "" || got.Running != "" {
				t.Errorf("running %q, results:\n%s", got.Running, diff)
			}
		})
	}
	if !proc.ProcessAlive(l.PID) {
		t.Error("the process of another was ended")
	}
}

func TestScriptOfARunnerThatDiedAtItsStartIsFoundByItsMark(t *testing.T) {
	r := newRig(t, nil)
	id := r.id(1)
	l, kill := bystander(t, id)
	r.recorded(entry{ID: id, Hook: "failover", Boot: l.Boot, Deadline: (proc.SinceBoot() + limit).Milliseconds()})
	r.spawn()
	if got := r.ready(); got.Running != id {
		t.Fatalf("the runner says %+v", got)
	}
	kill()
	if diff := cmp.Diff(unknown(id), r.end()); diff != "" {
		t.Error(diff)
	}
}

func TestRecordOfAnEarlierReleaseStillKeepsRunsFromBeingRepeated(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", "exit 0")
	if err := os.WriteFile(r.path(recordName), []byte(r.id(1)+"\n"+r.id(2)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.spawn()
	if got := r.ready(); got.Running != "" || len(got.Results) != 0 {
		t.Errorf("the runner says %+v", got)
	}
	r.refused(r.newRun("failover"), "executed before")
	r.refused(r.newRun("failover"), "executed before")
	if e := r.perform(r.newRun("failover")); e.Exit != 0 {
		t.Errorf("ended with %+v", e)
	}
}

// A supervisor must get no message about a run before RunnerReady.
func TestSupervisorThatComesDuringARunIsNotToldTooEarly(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", "echo up; read x < "+r.path("gate")+"; echo between; exit 3")
	r.serve()
	r.ready()
	m := r.newRun("failover")
	r.begin(m)
	r.line()
	r.connect()
	open()
	waitUntil(t, "the run has ended", func() bool {
		b, err := os.ReadFile(r.path("log"))
		return err == nil && strings.Contains(string(b), "a script has ended")
	})
	want := []ipc.RunEnded{{RunID: m.RunID, Hook: "failover", Exit: 3}}
	if diff := cmp.Diff(want, r.ready().Results, noDuration); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(r.path("log")); err != nil || !strings.Contains(string(b), "line=between") {
		t.Errorf("the line is lost: %v", err)
	}
}

// Nothing but a look at its age shows that a process can't be killed.
func TestRunThatWasTakenOverIsGivenUp(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	r := &runner{log: slog.New(slog.DiscardHandler)}
	const delay = time.Second
	a := &adopted{entry: entry{ID: "no process has it", Hook: "failover", PID: cmd.Process.Pid, Start: "1", KillDelay: delay.Milliseconds()}}
	for _, c := range []struct {
		since  time.Duration
		giveUp bool
	}{{delay / 2, false}, {delay + unkillable/2, false}, {delay + unkillable + time.Second, true}} {
		a.termed = time.Now().Add(-c.since)
		if got := r.overdue(a); got != c.giveUp {
			t.Errorf("%v after SIGTERM it is given up: %v", c.since, got)
		}
	}
}
