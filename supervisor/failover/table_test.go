package failover

import "testing"

// TestTableIsComplete: every event is handled or ignored by name in every phase.
func TestTableIsComplete(t *testing.T) {
	if len(kindNames) != int(kinds) || len(phaseNames) != phases {
		t.Fatalf("%d names for %d events, %d names for %d phases", len(kindNames), kinds, len(phaseNames), phases)
	}
	for k := range table {
		for p, r := range table[k] {
			if (r.on == nil) == (r.ignored == "") {
				t.Errorf("%v in phase %v is neither handled nor ignored by name", kind(k), Phase(p))
			}
		}
	}
}

// TestEveryEventHasItsKind: a new event type without a row would be dropped silently.
func TestEveryEventHasItsKind(t *testing.T) {
	events := []Event{
		Started{},
		Tick{},
		ProbeDone{},
		Hinted{},
		LoginSeen{},
		Activity{},
		Fenced{},
		RunStarted{},
		RunEnded{},
		RunLost{},
		RunGroupEmpty{},
		RunnerUp{},
		RunnerDown{},
		RunnerSilent{},
		NotifyBroken{},
		RunsAllowed{},
		SaveDone{},
		ClearServer{},
		SwitchTo{},
		Reset{},
		Quiesced{},
		Pause{},
		Resume{},
		ClientsPaused{},
		Trigger{},
		Rehearse{},
		Reconfigured{},
		Upgraded{},
		Stopping{},
	}
	if len(events) != int(kinds) {
		t.Fatalf("%d events, %d kinds", len(events), kinds)
	}
	for i, ev := range events {
		if got := kindOf(ev); got != kind(i) {
			t.Errorf("%T is %v, want %v", ev, got, kind(i))
		}
	}
}

// TestEveryEventIsSafeInANewMachine: nothing but Started changes the phase before the start, and nothing panics.
func TestEveryEventIsSafeInANewMachine(t *testing.T) {
	m := New(Config{Enabled: true, Servers: []ServerConfig{{Name: "s1"}}}, nil, 0)
	for _, ev := range []Event{
		Tick{},
		ProbeDone{},
		Hinted{},
		LoginSeen{},
		Activity{},
		Fenced{},
		RunStarted{},
		RunEnded{},
		RunLost{},
		RunGroupEmpty{},
		RunnerUp{},
		RunnerDown{},
		RunnerSilent{},
		NotifyBroken{},
		RunsAllowed{},
		SaveDone{},
		ClearServer{},
		SwitchTo{},
		Reset{},
		Quiesced{},
		Pause{},
		Resume{},
		Trigger{},
		Rehearse{},
		Stopping{},
	} {
		m.Step(0, ev)
		if m.phase != PhaseNew {
			t.Fatalf("%T started the machine", ev)
		}
	}
}
