package failover

import "testing"

// Each fact that tells two servers apart does so alone.
func TestTwoNamesAreOneServerOnlyIfAllThreeFactsAgree(t *testing.T) {
	for name, x := range map[string]struct {
		later  Observation // of the server that is probed second; the first one has 7, 100, 10
		system uint64
		same   bool
	}{
		"all three":          {Observation{PostmasterStart: 100, Checkpoint: 10}, 7, true},
		"another identifier": {Observation{PostmasterStart: 100, Checkpoint: 10}, 8, false},
		"an earlier start":   {Observation{PostmasterStart: 99, Checkpoint: 10}, 7, false},
		"a later start":      {Observation{PostmasterStart: 101, Checkpoint: 10}, 7, false},
		"a start, not known": {Observation{Checkpoint: 10}, 7, false},
		"fewer checkpoints":  {Observation{PostmasterStart: 100, Checkpoint: 9}, 7, false},
		"a newer checkpoint": {Observation{PostmasterStart: 100, Checkpoint: 11}, 7, false},
	} {
		m := New(Config{Servers: []ServerConfig{{Name: "a"}, {Name: "b"}}}, nil, 0)
		first, second := m.servers[0], m.servers[1]
		first.system, first.obs = 7, Observation{PostmasterStart: 100, Checkpoint: 10}
		second.system, second.obs = x.system, x.later
		m.findTwins(1)
		if got := m.twins[twinsOf(0, 1)]; got != x.same {
			t.Errorf("%s: one server: %v", name, got)
		}
	}
}

// One name of a server was probed after the server had gone on: the other name must be probed before it is judged.
func TestTheOtherNameIsProbedAgainWhenItsServerHasGoneOn(t *testing.T) {
	m := New(Config{Servers: []ServerConfig{{Name: "a"}, {Name: "b"}}}, nil, 0)
	first, second := m.servers[0], m.servers[1]
	first.system, second.system = 7, 7
	first.obs, second.obs = Observation{PostmasterStart: 100, Checkpoint: 10}, Observation{PostmasterStart: 100, Checkpoint: 10}
	m.findTwins(1)
	first.wanted = false
	second.obs.Checkpoint = 11
	m.findTwins(1)
	if !first.wanted || !m.twins[twinsOf(0, 1)] {
		t.Errorf("probed again: %v, one server: %v", first.wanted, m.twins[twinsOf(0, 1)])
	}
}
