package supervisor

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// rehearse rehearses a failover to the last server, which has these settings, and lets
// the runner answer with these checks. With nil the runner doesn't answer.
func (w *world) rehearse(set map[string]string, hooks []ipc.HookCheck) control.RehearsalResponse {
	w.t.Helper()
	r := w.runnerUp()
	last := len(w.s.cfg.Servers) - 1
	for i := range w.s.servers.where {
		w.s.servers.where[i].addresses = []address{{"tcp", "192.0.2.1:1"}}
	}
	w.settings = func(t ipc.Target) (map[string]string, error) {
		if a := w.s.addressesOf(last)[0]; t.Address != a.address {
			return nil, errors.New("refused")
		}
		return set, nil
	}
	var got *control.RehearsalResponse
	w.s.rehearse(&rehearsal{
		Rehearsal: &failover.Rehearsal{
			Primary: w.s.cfg.Servers[0].Name, Next: w.s.cfg.Servers[last].Name,
			Runs: []failover.Planned{{Hook: failover.HookFailover, Args: []string{"a", "1", "b", "2"}}},
		},
		done: func(x control.RehearsalResponse, err error) {
			if err != nil {
				w.t.Error(err)
			}
			got = &x
		},
	})
	w.settle()
	if asked := messagesOf[*ipc.CheckHooks](r); len(asked) != 1 {
		w.t.Fatalf("the runner was asked %d times", len(asked))
	}
	if hooks == nil {
		w.advance(hooksLimit + time.Millisecond)
	} else {
		w.say(r, &ipc.HooksChecked{ID: 1, Hooks: hooks})
	}
	if got == nil {
		w.t.Fatal("no answer")
	}
	return *got
}

func texts(list []control.Finding) []string {
	out := []string{}
	for _, f := range list {
		out = append(out, f.Server+": "+f.Text)
	}
	return out
}

func TestARehearsalOfASoundSetupGoesWell(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.rehearse(map[string]string{
		"wal_receiver_timeout": "10000", "wal_retrieve_retry_interval": "1000", "recovery_min_apply_delay": "0", "recovery_target_timeline": "latest",
	}, []ipc.HookCheck{{Hook: failover.HookFailover}})
	if d := cmp.Diff([]string{}, texts(append(r.Problems, r.Warnings...))); d != "" || !r.Well {
		t.Errorf("well %v %s", r.Well, d)
	}
	if len(r.Runs) != 1 || r.Runs[0].Script != w.s.cfg.FailoverScript {
		t.Errorf("runs %+v", r.Runs)
	}
}

func TestARehearsalFindsSettingsThatAreInTheWay(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	name := w.s.cfg.Servers[len(w.s.cfg.Servers)-1].Name
	r := w.rehearse(map[string]string{
		"wal_receiver_timeout": "0", "wal_retrieve_retry_interval": "5000", "recovery_min_apply_delay": "60000", "recovery_target_timeline": "current",
		"synchronous_standby_names": "*", "synchronous_commit": "on",
	}, []ipc.HookCheck{})
	if d := cmp.Diff([]string{
		name + ": it never notices that the primary is silent, so a silent one is never given up",
		name + ": it would not follow a new primary",
		name + `: synchronous_standby_names is "*" there, and no standby is left: commits would hang`,
	}, texts(r.Problems)); d != "" || r.Well {
		t.Errorf("well %v %s", r.Well, d)
	}
	if d := cmp.Diff([]string{
		name + ": it may take 5s longer to end its recovery, or to follow a new primary",
		name + ": it is delayed by 1m0s, which a promotion has to replay first",
	}, texts(r.Warnings)); d != "" {
		t.Error(d)
	}
}

func TestARehearsalHasTheRunnerLookAtItsScripts(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.rehearse(map[string]string{}, []ipc.HookCheck{{Hook: failover.HookFailover, Problem: "not executable"}})
	if d := cmp.Diff([]string{": the failover script would be refused: not executable"}, texts(r.Problems)); d != "" {
		t.Error(d)
	}
	if n := len(eventsOf[failover.RunnerDown](w)); n != 1 {
		t.Errorf("the machine was told %d times that no script can run", n)
	}
}

func TestARehearsalWithASilentRunnerDoesNotGoWell(t *testing.T) {
	w := newWorld(t, 0, withFailover)
	r := w.rehearse(map[string]string{}, nil)
	want := []string{": the script runner has not answered within 5s: a failover would be given up 10s after it has asked for a script"}
	if d := cmp.Diff(want, texts(r.Problems)); d != "" || r.Well {
		t.Errorf("well %v %s", r.Well, d)
	}
}
