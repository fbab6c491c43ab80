package pool

import (
	"testing"
	"time"
)

// aheadLedger is open, with one rule whose pool is keyA, and one worker.
func aheadLedger(t *testing.T, limit int, rule Rule) (*Ledger, []Effect) {
	t.Helper()
	rule.Key = keyA
	l := NewLedger(limit, []Rule{rule})
	want(t, "no worker is there", l.SetTarget(0, 1, true))
	return l, l.WorkerReady(0)
}

// leasesAhead returns the leases that effects give ahead.
func leasesAhead(effects []Effect) (leases []uint64) {
	for _, e := range effects {
		if a, ok := e.(Ahead); ok {
			leases = append(leases, a.Lease)
		}
	}
	return leases
}

func open(t *testing.T, l *Ledger, leases ...uint64) (given []uint64) {
	t.Helper()
	for _, id := range leases {
		effects, err := l.Opened(0, id, 1, "")
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, leasesAhead(effects)...)
	}
	return given
}

func TestAFewBackendsAreOpenedAheadAtATime(t *testing.T) {
	l, effects := aheadLedger(t, 20, Rule{Max: 10, Initial: 6, Min: 2})
	first := leasesAhead(effects)
	if len(first) != maxAhead {
		t.Fatalf("%d at a time", len(first))
	}
	rest := open(t, l, first...)
	if open(t, l, rest...); l.Counts().Rules[0].Used != 6 {
		t.Errorf("%d are open", l.Counts().Rules[0].Used)
	}
	for _, id := range first { // MIN is enough from now on
		if effects, err := l.Return(0, id); err != nil || leasesAhead(effects) != nil {
			t.Errorf("%v, %v", effects, err)
		}
	}
	if effects, err := l.Return(0, rest[0]); err != nil || len(leasesAhead(effects)) != 1 {
		t.Errorf("below the minimum: %v, %v", effects, err)
	}
	if n := len(leasesAhead(l.SetTarget(1, 2, true))); n != maxAhead-1 {
		t.Errorf("%d for the new primary, and one is under way", n)
	}
}

func TestARuleThatFailsWaitsLongerEachTime(t *testing.T) {
	l, effects := aheadLedger(t, 20, Rule{Max: 10, Min: 8})
	under := leasesAhead(effects)
	var pauses []time.Duration
	var last Pause
	for range 8 {
		for _, id := range under {
			effects, _, pause, err := l.AheadFailed(0, id)
			if err != nil || leasesAhead(effects) != nil {
				t.Fatalf("%v, %v", effects, err)
			}
			if pause.For > 0 {
				pauses, last = append(pauses, pause.For/time.Second), pause
				under = leasesAhead(l.ResumeAhead(pause)) // nothing while others are under way
			}
		}
		under = append(under[:0:0], leasesAhead(l.ResumeAhead(last))...)
		if len(under) == 0 {
			for id, held := range l.leases {
				if held.ahead != nil {
					under = append(under, id)
				}
			}
		}
		if len(under) != 1 {
			t.Fatalf("%d attempts at a time after a failure", len(under))
		}
	}
	if pauses[0] != 1 || pauses[len(pauses)-1] != 60 {
		t.Errorf("pauses %v", pauses)
	}
	if n := len(open(t, l, under...)); n != maxAhead {
		t.Errorf("%d after a success", n)
	}
	if _, _, _, err := l.AheadFailed(0, under[0]); err == nil {
		t.Error("a backend that was opened has failed")
	}
}

