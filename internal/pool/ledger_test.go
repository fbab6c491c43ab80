package pool

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	keyA = Key{Database: "a", User: "u"}
	keyB = Key{Database: "b", User: "u"}
)

// opened returns a Ledger that grants leases on server 3 in epoch 7.
func opened(limit int, rules ...Rule) *Ledger {
	l := NewLedger(limit, rules)
	l.SetTarget(3, 7, true)
	return l
}

func grant(worker int, request, lease uint64) Effect {
	return Grant{Worker: worker, Request: request, Lease: lease, Server: 3, Epoch: 7}
}

func want(t *testing.T, what string, got []Effect, effects ...Effect) {
	t.Helper()
	if diff := cmp.Diff(effects, got, cmpopts.IgnoreFields(Reclaim{}, "Size")); diff != "" {
		t.Fatalf("%s: effects (-want +got):\n%s", what, diff)
	}
}

func returned(t *testing.T, l *Ledger, worker int, lease uint64) []Effect {
	t.Helper()
	effects, err := l.Return(worker, lease)
	if err != nil {
		t.Fatal(err)
	}
	return effects
}

func TestGrantsUpToTheTotalThenQueuesAndReclaims(t *testing.T) {
	l := opened(2)
	want(t, "first", l.Request(0, 1, keyA, NoRule, 0), grant(0, 1, 1))
	want(t, "second", l.Request(1, 1, keyA, NoRule, 0), grant(1, 1, 2))
	want(t, "third", l.Request(1, 2, keyB, NoRule, 0),
		Reclaim{ID: 1, Worker: 0, Key: keyB}, Reclaim{ID: 2, Worker: 1, Key: keyB, Own: true})
	want(t, "return", returned(t, l, 0, 1),
		ReclaimCancel{ID: 1, Worker: 0}, ReclaimCancel{ID: 2, Worker: 1}, grant(1, 2, 3))
	if n := l.Counts().Total; n != 2 {
		t.Errorf("%d leases, want 2", n)
	}
}

func TestFIFOOverAllWorkers(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(2, 1, keyA, NoRule, 0)
	l.Request(1, 1, keyB, NoRule, 0)
	l.Request(2, 2, keyA, NoRule, 0)
	lease := uint64(1)
	holder := 0
	for _, worker := range []int{2, 1, 2} {
		for _, e := range returned(t, l, holder, lease) {
			if g, ok := e.(Grant); ok {
				if g.Worker != worker {
					t.Fatalf("lease went to worker %d, want %d", g.Worker, worker)
				}
				holder, lease = g.Worker, g.Lease
			}
		}
	}
	if w := l.Counts().Waiting; w != 0 {
		t.Errorf("%d wait, want none", w)
	}
}

func TestFIFOOverRulesThatShareTheTotal(t *testing.T) {
	l := opened(1, Rule{Max: 5}, Rule{Max: 5})
	l.Request(0, 1, keyA, 0, 0)
	l.Request(1, 1, keyB, 1, 0)
	l.Request(2, 1, keyA, 0, 0)
	want(t, "return", returned(t, l, 0, 1),
		ReclaimCancel{ID: 1, Worker: 0}, grant(1, 1, 2), Reclaim{ID: 2, Worker: 1, Key: keyA})
}

func TestReclaimIsSentAnewWhenTheOneThatNamedTheYoungestLeaseIsCancelled(t *testing.T) {
	l := opened(9, Rule{Max: 2})
	for id := range uint64(3) {
		l.Request(0, id, keyA, 0, 0)
	}
	l.Request(1, 3, keyA, 0, 0)
	l.Request(1, 4, keyA, 0, 0)
	want(t, "return", returned(t, l, 0, 1),
		ReclaimCancel{ID: 1, Worker: 0}, grant(0, 2, 3),
		Reclaim{ID: 3, Worker: 0, Key: keyA, Leases: []uint64{2, 3}})
	want(t, "its waiter leaves, the other reclaim names leases 1 and 2", l.Abandon(1, 3),
		ReclaimCancel{ID: 3, Worker: 0}, ReclaimCancel{ID: 2, Worker: 0},
		Reclaim{ID: 4, Worker: 0, Key: keyA, Leases: []uint64{2, 3}})
}

