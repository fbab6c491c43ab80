package scriptrunner

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// declared is how a script begins that knows PGAGROAL_CHECK.
const declared = declaration + "\n"

func (r *rig) newCheck(hook string) *ipc.CheckRun {
	m := r.newRun(hook)
	return &ipc.CheckRun{RunID: "check-" + m.RunID, Hook: m.Hook, Args: m.Args, Env: m.Env, Expires: m.Expires}
}

// check performs a check and returns how it ended.
func (r *rig) check(m *ipc.CheckRun) *ipc.RunEnded {
	r.t.Helper()
	r.lines = nil
	r.send(m)
	receive[*ipc.RunStarting](r)
	receive[*ipc.RunStarted](r)
	return r.end()
}

func TestCheckHasTheSurroundingsOfARunAndIsNone(t *testing.T) {
	r := simple(t, nil, declared+`echo "check ${PGAGROAL_CHECK:-unset} $PGAGROAL_REASON $*"; exit 1`)
	m := r.newCheck("failover")
	m.Env = map[string]string{"REASON": "rehearsal", "CHECK": "0"}
	if e := r.check(m); e.RunID != m.RunID || e.Exit != 1 {
		t.Errorf("the check ended with %+v", e)
	}
	want := "check 1 rehearsal " + strings.Join(args(), " ")
	if got := r.text(); !slices.Equal(got, []string{want}) {
		t.Errorf("the script says %q, want %q", got, want)
	}
	if e := r.perform(r.newRun("failover")); e.Exit != 1 || r.text()[0] != "check unset  "+strings.Join(args(), " ") {
		t.Errorf("a run after it ended with %+v and says %q", e, r.text())
	}
	r.crash()
	r.spawn()
	if got := r.ready(); len(got.Results) != 1 || got.Results[0].RunID == m.RunID {
		t.Errorf("the next runner knows of %+v, want the run alone", got.Results)
	}
}

func TestScriptThatDeclaresNothingIsNeverCheckedByRunningIt(t *testing.T) {
	for name, text := range map[string]string{
		"no line":        "true",
		"another line":   "# pgagroal: checks\n",
		"a command":      "echo # pgagroal: check\n",
		"no end of line": "# pgagroal: check",
		"too late":       "# " + strings.Repeat("x", declaredWithin) + "\n" + declared,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.script("failover", text+"\ntouch "+r.path("ran"))
			if name == "no end of line" {
				r.script("failover", "touch "+r.path("ran")+"\n"+strings.Repeat("#", declaredWithin-len("#!/bin/sh\ntouch "+r.path("ran")+"\n")-len(text)-1)+"\n"+text+"s are not known")
			}
			r.script("notify", "exit 0")
			r.spawn()
			r.ready()
			r.send(&ipc.CheckHooks{ID: 1})
			for _, h := range receive[*ipc.HooksChecked](r).Hooks {
				if h.KnowsCheck {
					t.Errorf("%s is taken for a script that knows checks", h.Hook)
				}
			}
			r.send(r.newCheck("failover"))
			if e := receive[*ipc.RunEnded](r); !strings.Contains(e.Refused, declaration) {
				t.Errorf("the check ended with %+v", e)
			}
			if _, err := os.Stat(r.path("ran")); err == nil {
				t.Error("the script was executed")
			}
		})
	}
}

// A check that hangs and ignores SIGTERM ends for a run that a failover needs, before that begins.
func TestRunEndsACheckAndNeverRunsBesideIt(t *testing.T) {
	r := newRig(t, nil)
	r.script("failover", declared+`if [ "${PGAGROAL_CHECK:-}" = 1 ]; then
    trap '' TERM
    setsid sh -c 'echo $$; exec sleep 1h' &
    sleep 1h
fi
readlink "/proc/$(cat `+r.path("left")+`)/exe" && exit 3 # which a zombie doesn't have
exit 0`)
	r.script("notify", "exit 0")
	r.spawn()
	r.ready()
	c := r.newCheck("failover")
	r.send(c)
	receive[*ipc.RunStarting](r)
	receive[*ipc.RunStarted](r)
	left := r.line()
	if err := os.WriteFile(r.path("left"), []byte(left), 0o600); err != nil {
		t.Fatal(err)
	}
	m := r.newRun("failover")
	r.send(m)
	if e := r.end(); e.RunID != c.RunID || e.Signal != "SIGKILL" {
		t.Errorf("the check ended with %+v", e)
	}
	receive[*ipc.RunStarting](r)
	receive[*ipc.RunStarted](r)
	if e := r.end(); e.RunID != m.RunID || e.Exit != 0 {
		t.Errorf("the run ended with %+v; 3 means beside a process of the check", e)
	}
}

func TestCheckIsRefusedDuringARun(t *testing.T) {
	r := newRig(t, nil)
	open := r.gate("gate")
	r.script("failover", declared+"read x < "+r.path("gate"))
	r.script("notify", "exit 0")
	r.spawn()
	r.ready()
	r.begin(r.newRun("failover"))
	r.send(r.newCheck("failover"))
	if e := receive[*ipc.RunEnded](r); !strings.Contains(e.Refused, "still in progress") {
		t.Errorf("the check ended with %+v", e)
	}
	open()
	if e := r.end(); e.Exit != 0 {
		t.Errorf("the run ended with %+v", e)
	}
}

func TestCheckEndsWithinTheTimeOfItsScript(t *testing.T) {
	r := simple(t, settings{"failover_script_timeout": "1s"}, declared+"exec sleep 1h")
	if e := r.check(r.newCheck("failover")); !e.TimedOut || e.Signal != "SIGTERM" {
		t.Errorf("the check ended with %+v", e)
	}
}

func TestCheckEndsWithItsSupervisor(t *testing.T) {
	r := simple(t, nil, declared+"echo $$; exec sleep 1h")
	r.send(r.newCheck("failover"))
	receive[*ipc.RunStarting](r)
	receive[*ipc.RunStarted](r)
	pid := number(t, r.line())
	r.conn.Close()
	r.wait()
	if proc.ProcessAlive(pid) {
		t.Error("the check goes on")
	}
}

// The check of a runner that died must not keep the next one from running a script.
func TestCheckOfADeadRunnerIsEndedByTheNextOne(t *testing.T) {
	r := simple(t, nil, declared+`[ "${PGAGROAL_CHECK:-}" = 1 ] || exit 0
trap '' TERM; echo $$; while :; do sleep 1h; done`)
	c := r.newCheck("failover")
	r.send(c)
	receive[*ipc.RunStarting](r)
	receive[*ipc.RunStarted](r)
	pid := number(t, r.line())
	killAtEnd(t, pid)
	r.crash()
	r.spawn()
	if got := r.ready(); got.Running == c.RunID {
		if e := r.end(); e.RunID != c.RunID {
			t.Errorf("got %+v", e)
		}
	}
	if proc.ProcessAlive(pid) {
		t.Error("the check goes on")
	}
	if e := r.perform(r.newRun("failover")); e.Exit != 0 {
		t.Errorf("a run after it ended with %+v", e)
	}
}
