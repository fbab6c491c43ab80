package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// openWorld is a world of servers such as "n1 n2", of which the first is the primary, some seconds after the start.
func openWorld(t *testing.T, names string) *world {
	t.Helper()
	cfg := Config{Enabled: true, HealthCheck: true, HealthCheckPeriod: time.Second, NotifyConfigured: true, NotifyRetries: 3, Failback: FailbackStandby, Quarantine: time.Hour}
	var nodes []*node
	for i, name := range strings.Fields(names) {
		cfg.Servers = append(cfg.Servers, serverOf(name))
		n := &node{outcome: SawStandby, system: 7, timeline: 1, lsn: 100, receiver: ReceiverStreaming}
		if i == 0 {
			n.outcome = SawPrimary
		}
		nodes = append(nodes, n)
	}
	w := newWorld(cfg, nodes)
	w.start()
	w.run(5 * time.Second)
	return w
}

// serverOf is "name" or "name@host"; - is none.
func serverOf(text string) ServerConfig {
	name, host, moved := strings.Cut(text, "@")
	switch {
	case name == "-":
		return ServerConfig{}
	case !moved:
		host = name
	}
	return ServerConfig{Name: name, Host: host, Port: "1", Candidate: true}
}

// with is the world's configuration with other servers, by slot.
func (w *world) with(servers string) Config {
	c := w.cfg
	c.Servers = nil
	for _, text := range strings.Fields(servers) {
		c.Servers = append(c.Servers, serverOf(text))
	}
	return c
}

// reconfigure takes servers over that must not be refused.
func (w *world) reconfigure(t *testing.T, servers string) {
	t.Helper()
	c := w.with(servers)
	if why := w.m.Refuses(c); why != "" {
		t.Fatalf("%s: %s", servers, why)
	}
	w.cfg = c
	w.step(Reconfigured{Config: &c})
}

// states lists the servers with their states.
func (w *world) states() string {
	st := w.m.Status(w.now)
	var all []string
	for i, s := range st.Each() {
		all = append(all, fmt.Sprintf("%d %s %s", i, s.Name, Display(s.State, s.Qualifier)))
	}
	return strings.Join(all, ", ")
}