// A worker whose leases are all of a pool serves its own clients of that pool
// without being asked.
func TestNothingIsReclaimedForAClientOfTheSameWorkerAndPool(t *testing.T) {
	l := opened(2)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 1, keyA, NoRule, 0)
	want(t, "the other worker is asked", l.Request(0, 2, keyA, NoRule, 0), Reclaim{ID: 1, Worker: 1, Key: keyA})
	want(t, "another pool's backend would help", l.Request(0, 3, keyB, NoRule, 0), Reclaim{ID: 2, Worker: 0, Key: keyB, Own: true})
}

// A worker has the reclaims of the clients that arrived first, even if their requests came
// later.
func TestReclaimOfWhoCameFirstTakesThePlaceOfALaterOne(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	want(t, "later client", l.Request(1, 1, keyA, NoRule, 9), Reclaim{ID: 1, Worker: 0, Key: keyA, Since: 9})
	want(t, "earlier client", l.Request(2, 1, keyA, NoRule, 5),
		ReclaimCancel{ID: 1, Worker: 0}, Reclaim{ID: 2, Worker: 0, Key: keyA, Since: 5})
	want(t, "between", l.Request(1, 2, keyA, NoRule, 7))
	want(t, "return", returned(t, l, 0, 1), ReclaimCancel{ID: 2, Worker: 0}, grant(2, 1, 2),
		Reclaim{ID: 3, Worker: 2, Key: keyA, Since: 7})
}

func TestFullRuleDelaysNoOtherRule(t *testing.T) {
	l := opened(3, Rule{Max: 1}, Rule{Max: 5})
	want(t, "fill rule 0", l.Request(0, 1, keyA, 0, 0), grant(0, 1, 1))
	want(t, "wait for rule 0", l.Request(1, 2, keyA, 0, 0), Reclaim{ID: 1, Worker: 0, Key: keyA, Leases: []uint64{1}})
	want(t, "later, rule 1", l.Request(0, 3, keyB, 1, 0), grant(0, 3, 2))
	want(t, "later, no rule", l.Request(0, 4, keyB, NoRule, 0), grant(0, 4, 3))
}

func TestReclaimOfARuleNamesItsLeasesOnly(t *testing.T) {
	l := opened(10, Rule{Max: 2})
	l.Request(0, 1, keyB, NoRule, 0)
	l.Request(0, 2, keyA, 0, 0)
	l.Request(1, 1, keyA, 0, 0)
	l.Request(2, 1, keyB, NoRule, 0)
	want(t, "rule is full", l.Request(2, 2, keyA, 0, 0),
		Reclaim{ID: 1, Worker: 0, Key: keyA, Leases: []uint64{2}},
		Reclaim{ID: 2, Worker: 1, Key: keyA, Leases: []uint64{3}})
}

func TestAbandonCancelsItsReclaims(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 9, keyB, NoRule, 0)
	want(t, "abandon", l.Abandon(1, 9), ReclaimCancel{ID: 1, Worker: 0})
	want(t, "abandon again", l.Abandon(1, 9))
	want(t, "abandon what was granted", l.Abandon(0, 1))
	want(t, "return", returned(t, l, 0, 1))
}

func TestOneReclaimPerNeededLease(t *testing.T) {
	l := opened(2)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(0, 2, keyA, NoRule, 0)
	want(t, "one waits", l.Request(1, 1, keyB, NoRule, 0), Reclaim{ID: 1, Worker: 0, Key: keyB})
	want(t, "two wait", l.Request(1, 2, keyA, NoRule, 0), Reclaim{ID: 2, Worker: 0, Key: keyA})
	want(t, "three wait for two leases", l.Request(1, 3, keyB, NoRule, 0))
}

func TestNothingIsGrantedOrReclaimedWhileClosed(t *testing.T) {
	l := NewLedger(1, nil)
	want(t, "before the first target", l.Request(0, 1, keyA, NoRule, 0))
	want(t, "open", l.SetTarget(3, 7, true), grant(0, 1, 1))
	want(t, "second", l.Request(1, 1, keyB, NoRule, 0), Reclaim{ID: 1, Worker: 0, Key: keyB})
	want(t, "close", l.SetTarget(-1, 7, false), ReclaimCancel{ID: 1, Worker: 0})
	want(t, "return while closed", returned(t, l, 0, 1))
	want(t, "reopen elsewhere", l.SetTarget(4, 8, true),
		Grant{Worker: 1, Request: 1, Lease: 2, Server: 4, Epoch: 8})
}

