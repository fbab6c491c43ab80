package supervisor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// seenBy gives a real machine these looks at the servers, one round after another.
func seenBy(w *world, rounds ...[2]failover.ProbeDone) {
	m := failover.New(machineConfig(w.s.cfg), nil, 0)
	now := time.Duration(1)
	step := func(ev failover.Event) []failover.Action {
		now += time.Millisecond
		return m.Step(now, ev)
	}
	acts := step(failover.Started{})
	for _, round := range rounds {
		for probed := 0; probed < 2; {
			if len(acts) == 0 {
				now, _ = m.Deadline()
				acts = step(failover.Tick{})
				continue
			}
			a := acts[0]
			acts = acts[1:]
			if p, ok := a.(failover.Probe); ok {
				seen := round[p.Server]
				seen.Server, seen.ID, seen.Started, seen.Ended = p.Server, p.ID, now, now
				acts = append(acts, step(seen)...)
				probed++
			}
		}
	}
	w.s.servers.machine = m
}

func TestStatusTellsWhatAStandbyReceives(t *testing.T) {
	primary := failover.ProbeDone{Outcome: failover.SawPrimary}
	streams := failover.Observation{
		Receiver: failover.ReceiverStreaming, ReceiverWord: "streaming", SlotName: "slot", SenderHost: "10.0.0.1", SenderPort: "5432",
	}
	for what, c := range map[string]struct {
		seen failover.Observation
		want control.Standby
	}{
		"streaming": {streams, control.Standby{
			Readable: true, Streaming: true, WALReceiverStatus: "streaming", SlotName: "slot", PrimaryHost: "10.0.0.1", PrimaryPort: "5432",
		}},
		"no receiver": {failover.Observation{Receiver: failover.ReceiverGone}, control.Standby{Readable: true}},
		"hidden":      {failover.Observation{}, control.Standby{}},
	} {
		w := newWorld(t, 0)
		seenBy(w, [2]failover.ProbeDone{primary, {Outcome: failover.SawStandby, Obs: c.seen}})
		got := w.s.statusResponse(&report{}).Standbys
		if diff := cmp.Diff(map[string]control.Standby{"two": c.want}, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func TestFailoverStatusCountsFailedProbes(t *testing.T) {
	w := newWorld(t, 0)
	up := [2]failover.ProbeDone{{Outcome: failover.SawPrimary}, {Outcome: failover.SawStandby}}
	down := [2]failover.ProbeDone{{Outcome: failover.SawRefused}, {Outcome: failover.SawRefused}}
	seenBy(w, up)
	if n := w.s.failoverStatus().Servers[0].Failures; n != 0 {
		t.Errorf("%d failures of a server that answers", n)
	}
	w.s.cfg.HealthCheck = true
	seenBy(w, down, down)
	if n := w.s.failoverStatus().Servers[0].Failures; n < 2 {
		t.Errorf("%d failures after two rounds", n)
	}
}

// TestAgesGoOnWhileNothingHappens: ages are those of now, not those of the machine's latest step.
func TestAgesGoOnWhileNothingHappens(t *testing.T) {
	w := newWorld(t, 0)
	seenBy(w, [2]failover.ProbeDone{{Outcome: failover.SawPrimary}, {Outcome: failover.SawStandby}})
	before := w.s.failoverStatus()
	w.now += 4 * time.Second
	after := w.s.failoverStatus()
	for i, sv := range after.Servers {
		if d := sv.ProbeAge - before.Servers[i].ProbeAge; d != 4 {
			t.Errorf("the probe of %s is %g s older after 4 s", sv.Server, d)
		}
	}
}

func TestFailoverStatusCountsTheRunsOfTheHistory(t *testing.T) {
	w := newWorld(t, 0)
	old := `{"kind":"failover","run_id":"a","result":"exit code 0"}
{"kind":"notify","run_id":"b","result":"exit code 0"}
{"kind":"failover","run_id":"c","result":"refused: not executable"}
{"kind":"failover","run_id":"d","result":"unknown: lost"}
{"kind":"verified"}
`
	if err := os.WriteFile(filepath.Join(w.s.cfg.StateDir, "history.jsonl"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	w.s.loadState(statedir.LookAtRecord)
	if n := w.s.failoverStatus().Runs; n != 2 {
		t.Errorf("%d runs before this process", n)
	}
	w.act(failover.History{Entry: failover.HistoryEntry{Kind: failover.HookFailover, RunID: "e", Result: "exit code 1"}})
	for range historyKept { // which are kept no longer than that, but counted
		w.act(failover.History{Entry: failover.HistoryEntry{Kind: "cancelled"}})
	}
	if n := w.s.failoverStatus().Runs; n != 3 {
		t.Errorf("%d runs", n)
	}
}

func TestFailoverStatusTellsWhetherTheLastSaveWasWritten(t *testing.T) {
	w := newWorld(t, 0)
	expect := func(what string, writable bool, why string) {
		t.Helper()
		st := w.s.failoverStatus()
		if st.StateDirWritable != writable || st.StateDirError != why {
			t.Errorf("%s: writable %v, %q", what, st.StateDirWritable, st.StateDirError)
		}
	}
	expect("at first", true, "")
	w.saveErr = errors.New("disk full")
	w.act(failover.Save{Seq: 1})
	w.settle()
	expect("after a failed save", false, "disk full")
	w.saveErr = nil
	w.act(failover.Save{Seq: 2})
	w.settle()
	expect("after a good one", true, "")
	w.s.dir.Usable = false
	expect("without state_dir", false, errNoStateDir.Error())
}

func TestWhatIsNotKnownIsNotShown(t *testing.T) {
	w := newWorld(t, 0)
	for what, v := range map[string]any{
		"status": w.s.statusResponse(&report{}), "failover status": w.s.failoverStatus(),
		"history": failover.HistoryEntry{Kind: "verified"},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"MajorVersion", "SystemIdentifier", "Timeline", "LastLSN\"", "exit"} {
			if strings.Contains(string(b), key) {
				t.Errorf("%s has %s: %s", what, key, b)
			}
		}
	}
}

func TestProbeTellsTheVersionOfAServerWithoutClients(t *testing.T) {
	w := newWorld(t, 0)
	w.s.onProbed(failover.ProbeDone{Server: 1, Outcome: failover.SawStandby, Version: "15.4 (Debian)"})
	w.s.onProbed(failover.ProbeDone{Server: 1, Outcome: failover.SawRefused}) // which tells nothing
	if v := w.s.statusResponse(&report{}).Servers["two"].MajorVersion; v != 15 {
		t.Errorf("major version %d", v)
	}
}

func TestTrafficIsTheSumOfTheWorkers(t *testing.T) {
	worker := func(n uint64) workerReport {
		tally := func(k uint64) ipc.Tally { return ipc.Tally{N: k * n, Sum: k * n * 500_000_000} }
		return workerReport{Report: &ipc.Report{
			Gauges:  map[string]int64{"client_active": int64(n), "connection_awaiting": 1},
			Traffic: ipc.Traffic{Queries: tally(4), Transactions: tally(2), Waits: tally(1)},
		}}
	}
	want := control.Traffic{
		Queries: 12, QuerySeconds: 6, Transactions: 6, TransactionSeconds: 3, Waits: 3, WaitSeconds: 1.5, Clients: 3, Waiting: 2,
	}
	if d := cmp.Diff(want, traffic(&report{workers: []workerReport{worker(1), worker(2)}})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestServersTellForHowLongAStandbyLags(t *testing.T) {
	w := newWorld(t, 1)
	st := failover.Status{Primary: 0, LSN: 1000, Servers: []failover.ServerStatus{{Name: "one", LSN: 1000}, {Name: "two", LSN: 950, State: failover.Replica}}}
	if got := w.s.serverStatus(st, 1).LagSeconds; got != nil {
		t.Errorf("%v before a probe", *got)
	}
	f := &w.s.console.figures
	f.probed(failover.ProbeDone{Server: 0, Outcome: failover.SawPrimary, Obs: failover.Observation{WriteLSN: 900}, Ended: time.Second})
	f.probed(failover.ProbeDone{Server: 0, Outcome: failover.SawPrimary, Obs: failover.Observation{WriteLSN: 1000}, Ended: 2 * time.Second})
	f.probed(failover.ProbeDone{Server: 1, Outcome: failover.SawStandby, Obs: failover.Observation{ReplayLSN: 950}, Ended: 5500 * time.Millisecond})
	if got := w.s.serverStatus(st, 1).LagSeconds; got == nil || *got != 3.5 {
		t.Errorf("lag %v, want 3.5 s", got)
	}
	st.Primary = 1 // what was seen of it as a standby says nothing any more
	if got := w.s.serverStatus(st, 1).LagSeconds; got != nil {
		t.Errorf("%v on the primary", *got)
	}
}
