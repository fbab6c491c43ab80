package supervisor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// reloadServers reloads with these sections; both workers can use them unless it is refused before.
func (f *files) reloadServers(w *world, sections string) *outcome {
	f.t.Helper()
	main, _, _ := strings.Cut(mainFile, "[one]")
	f.put("pgagroal.conf", strings.NewReplacer("%[1]s", f.dir, "%[2]s", "").Replace(main)+sections)
	o := w.reload()
	for _, c := range w.children {
		if !o.answered {
			w.prepared(c, "")
		}
	}
	w.settle()
	return o
}

const (
	sectionOne   = "[one]\nhost = 127.0.0.1\nport = 5001\nprimary = on\n"
	sectionTwo   = "[two]\nhost = 127.0.0.1\nport = 5002\n"
	sectionThree = "[three]\nhost = 127.0.0.1\nport = 5003\n"
)

// lastServers is what a worker knows of the servers: names by slot.
func lastServers(f *fakeChild) map[int]string {
	known, gen := map[int]string{}, uint64(0)
	for _, m := range messagesOf[*ipc.ConfigServer](f) {
		if m.Gen != gen {
			known, gen = map[int]string{}, m.Gen
		}
		known[m.Index] = m.Name
	}
	return known
}

func TestServersOfAReloadKeepTheirSlotsEverywhere(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	prober := w.prober
	if o := f.reloadServers(w, sectionThree+sectionOne); o.err != nil || !o.answered {
		t.Fatalf("%+v", o)
	}
	if got := lastServers(w.children[0]); len(got) != 2 || got[0] != "one" || got[2] != "three" {
		t.Errorf("a worker knows %v", got)
	}
	told := eventsOf[failover.Reconfigured](w)
	c := told[len(told)-1].Config
	if len(c.Servers) != 3 || c.Servers[1].Name != "" || c.Servers[2].Name != "three" || !slices.Equal(c.Order, []int{2, 0}) {
		t.Errorf("the machine knows %+v in the order %v", c.Servers, c.Order)
	}
	if w.s.serverName(1) != "" || len(w.s.addressesOf(1)) != 0 || w.s.addressesOf(2)[0].address != "127.0.0.1:5003" {
		t.Errorf("addresses %v and %v", w.s.addressesOf(1), w.s.addressesOf(2))
	}
	prober.exited("signal: killed")
	w.advance(0)
	if w.prober == prober {
		t.Error("the prober goes on with the old servers")
	}
	// A worker may not know yet what is gone.
	w.say(w.children[0], &ipc.Hint{Server: 1, Kind: ipc.HintRefused})
	w.say(w.children[0], &ipc.SecretRequest{ID: 1, Server: 1, User: "u", Database: "d", Question: ipc.Question{Method: ipc.LoginPassword}})
	if w.children[0].killed {
		t.Error("a worker is killed for naming a server that was removed")
	}
}

// TestLookAtAServerThatIsRemovedIsNotRepeated: the next prober doesn't know how to encrypt it, and would show it passwords.
func TestLookAtAServerThatIsRemovedIsNotRepeated(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	w.prober.mute = true
	w.s.probe(failover.Probe{Server: 1, ID: 7, Timeout: time.Second})
	w.s.probe(failover.Probe{Server: 0, ID: 8, Timeout: time.Second})
	w.settle()
	first := w.prober
	if o := f.reloadServers(w, sectionOne); o.err != nil || !o.answered {
		t.Fatalf("%+v", o)
	}
	first.exited("signal: killed")
	w.advance(0)
	if n := len(w.s.servers.prober.looks.sent) + len(w.s.servers.prober.looks.waiting); n != 0 {
		t.Errorf("%d looks are left", n)
	}
	for _, seen := range eventsOf[failover.ProbeDone](w) {
		if seen.Server == 1 && seen.Outcome != failover.SawNoAddress {
			t.Errorf("the server was looked at again: %+v", seen)
		}
	}
	if seen := w.lastProbe(); seen.ID != 8 {
		t.Errorf("the other look is not repeated: %+v", seen)
	}
}