func TestReclaimNamesItsWaiterAgainAfterAPause(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 1, keyB, NoRule, 0)
	want(t, "close", l.SetTarget(3, 7, false), ReclaimCancel{ID: 1, Worker: 0})
	want(t, "reopen", l.SetTarget(3, 7, true), Reclaim{ID: 2, Worker: 0, Key: keyB})
}

func TestUpToNamesTheLeasesOfOldEpochs(t *testing.T) {
	l := opened(3)
	l.Request(0, 1, keyA, NoRule, 0)
	l.SetTarget(4, 8, true)
	l.Request(0, 2, keyA, NoRule, 0)
	got := l.UpTo(7)
	if diff := cmp.Diff([]Lease{{ID: 1, Key: keyA, Rule: NoRule, Server: 3, Epoch: 7}}, got); diff != "" {
		t.Error(diff)
	}
	if n := len(l.UpTo(8)); n != 2 {
		t.Errorf("%d leases up to epoch 8, want 2", n)
	}
}

func TestDeadWorkersLeasesCountUntilTheOrphanIsGone(t *testing.T) {
	l := opened(2, Rule{Max: 1})
	l.Request(0, 1, keyA, 0, 0)
	l.Request(0, 2, keyB, NoRule, 0)
	l.Request(0, 3, keyB, NoRule, 0)
	if _, err := l.Opened(0, 1, 4711, "cancel"); err != nil {
		t.Fatal(err)
	}
	orphans, effects := l.WorkerGone(0)
	want(t, "worker gone", effects)
	if diff := cmp.Diff([]Orphan{
		{Lease: 1, Key: keyA, Server: 3, Epoch: 7, PID: 4711, Cancel: "cancel"},
		{Lease: 2, Key: keyB, Server: 3, Epoch: 7},
	}, orphans); diff != "" {
		t.Fatal(diff)
	}
	want(t, "orphans fill the total, nobody can return them", l.Request(1, 1, keyA, 0, 0))
	want(t, "orphan of no rule gone, rule still full", l.OrphanGone(2))
	want(t, "another passes", l.Request(1, 2, keyB, NoRule, 0), grant(1, 2, 3))
	want(t, "orphan of the rule gone", l.OrphanGone(1), grant(1, 1, 4))
	want(t, "unknown orphan", l.OrphanGone(1))
	if _, err := l.Return(0, 1); err == nil {
		t.Error("a dead worker's lease was returned")
	}
}

func TestDeadWorkersRequestsVanish(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 1, keyA, NoRule, 0)
	l.Request(2, 1, keyA, NoRule, 0)
	orphans, effects := l.WorkerGone(1)
	if len(orphans) != 0 {
		t.Errorf("orphans %v", orphans)
	}
	want(t, "worker gone", effects,
		ReclaimCancel{ID: 1, Worker: 0}, Reclaim{ID: 2, Worker: 0, Key: keyA})
	want(t, "return", returned(t, l, 0, 1), ReclaimCancel{ID: 2, Worker: 0}, grant(2, 1, 2))
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		ledger *Ledger
		rule   int
		reason Reason
	}{
		{"rule of 0", opened(5, Rule{Max: 0}), 0, ReasonRuleClosed},
		{"no connections", opened(0), NoRule, ReasonPoolClosed},
		{"rule too large", opened(5, Rule{Max: 1}), 1, ReasonNoSuchRule},
		{"rule too small", opened(5), -2, ReasonNoSuchRule},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want(t, "request", tt.ledger.Request(1, 2, keyA, tt.rule, 0),
				Refuse{Worker: 1, Request: 2, Reason: tt.reason})
			if tt.reason.String() == "unknown reason" {
				t.Error("the reason has no text")
			}
		})
	}
	l := NewLedger(1, nil)
	l.Request(0, 1, keyA, NoRule, 0)
	want(t, "id in use", l.Request(0, 1, keyA, NoRule, 0),
		Refuse{Worker: 0, Request: 1, Reason: ReasonDuplicate})
}

func TestOnlyTheHolderReturnsALease(t *testing.T) {
	l := opened(2)
	l.Request(0, 1, keyA, NoRule, 0)
	if _, err := l.Return(1, 1); err == nil {
		t.Error("another worker returned it")
	}
	if _, err := l.Opened(1, 1, 5, ""); err == nil {
		t.Error("another worker opened it")
	}
	returned(t, l, 0, 1)
	if _, err := l.Return(0, 1); err == nil {
		t.Error("it was returned twice")
	}
}

