package failover

import (
	"strings"
	"testing"
)

func standby(i int, name string, change func(*entrant)) entrant {
	e := entrant{index: i, name: name, candidate: true, outcome: SawStandby, seen: "standby", fresh: true, timeline: 1, followed: true, lsn: 100}
	if change != nil {
		change(&e)
	}
	return e
}

func TestRankPrefers(t *testing.T) {
	for _, c := range []struct {
		what   string
		better func(*entrant)
		worse  func(*entrant)
	}{
		{"the primary's own system to a higher timeline of another", nil, func(e *entrant) { e.foreign, e.timeline = true, 9 }},
		{"a higher timeline to a higher LSN", func(e *entrant) { e.timeline = 2 }, func(e *entrant) { e.lsn = 999 }},
		{"a synchronous standby to a higher LSN", func(e *entrant) { e.sync = true }, func(e *entrant) { e.lsn = 999 }},
		{"a higher LSN to a higher priority", func(e *entrant) { e.lsn = 101 }, func(e *entrant) { e.priority = 9 }},
		{"a higher priority to one that isn't paused", func(e *entrant) { e.priority, e.paused = 1, true }, nil},
		{"one that isn't paused", nil, func(e *entrant) { e.paused = true }},
	} {
		// the better one comes later in the configuration, so that order alone can't explain the choice
		order, _ := rank(terms{}, []entrant{standby(1, "worse", c.worse), standby(2, "better", c.better)})
		if len(order) != 2 || order[0].name != "better" {
			t.Errorf("%s: got %v", c.what, order)
		}
	}
	order, _ := rank(terms{}, []entrant{standby(1, "first", nil), standby(2, "second", nil)})
	if order[0].name != "first" {
		t.Errorf("configuration order does not decide a tie: %v", order)
	}
}

func TestRankRefuses(t *testing.T) {
	for _, c := range []struct {
		want   string
		terms  terms
		change func(*entrant)
	}{
		{"Failed: replaced", terms{}, func(e *entrant) { e.failed = "Failed: replaced" }},
		{"failover_candidate is off", terms{}, func(e *entrant) { e.candidate = false }},
		{"not reachable", terms{}, func(e *entrant) { e.fresh = false }},
		{"not reachable: refused", terms{}, func(e *entrant) { e.outcome, e.seen = SawRefused, "refused" }},
		{"role unknown", terms{}, func(e *entrant) { e.outcome, e.seen = SawAlive, "alive (53300)" }},
		{"writable on timeline 1", terms{}, func(e *entrant) { e.outcome = SawPrimary }},
		{"unknown or too old", terms{maxLag: 10}, nil},
		{"50 bytes behind", terms{maxLag: 10, lsn: 150, lsnKnown: true}, nil},
		{"never seen on the recorded", terms{maxLag: 10, lsn: 100, lsnKnown: true}, func(e *entrant) { e.followed = false }},
	} {
		order, verdicts := rank(c.terms, []entrant{standby(1, "s2", c.change)})
		if len(order) != 0 || !strings.Contains(verdicts[0].Verdict, c.want) {
			t.Errorf("want %q, got %v and %q", c.want, order, verdicts[0].Verdict)
		}
	}
}

// TestRankStranger: a server that was never seen on the recorded timeline is chosen only if it is the only candidate.
func TestRankStranger(t *testing.T) {
	lone := standby(1, "s2", func(e *entrant) { e.followed = false })
	if order, _ := rank(terms{}, []entrant{lone}); len(order) != 1 {
		t.Error("refused although it is alone")
	}
	order, verdicts := rank(terms{}, []entrant{lone, standby(2, "s3", nil)})
	if len(order) != 1 || order[0].name != "s3" {
		t.Errorf("got %v, %v", order, verdicts)
	}
}

func TestRankAcceptsWithinLag(t *testing.T) {
	order, _ := rank(terms{maxLag: 10, lsn: 110, lsnKnown: true}, []entrant{standby(1, "s2", nil)})
	if len(order) != 1 {
		t.Error("10 bytes behind were refused with failover_max_lag 10")
	}
}