// TestProbeOfAServerThatIsRemovedEnds, at whichever of its addresses it is, or if it has yet to begin.
func TestProbeOfAServerThatIsRemovedEnds(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	w.prober.mute = true
	w.s.servers.where[1].addresses = []address{{"tcp", "192.0.2.1:5002"}, {"tcp", "192.0.2.2:5002"}}
	w.s.probe(failover.Probe{Server: 1, ID: 7, Timeout: 3 * time.Second})
	w.settle()
	w.s.saver.barrier = true
	w.act(failover.Probe{Server: 1, ID: 8, Timeout: 3 * time.Second})
	if o := f.reloadServers(w, sectionOne); o.err != nil || !o.answered {
		t.Fatalf("%+v", o)
	}
	w.s.saver.barrier = false
	w.s.execute()
	w.advance(3 * time.Second)
	for _, at := range w.probed {
		if at.Address == "192.0.2.2:5002" {
			t.Error("the next address of the server is looked at")
		}
	}
}

// TestProbeOfAServerThatMovesEnds: what was left of its old addresses would be asked as the new server, with its passwords.
func TestProbeOfAServerThatMovesEnds(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	w.prober.mute = true
	w.s.servers.where[1].addresses = []address{{"tcp", "192.0.2.1:5002"}, {"tcp", "192.0.2.2:5002"}}
	w.s.probe(failover.Probe{Server: 1, ID: 7, Timeout: 3 * time.Second})
	w.settle()
	if o := f.reloadServers(w, sectionOne+strings.Replace(sectionTwo, "127.0.0.1", "127.0.0.3", 1)); o.err != nil || !o.answered {
		t.Fatalf("%+v", o)
	}
	w.advance(3 * time.Second)
	for _, at := range w.probed {
		if at.Address == "192.0.2.2:5002" {
			t.Error("an address of the server of before is looked at")
		}
	}
}

func TestServersAreRefusedWithEverything(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	w.machine.refuses = "one is the primary"
	o := f.reloadServers(w, sectionTwo)
	if !o.answered || o.err == nil || !strings.Contains(o.err.Error(), "one is the primary") || w.s.cfg.Slots() != 2 {
		t.Errorf("%+v", o)
	}
	if told := eventsOf[failover.Reconfigured](w); len(told) != 1 || told[0].Config != nil || told[0].Problem == "" {
		t.Errorf("the machine was told %+v", told)
	}
	w.machine.refuses = ""
	// A server that moves while somebody is connected to it would get the requests meant for the old one.
	w.s.carryOut(w.s.ledger.SetTarget(1, 1, true))
	w.s.carryOut(w.s.ledger.Request(0, 1, pool.Key{Database: "d", User: "u"}, pool.NoRule, 0))
	moved := strings.Replace(sectionTwo, "127.0.0.1", "127.0.0.2", 1)
	if o := f.reloadServers(w, sectionOne+moved); o.err == nil || !strings.Contains(o.err.Error(), "two can't move") {
		t.Errorf("%+v", o)
	}
	if o := f.reloadServers(w, sectionOne); o.err != nil || w.s.ledger.On(1) != 1 {
		t.Errorf("one that is removed keeps what is connected: %+v, %d leases", o, w.s.ledger.On(1))
	}
}

// TestServersDontComeWhileARetiredWorkerHasClients: it gets no configuration, so it would reach them without TLS.
func TestServersDontComeWhileARetiredWorkerHasClients(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	old := w.s.workers.slots[0].child
	w.letIn(w.children[0])
	w.s.replaceWorker(old)
	w.settle()
	w.hello(w.children[2])
	if !w.s.retires(old) {
		t.Fatal("the old worker doesn't retire")
	}
	moved := strings.Replace(sectionTwo, "127.0.0.1", "127.0.0.2", 1)
	for _, sections := range []string{sectionOne + sectionTwo + sectionThree, sectionOne + moved} {
		if o := f.reloadServers(w, sections); o.err == nil || !strings.Contains(o.err.Error(), "1 workers that were replaced") {
			t.Errorf("%+v", o)
		}
	}
	if o := f.reloadServers(w, sectionOne); o.err != nil || !o.answered {
		t.Errorf("a server can't be removed: %+v", o)
	}
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{1}})
	w.say(w.children[0], &ipc.Drained{})
	w.children[0].exited("exit status 0")
	if o := f.reloadServers(w, sectionOne+sectionThree); o.err != nil || !o.answered {
		t.Errorf("nor can one be added afterwards: %+v", o)
	}
}