func TestReclaimsAtATimeAreBounded(t *testing.T) {
	const leases, waiting = 100, 150
	l := opened(leases)
	for id := range uint64(leases) {
		l.Request(0, id, keyA, NoRule, 0)
	}
	outstanding, most, granted := map[uint64]bool{}, 0, 0
	follow := func(effects []Effect) {
		for _, e := range effects {
			switch e := e.(type) {
			case Reclaim:
				outstanding[e.ID] = true
			case ReclaimCancel:
				delete(outstanding, e.ID)
			case Grant:
				granted++
			}
		}
		most = max(most, l.Counts().Reclaims)
	}
	for id := range uint64(waiting) {
		follow(l.Request(1, id, keyB, NoRule, 0))
	}
	for lease := range uint64(leases) {
		if len(outstanding) == 0 {
			t.Fatalf("%d granted, %d wait, yet nothing is reclaimed", granted, waiting-granted)
		}
		follow(returned(t, l, 0, lease+1))
	}
	if granted != leases || most != maxClaims {
		t.Errorf("%d of %d granted with %d reclaims at most, want %d", granted, leases, most, maxClaims)
	}
}

func TestHoldersAndCounts(t *testing.T) {
	l := opened(4, Rule{Max: 1})
	l.Request(0, 1, keyB, 0, 0)
	l.Request(0, 2, keyA, NoRule, 0)
	l.Request(1, 1, keyA, NoRule, 0)
	l.Request(1, 2, keyB, 0, 0)
	l.WorkerGone(0)
	wantHolders := []Holder{
		{Key: keyA, Total: 2, Workers: map[int]int{-1: 1, 1: 1}},
		{Key: keyB, Total: 1, Workers: map[int]int{-1: 1}},
	}
	if diff := cmp.Diff(wantHolders, l.Holders()); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
	wantCounts := Counts{
		Max: 4, Total: 3, Orphans: 2, Waiting: 1,
		Rules:   []RuleCount{{Max: 1, Used: 1, Waiting: 1}},
		Workers: map[int]int{1: 1},
	}
	if diff := cmp.Diff(wantCounts, l.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestCancelKeyIsNeverPrinted(t *testing.T) {
	o := Orphan{Lease: 1, Cancel: "hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, v := range []any{o, &o, o.Cancel, []Orphan{o}, []*Orphan{&o}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") {
				t.Errorf("%s of %T shows the key: %s", verb, v, s)
			}
		}
	}
	if b, err := json.Marshal(o); err != nil || strings.Contains(string(b), "hunter2") {
		t.Errorf("JSON: %s, %v", b, err)
	}
	if o.Cancel.Reveal() != "hunter2" {
		t.Error("the key is lost")
	}
}

func handedOver(t *testing.T, l *Ledger, worker int, lease uint64) []Effect {
	t.Helper()
	effects, err := l.HandOver(worker, lease, worker)
	if err != nil {
		t.Fatal(err)
	}
	return effects
}

func TestHandOverMovesTheLeaseWithItsBackend(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	if _, err := l.Opened(0, 1, 4711, "cancel"); err != nil {
		t.Fatal(err)
	}
	l.Request(1, 5, keyA, NoRule, 0)
	want(t, "hand over", handedOver(t, l, 0, 1),
		ReclaimCancel{ID: 1, Worker: 0}, Move{Worker: 1, Request: 5, Lease: 2})
	if _, err := l.Return(0, 1); err == nil {
		t.Error("the old lease can still be returned")
	}
	orphans, _ := l.WorkerGone(1)
	if diff := cmp.Diff([]Orphan{{Lease: 2, Key: keyA, Server: 3, Epoch: 7, PID: 4711, Cancel: "cancel"}}, orphans); diff != "" {
		t.Errorf("the backend is not known any more (-want +got):\n%s", diff)
	}
	want(t, "limit", l.Request(0, 2, keyA, NoRule, 0))
	if n := l.Counts().Total; n != 1 {
		t.Errorf("%d leases", n)
	}
}

func TestBackendThatNobodyWaitsForGoesBack(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 5, keyA, NoRule, 0)
	l.Abandon(1, 5)
	want(t, "hand over", handedOver(t, l, 0, 1), Move{Worker: 0, Lease: 2, Back: true})
	if held, ok := l.Lease(2); !ok || held.Worker != 0 {
		t.Errorf("%+v %v", held, ok)
	}
}

