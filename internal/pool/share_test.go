package pool

import "testing"

// Unproven logins may hold at most a quarter of the leases, and delay no other clients.
func TestUnprovenLoginsHoldAShare(t *testing.T) {
	l := opened(8)
	want(t, "the first", l.RequestUnproven(0, 1, keyA, NoRule, 0), grant(0, 1, 1))
	want(t, "the second", l.RequestUnproven(0, 2, keyA, NoRule, 0), grant(0, 2, 2))
	want(t, "the share is used up", l.RequestUnproven(0, 3, keyA, NoRule, 0))
	want(t, "others have room", l.Request(1, 4, keyB, NoRule, 0), grant(1, 4, 3))
	if n := l.Counts().Unproven; n != 2 {
		t.Errorf("%d leases are unproven", n)
	}
	effects, err := l.Opened(0, 1, 42, "key")
	if err != nil {
		t.Fatal(err)
	}
	want(t, "one has proven who it is", effects, grant(0, 3, 4))
	effects, err = l.Return(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "one has failed", effects)
	want(t, "there is room again", l.RequestUnproven(0, 5, keyA, NoRule, 0), grant(0, 5, 5))
}

func TestShareIsAtLeastOne(t *testing.T) {
	l := opened(3, Rule{Max: 1})
	want(t, "of a small rule", l.RequestUnproven(0, 1, keyA, 0, 0), grant(0, 1, 1))
	want(t, "of a small total", l.RequestUnproven(0, 2, keyB, NoRule, 0))
}

// Nothing is reclaimed for an unproven login that the share has no room for.
func TestNothingIsReclaimedBeyondTheShare(t *testing.T) {
	l := opened(2)
	want(t, "a silent one", l.RequestUnproven(0, 1, keyA, NoRule, 0), grant(0, 1, 1))
	want(t, "one who is known", l.Request(1, 2, keyB, NoRule, 0), grant(1, 2, 2))
	want(t, "another silent one", l.RequestUnproven(0, 3, keyA, NoRule, 0))
	if n := l.Counts().Reclaims; n != 0 {
		t.Errorf("%d reclaims", n)
	}
	effects, err := l.Return(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "a lease that is free stays free", effects)
}

// A full rule delays no client of another rule, unproven or not, because waiting clients use
// nothing of the share.
func TestUnprovenLoginsOfAFullRuleDelayNoOthers(t *testing.T) {
	l := opened(4, Rule{Max: 1})
	want(t, "the rule is full", l.Request(0, 1, keyA, 0, 0), grant(0, 1, 1))
	l.RequestUnproven(0, 2, keyA, 0, 0)
	want(t, "another rule", l.RequestUnproven(1, 3, keyB, NoRule, 0), grant(1, 3, 2))
}

// The leases of a dead worker's logins count until their server has let go of them.
func TestUnprovenOrphansCount(t *testing.T) {
	l := opened(4)
	want(t, "a silent one", l.RequestUnproven(0, 1, keyA, NoRule, 0), grant(0, 1, 1))
	orphans, _ := l.WorkerGone(0)
	want(t, "another worker's", l.RequestUnproven(1, 2, keyA, NoRule, 0))
	want(t, "it is gone", l.OrphanGone(orphans[0].Lease), grant(1, 2, 2))
}
