package supervisor

import (
	"slices"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeAddresses probes a server whose addresses answer as said, in the order of the
// addresses, and returns what the machine is told and the addresses that were looked at.
func probeAddresses(w *world, outcomes ...ipc.Outcome) (failover.ProbeDone, []string) {
	w.t.Helper()
	w.sees = map[string]ipc.Outcome{}
	for i, a := range w.s.addressesOf(1) {
		w.sees[a.address] = outcomes[i]
	}
	w.probed = nil
	before := len(eventsOf[failover.ProbeDone](w))
	w.act(failover.Probe{Server: 1, ID: 1, Timeout: 4 * time.Second})
	w.settle()
	told := eventsOf[failover.ProbeDone](w)[before:]
	if len(told) != 1 {
		w.t.Fatalf("the machine is told %+v", told)
	}
	var at []string
	for _, t := range w.probed {
		at = append(at, t.Address)
	}
	return told[0], at
}

func TestServerIsAsDeadAsTheLeastCertainOfItsAddresses(t *testing.T) {
	for _, x := range []struct {
		first, second ipc.Outcome
		want          failover.Outcome
		looks         int
	}{
		{ipc.SawPrimary, ipc.SawRefused, failover.SawPrimary, 1},
		{ipc.SawRefused, ipc.SawPrimary, failover.SawPrimary, 2},
		{ipc.SawTimeout, ipc.SawPrimary, failover.SawPrimary, 2},
		{ipc.SawRefused, ipc.SawStarting, failover.SawStarting, 2},
		{ipc.SawRefused, ipc.SawRefused, failover.SawRefused, 2},
		{ipc.SawRefused, ipc.SawTimeout, failover.SawTimeout, 2},
		{ipc.SawSilent, ipc.SawRefused, failover.SawSilent, 2},
		{ipc.SawUnreachable, ipc.SawRefused, failover.SawUnreachable, 2},
		{ipc.SawNothing, ipc.SawRefused, failover.SawRefused, 2},
		{ipc.SawNothing, ipc.SawNothing, failover.SawNoAddress, 2},
	} {
		w := newWorld(t, 0)
		w.s.found(1, []string{"192.0.2.1", "192.0.2.2"})
		got, at := probeAddresses(w, x.first, x.second)
		if got.Outcome != x.want || len(at) != x.looks {
			t.Errorf("%v and %v: %v after looks at %v", x.first, x.second, got.Outcome, at)
		}
	}
}

func TestAddressThatAnswersIsTriedFirstByEverybody(t *testing.T) {
	w := newWorld(t, 1)
	w.s.begin()
	w.s.servers.published = true
	w.s.servers.snapshot = failover.Snapshot{Servers: make([]failover.ServerView, 2)}
	w.s.found(1, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"})
	probeAddresses(w, ipc.SawRefused, ipc.SawPrimary, ipc.SawPrimary)
	want := []string{"192.0.2.2:5002", "192.0.2.1:5002", "192.0.2.3:5002"}
	if got := w.s.serverState().Servers[1].Addresses; !slices.Equal(got, want) {
		t.Errorf("workers are told %v, not %v", got, want)
	}
	if _, at := probeAddresses(w, ipc.SawPrimary, ipc.SawPrimary, ipc.SawPrimary); !slices.Equal(at, want[:1]) {
		t.Errorf("the next probe looks at %v", at)
	}
	// The name has the same addresses in another order, then one less and a new one.
	w.s.found(1, []string{"192.0.2.3", "192.0.2.2", "192.0.2.1"})
	if got := w.s.serverState().Servers[1].Addresses; !slices.Equal(got, want) {
		t.Errorf("after another order: %v", got)
	}
	w.s.found(1, []string{"192.0.2.9", "192.0.2.1"})
	if got := w.s.serverState().Servers[1].Addresses; !slices.Equal(got, []string{"192.0.2.1:5002", "192.0.2.9:5002"}) {
		t.Errorf("after a change of the name: %v", got)
	}
}

// TestSilentAddressKeepsNobodyWaiting: the next address is looked at while the first one
// may still answer, within the time of the probe.
func TestSilentAddressKeepsNobodyWaiting(t *testing.T) {
	w := newWorld(t, 0)
	w.s.found(1, []string{"192.0.2.1", "192.0.2.2"})
	probeAddresses(w, ipc.SawPrimary, ipc.SawPrimary)
	before := len(eventsOf[failover.ProbeDone](w))
	w.prober.mute, w.probed = true, nil
	w.act(failover.Probe{Server: 1, ID: 2, Timeout: 3 * time.Second})
	w.settle()
	if len(w.probed) != 1 || w.probed[0].TimeoutMS != 3000 {
		t.Fatalf("at first it looks at %+v", w.probed)
	}
	w.advance(time.Second)
	if len(w.probed) != 2 || w.probed[1].Address != "192.0.2.2:5002" || w.probed[1].TimeoutMS != 2000 {
		t.Fatalf("after a third of the time it looks at %+v", w.probed)
	}
	asked := sentTo[*ipc.ProbeRequest](w.prober)
	w.prober.message(&ipc.ProbeDone{ID: asked[len(asked)-1].ID, Outcome: ipc.SawAlive})
	w.prober.message(&ipc.ProbeDone{ID: asked[len(asked)-2].ID, Outcome: ipc.SawTimeout})
	w.settle()
	if told := eventsOf[failover.ProbeDone](w)[before:]; len(told) != 1 || told[0].Outcome != failover.SawAlive || told[0].ID != 2 {
		t.Errorf("the machine is told %+v", told)
	}
}