func TestBackendGoesBackWhenAnotherPoolIsFirst(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 5, keyA, NoRule, 8)
	l.Request(1, 6, keyB, NoRule, 7)
	want(t, "hand over", handedOver(t, l, 0, 1), ReclaimCancel{ID: 2, Worker: 0},
		Move{Worker: 0, Lease: 2, Back: true}, Reclaim{ID: 3, Worker: 0, Key: keyB, Since: 7})
	want(t, "return", returned(t, l, 0, 2), ReclaimCancel{ID: 3, Worker: 0}, grant(1, 6, 3),
		Reclaim{ID: 4, Worker: 1, Key: keyA, Own: true, Since: 8})
}

func TestBackendOfAnOldEpochOrWithoutAPrimaryGoesBack(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	l.Request(1, 5, keyA, NoRule, 0)
	l.SetTarget(3, 7, false)
	want(t, "closed", handedOver(t, l, 0, 1), Move{Worker: 0, Lease: 2, Back: true})
	l.SetTarget(4, 8, true)
	want(t, "old", handedOver(t, l, 0, 2), ReclaimCancel{ID: 2, Worker: 0},
		Move{Worker: 0, Lease: 3, Back: true}, Reclaim{ID: 3, Worker: 0, Key: keyA})
	if held, _ := l.Lease(3); held.Epoch != 7 || held.Server != 3 {
		t.Errorf("%+v", held)
	}
}

func TestBackendOfAReplacedWorkerGoesToTheNextOne(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	effects, err := l.HandOver(0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "hand over", effects, Move{Worker: 1, Lease: 2, Back: true})
	if held, _ := l.Lease(2); held.Worker != 1 {
		t.Errorf("%+v", held)
	}
}

// A lease that goes with its client is nobody else's on the way, whoever waits.
func TestPassedLeaseKeepsItsClient(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	if _, err := l.Opened(0, 1, 4711, "cancel"); err != nil {
		t.Fatal(err)
	}
	l.Request(2, 5, keyA, NoRule, 0)
	id, effects, err := l.Pass(0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "pass", effects, ReclaimCancel{ID: 1, Worker: 0}, Reclaim{ID: 2, Worker: 1, Key: keyA})
	held, ok := l.Lease(id)
	if !ok || held.Worker != 1 || held.PID != 4711 || held.Cancel.Reveal() != "cancel" || held.Epoch != 7 {
		t.Errorf("%+v", held)
	}
	if _, ok := l.Lease(1); ok || l.Counts().Total != 1 {
		t.Errorf("%d leases", l.Counts().Total)
	}
	if _, _, err := l.Pass(0, id, 2); err == nil {
		t.Error("another worker passed it on")
	}
}

func TestOnlyTheHolderHandsALeaseOver(t *testing.T) {
	l := opened(1)
	l.Request(0, 1, keyA, NoRule, 0)
	if _, err := l.HandOver(1, 1, 1); err == nil {
		t.Error("another worker handed it over")
	}
}

func TestWhoCameFirstIsServedFirstWheneverTheRequestComes(t *testing.T) {
	l := opened(1, Rule{Max: 1})
	l.Request(0, 1, keyA, NoRule, 1)
	l.Request(0, 2, keyA, NoRule, 30)
	l.Request(1, 1, keyA, NoRule, 20)
	l.Request(1, 2, keyB, 0, 25)
	l.Request(1, 3, keyA, NoRule, 20)
	lease, holder := uint64(1), 0
	for _, want := range [][2]uint64{{1, 1}, {1, 3}, {1, 2}, {0, 2}} {
		for _, e := range returned(t, l, holder, lease) {
			if g, ok := e.(Grant); ok {
				if g.Worker != int(want[0]) || g.Request != want[1] {
					t.Fatalf("granted %+v, want request %d of worker %d", g, want[1], want[0])
				}
				holder, lease = g.Worker, g.Lease
			}
		}
	}
}

func TestReclaimTellsWhichLimitIsReachedAndSinceWhenSomebodyWaits(t *testing.T) {
	l := opened(9, Rule{Max: 1})
	l.Request(0, 1, keyA, 0, 0)
	got := l.Request(1, 1, keyA, 0, 42)
	if diff := cmp.Diff([]Effect{Reclaim{ID: 1, Worker: 0, Key: keyA, Leases: []uint64{1}, Since: 42, Size: 1}}, got); diff != "" {
		t.Error(diff)
	}
}