func TestServersComeGoAndMoveWhileThePrimaryIsOpen(t *testing.T) {
	w := openWorld(t, "n1 n2 n3")
	say := func(what, want string) {
		t.Helper()
		if got := w.states(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	say("the start", "0 n1 Primary, 1 n2 Replica, 2 n3 Replica")
	w.reconfigure(t, "n1 - n3")
	say("n2 is removed", "0 n1 Primary, 2 n3 Replica")
	names := func() (all []string) {
		for _, s := range w.saved.Servers {
			all = append(all, s.Name)
		}
		return all
	}
	w.run(w.now + time.Second)
	if got := names(); !slices.Equal(got, []string{"n1", "n3"}) {
		t.Errorf("recorded are %v", got)
	}
	w.nodes[1].outcome = SawRefused
	w.reconfigure(t, "n1 n2 n3")
	say("n2 is back", "0 n1 Primary, 1 n2 Not init, 2 n3 Replica")
	w.nodes[1].outcome = SawStandby
	w.run(w.now + 10*time.Second)
	say("n2 is seen", "0 n1 Primary, 1 n2 Replica, 2 n3 Replica")
	w.reconfigure(t, "m1@n1 m2@n2 n3")
	say("names change", "0 m1 Primary, 1 m2 Replica, 2 n3 Replica")
	w.reconfigure(t, "m1@n1 m2@elsewhere n3")
	say("m2 moves", "0 m1 Primary, 1 m2 Not init, 2 n3 Replica")
	w.run(w.now + 10*time.Second)
	c := w.with("m1@n1 m2@elsewhere n3")
	c.Order = []int{2, 1, 0}
	w.step(Reconfigured{Config: &c})
	say("another order", "2 n3 Replica, 1 m2 Replica, 0 m1 Primary")
	if got := names(); !slices.Equal(got, []string{"n3", "m2", "m1"}) {
		t.Errorf("recorded are %v", got)
	}
	w.nodes[0].outcome = SawRefused
	w.run(w.now + 30*time.Second)
	if len(w.runs) == 0 || w.runs[0].Args[2] != "n3" {
		t.Errorf("of two equal candidates the first one of the configuration is not chosen: %+v", w.runs)
	}
}

func TestServersThatAreNeededCannotGo(t *testing.T) {
	w := openWorld(t, "n1 n2 n3")
	refused := func(servers, why string) {
		t.Helper()
		if got := w.m.Refuses(w.with(servers)); !strings.Contains(got, why) || (why == "") != (got == "") {
			t.Errorf("%s in phase %v: refused with %q, want %q", servers, w.m.phase, got, why)
		}
	}
	refused("- n2 n3", "n1 is the primary")
	refused("n1@elsewhere n2 n3", "n1 is the primary")
	refused("m1@n1 n2 n3", "")
	refused("n1 n2 -", "")
	refused("n1 n2 n3 n4", "")
	w.hooks[HookFailover] = script{promote: true, after: 3 * time.Second}
	w.hooks[HookNotify] = script{manual: true}
	w.nodes[0].outcome = SawRefused
	for w.m.phase != PhaseRunning {
		w.run(w.now + 100*time.Millisecond)
		if w.m.phase == PhaseSuspect || w.m.phase == PhaseRunning {
			refused("n1 n2 -", "can't be added, removed or moved")
			refused("n1 n2 n3 n4", "can't be added, removed or moved")
			refused("n1 m2@n2 n3", "")
		}
	}
	for w.m.phase != PhaseOpen || w.m.runs.current == nil {
		w.run(w.now + 100*time.Millisecond)
	}
	refused("- n2 n3", "has not ended") // the notify script runs
	w.push(0, RunEnded{RunID: w.m.runs.current.id, Hook: HookNotify, Exit: 1})
	w.run(w.now + 100*time.Millisecond)
	refused("- n2 n3", "failover_notify_script") // it is tried again
}

func TestServerInQuarantineCannotGo(t *testing.T) {
	w := openWorld(t, "n1 n2 n3")
	w.nodes[0].outcome = SawRefused
	w.run(w.now + 30*time.Second)
	if w.m.known.index == 0 || w.m.phase != PhaseOpen {
		t.Fatalf("no failover: %s", w.states())
	}
	c := w.with("- n2 n3")
	if why := w.m.Refuses(c); why != "" {
		t.Errorf("the dead old primary can't be removed: %s", why)
	}
	*w.nodes[0] = *w.nodes[2]
	w.nodes[0].timeline = w.nodes[w.m.known.index].timeline
	w.run(w.now + 20*time.Second)
	if why := w.m.Refuses(c); !strings.Contains(why, "quarantine") {
		t.Errorf("%s: refused with %q", w.states(), why)
	}
}

// TestSynchronousStandbysAreThoseThatStay: one that was chosen for its name alone could lack commits that were acknowledged.
func TestSynchronousStandbysAreThoseThatStay(t *testing.T) {
	w := openWorld(t, "n1 n2 n3")
	w.cfg.HealthCheckPeriod = time.Hour
	w.nodes[0].sync = []string{"n2", "n3"}
	w.run(w.now + 2*time.Second)
	w.reconfigure(t, "n1 n2 n3")
	w.nodes[0].mute = true
	w.reconfigure(t, "n1 n2@elsewhere m3@n3")
	if got := w.m.known.sync; !slices.Equal(got, []string{"m3"}) {
		t.Errorf("a server that moved, or a name of before, counts as synchronous: %v", got)
	}
	w.nodes[0].mute = false
	w.run(w.now + 10*time.Second)
	at := w.m.servers[0].lastStarted
	w.run(w.now + 10*time.Second)
	if w.m.servers[0].lastStarted != at {
		t.Fatal("the primary is looked at although nothing has changed")
	}
	w.nodes = append(w.nodes, &node{outcome: SawStandby, system: 7, timeline: 1, lsn: 100, receiver: ReceiverStreaming})
	w.reconfigure(t, "n1 n2@elsewhere m3@n3 n4")
	w.run(w.now + time.Second)
	if w.m.servers[0].lastStarted == at {
		t.Error("the primary isn't asked whether the new server is a synchronous standby")
	}
}
