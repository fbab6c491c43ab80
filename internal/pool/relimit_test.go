package pool

import (
	"testing"
)

func TestRelimitKeepsTheLeasesThatAreBeingOpenedAhead(t *testing.T) {
	key := Key{Database: "d", User: "u"}
	l := NewLedger(10, []Rule{{Max: 5}, {Max: 4, Key: key, Initial: 2, Min: 2}})
	l.WorkerReady(0)
	var given []uint64
	for _, e := range l.SetTarget(0, 1, true) {
		given = append(given, e.(Ahead).Lease)
	}
	if len(given) != 2 {
		t.Fatalf("%d leases were given ahead", len(given))
	}
	// The rule is another one now, and wants one more.
	more := l.Relimit(10, []Rule{{Max: 4, Key: key, Initial: 3, Min: 3}}, func(Key, int) int { return 0 })
	if len(more) != 1 || more[0].(Ahead).Key != key {
		t.Fatalf("%v", more)
	}
	// Now no rule opens anything ahead; what was given may still fail or be opened.
	if e := l.Relimit(10, nil, func(Key, int) int { return NoRule }); len(e) != 0 {
		t.Errorf("%v", e)
	}
	if _, _, _, err := l.AheadFailed(0, given[0]); err != nil {
		t.Error(err)
	}
	if _, err := l.Opened(0, given[1], 7, ""); err != nil {
		t.Error(err)
	}
	if c := l.Counts(); c.Total != 2 || l.ahead.opening != 1 {
		t.Errorf("%d leases, %d being opened", c.Total, l.ahead.opening)
	}
}

func TestRelimitKeepsTheOrderOfRequestsAndTheCounts(t *testing.T) {
	a, b := Key{Database: "a"}, Key{Database: "b"}
	l := NewLedger(2, []Rule{{Max: 2}})
	l.SetTarget(0, 1, true)
	first := l.Request(0, 1, a, 0, 1)[0].(Grant)
	l.Request(0, 2, a, 0, 2)
	l.Request(1, 3, b, 0, 3) // waits
	l.Request(1, 4, a, 0, 4) // waits
	l.WorkerGone(2)          // unknown: nothing
	l.RequestUnproven(1, 5, b, 0, 5)
	effects := l.Relimit(2, []Rule{{Max: 1}, {Max: 2}}, func(k Key, _ int) int {
		return map[Key]int{a: 0, b: 1}[k]
	})
	for _, e := range effects {
		if g, ok := e.(Grant); ok {
			t.Errorf("granted above the total: %+v", g)
		}
	}
	c := l.Counts()
	if c.Total != 2 || c.Rules[0].Used != 2 || c.Rules[1].Used != 0 {
		t.Fatalf("%+v", c)
	}
	effects, err := l.Return(0, first.Lease)
	if err != nil {
		t.Fatal(err)
	}
	var granted []uint64
	for _, e := range effects {
		if g, ok := e.(Grant); ok {
			granted = append(granted, g.Request)
		}
	}
	// a is above its new limit, so the older request of b gets the lease.
	if len(granted) != 1 || granted[0] != 3 {
		t.Errorf("granted %v", granted)
	}
}