// The timer of a pause may end after a new primary, or a reload, has begun another one.
func TestAPauseIsEndedByItsOwnTimerAlone(t *testing.T) {
	rules := []Rule{{Max: 10, Min: 1, Key: Key{Database: "d", User: "u"}}}
	l := NewLedger(20, rules)
	l.WorkerReady(0)
	fails := func(effects []Effect) Pause {
		t.Helper()
		given := leasesAhead(effects)
		if len(given) != 1 {
			t.Fatalf("%d leases ahead", len(given))
		}
		_, _, pause, err := l.AheadFailed(0, given[0])
		if err != nil || pause.For == 0 {
			t.Fatal(pause, err)
		}
		return pause
	}
	old := fails(l.SetTarget(0, 1, true))
	present := fails(l.SetTarget(1, 2, true))
	if n := len(leasesAhead(l.ResumeAhead(old))); n != 0 {
		t.Error("the pause of the primary before has ended that of the present one")
	}
	before := present
	present = fails(l.Relimit(20, rules, func(Key, int) int { return 0 }))
	if n := len(leasesAhead(l.ResumeAhead(before))); n != 0 {
		t.Error("the pause of a rule before a reload has ended that of another rule")
	}
	if n := len(leasesAhead(l.ResumeAhead(present))); n != 1 {
		t.Error("the present pause doesn't end")
	}
}

func TestClientsComeBeforeWhatIsOpenedAhead(t *testing.T) {
	l, effects := aheadLedger(t, 2, Rule{Max: 2, Min: 2})
	open(t, l, leasesAhead(effects)...)
	l.Request(0, 1, keyB, NoRule, 0)
	effects, err := l.Return(0, leasesAhead(effects)[0])
	if err != nil || leasesAhead(effects) != nil {
		t.Errorf("%v, %v", effects, err)
	}
	if n := l.Counts().Waiting; n != 0 {
		t.Errorf("%d wait", n)
	}
}

// idle_timeout spares what the worker keeps, and takes those first that were used longest ago.
func TestIdleTimeoutSparesWhatIsKept(t *testing.T) {
	s := NewShelf(Limits{IdleTimeout: time.Second, Keep: map[Key]int{keyA: 2}})
	s.SetTarget(true, 1, 0)
	for i := range 4 {
		p, _ := s.Pool(keyA)
		s.OpenAhead(p)
		s.Opened(&Waiter{Pool: p, Bare: true}, true)
		s.Put(&Backend{Pool: p, Lease: uint64(4 - i), Epoch: 1}, true, time.Duration(i))
	}
	s.Sweep(time.Minute)
	var closed []uint64
	for a, ok := s.Next(); ok; a, ok = s.Next() {
		closed = append(closed, a.Backend.Lease)
	}
	if len(closed) != 2 || closed[0] != 3 || closed[1] != 4 {
		t.Errorf("closed %v", closed)
	}
	if s.Sweep(2 * time.Minute); s.Lookup(keyA) == nil || len(s.Lookup(keyA).idle) != 2 {
		t.Error("another sweep closes more")
	}
}

func TestNothingIsOpenedAheadForHeldPools(t *testing.T) {
	rules := []Rule{{Max: 10, Min: 1, Key: Key{Database: "d", User: "u"}}}
	l := NewLedger(20, rules)
	l.Hold(func(k Key) bool { return k.Database == "d" })
	l.WorkerReady(0)
	if n := len(leasesAhead(l.SetTarget(0, 1, true))); n != 0 {
		t.Errorf("%d leases for a held pool", n)
	}
	if n := len(leasesAhead(l.Relimit(20, rules, func(Key, int) int { return 0 }))); n != 0 {
		t.Errorf("%d leases for a held pool after a reload", n)
	}
	if n := len(leasesAhead(l.Hold(nil))); n != 1 {
		t.Errorf("%d leases when it isn't held any more", n)
	}
	if n := l.Used(func(k Key) bool { return k.Database == "d" }); n != 1 {
		t.Errorf("%d leases are in use", n)
	}
}

func TestNothingIsOpenedAheadByAWorkerThatRetires(t *testing.T) {
	l := NewLedger(10, []Rule{{Max: 10, Min: 2, Key: Key{Database: "d", User: "u"}}})
	l.WorkerReady(0)
	l.WorkerReady(1)
	l.WorkerRetires(0)
	var got []int
	for _, e := range l.SetTarget(0, 1, true) {
		got = append(got, e.Target())
	}
	if len(got) != 2 || got[0] != 1 || got[1] != 1 {
		t.Errorf("the workers %v open backends ahead", got)
	}
}
