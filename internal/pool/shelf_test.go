package pool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var shelfKey = Key{Database: "d", User: "u"}

// shelfWith returns a Shelf that is open in epoch 1 and has idle backends of one pool, with
// leases from 1 on. They were opened and shelved at so many milliseconds.
func shelfWith(t *testing.T, limits Limits, at ...int) (*Shelf, *Pool, []*Backend) {
	t.Helper()
	s := NewShelf(limits)
	s.SetTarget(true, 1, 0)
	p, ok := s.Pool(shelfKey)
	if !ok {
		t.Fatal("no pool")
	}
	var list []*Backend
	for i, ms := range at {
		when := time.Duration(ms) * time.Millisecond
		b := &Backend{Lease: uint64(i + 1), Epoch: 1, Born: when}
		s.TakeOver(0, shelfKey, b, when)
		list = append(list, b)
	}
	wantActs(t, s)
	return s, p, list
}

// wantActs compares the Shelf's acts with lines of text.
func wantActs(t *testing.T, s *Shelf, want ...string) {
	t.Helper()
	var got []string
	for a, ok := s.Next(); ok; a, ok = s.Next() {
		got = append(got, lineOf(a))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("acts (-want +got):\n%s", diff)
	}
}

func lineOf(a Act) string {
	switch a.Do {
	case Ask:
		return fmt.Sprintf("ask %d", a.Request)
	case Withdraw:
		return fmt.Sprintf("withdraw %d", a.Request)
	case Serve:
		return fmt.Sprintf("serve %v with lease %d", a.Waiter.Of, a.Backend.Lease)
	case HandOver:
		return fmt.Sprintf("hand over lease %d", a.Backend.Lease)
	case Close:
		return fmt.Sprintf("close lease %d: %v", a.Backend.Lease, a.Reason)
	case Review:
		return fmt.Sprintf("review in %v", a.In)
	case Resume:
		return fmt.Sprintf("resume in %v", a.In)
	}
	return "nothing known"
}

// A client of another worker is owed a backend when both hold: it has waited for long enough,
// and it was passed over by as many clients as there may be backends.
func TestBackendIsOwedToWhoWasPassedOverElsewhere(t *testing.T) {
	const now = time.Hour
	for _, tt := range []struct {
		name   string
		waits  time.Duration
		later  int
		leases []uint64
		own    bool
		owed   bool
	}{
		{"long, passed over", fairness + time.Millisecond, 2, nil, false, true},
		{"long, passed over, by a rule", fairness + time.Millisecond, 2, []uint64{1}, false, true},
		{"long, not passed over", fairness + time.Millisecond, 1, nil, false, false},
		{"passed over, not long", fairness / 2, 2, nil, false, false},
		{"another lease is wanted", fairness + time.Millisecond, 2, []uint64{9}, false, false},
		{"a client of this worker", fairness + time.Millisecond, 2, nil, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewShelf(Limits{})
			p, _ := s.Pool(shelfKey)
			b := &Backend{Pool: p, Lease: 1}
			s.served.keep()
			p.served.keep()
			came := now - tt.waits
			s.serves(p, came-time.Second) // before it
			for range tt.later {
				s.serves(p, came+time.Millisecond)
			}
			s.Reclaim(Reclaim{ID: 1, Key: shelfKey, Leases: tt.leases, Own: tt.own, Size: 2, Since: came})
			if owed := s.owes(b, &Waiter{id: 1, Since: came + 2*time.Millisecond}, now); owed != tt.owed {
				t.Errorf("owed %v to one who came first, want %v", owed, tt.owed)
			}
			if s.owes(b, &Waiter{id: 1, Since: came - time.Millisecond}, now) {
				t.Error("owed although ours came first")
			}
		})
	}
}

// A client that was moved here from another worker keeps its place: it has a later number than those that waited here
// already, and may have come before them.
func TestBackendIsOwedInTheOrderOfArrivalToClientsThatWereMoved(t *testing.T) {
	const now = time.Hour
	s := NewShelf(Limits{})
	p, _ := s.Pool(shelfKey)
	otherKey := shelfKey
	otherKey.User += "2"
	other, _ := s.Pool(otherKey)
	here, moved := &Waiter{Pool: p}, &Waiter{Pool: other, Waited: time.Minute}
	s.Wait(here, now-time.Second)
	s.Wait(moved, now)
	s.Reclaim(Reclaim{ID: 1, Key: otherKey, Own: true, Size: 2, Since: moved.Since})
	if !s.owes(&Backend{Pool: p, Lease: 1}, here, now) {
		t.Error("one that came later is served before the client that was moved")
	}
	s.ReclaimCancel(1)
	s.Reclaim(Reclaim{ID: 2, Key: shelfKey, Own: true, Size: 2, Since: here.Since})
	if s.owes(&Backend{Pool: other, Lease: 2}, moved, now) {
		t.Error("the client that was moved waits for one that came later")
	}
}

// A client of another worker may have arrived before this worker started. That alone must not
// count as passed over.
func TestYoungWorkerHasPassedNobodyOver(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0)
	s.served.keep()
	p.served.keep()
	r := Reclaim{ID: 1, Key: shelfKey, Size: 1, Since: -time.Minute}
	if s.passedOver(list[0], &r) {
		t.Error("it has, before it has served anybody")
	}
	s.serves(p, 0)
	if !s.passedOver(list[0], &r) {
		t.Error("it has not, after it has served one")
	}
}

func TestBackendUsedLastIsTakenFirst(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0, 1)
	for _, want := range []*Backend{list[1], list[0], nil} {
		if got := s.Take(p, false, time.Second); got != want {
			t.Errorf("took %v, want %v", got, want)
		}
	}
	wantActs(t, s)
}

func TestClientThatHasProvenNothingGetsTrustingBackendsAlone(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0)
	if b := s.Take(p, true, 0); b != nil {
		t.Error("it got a backend that was opened with a password")
	}
	s.Take(p, false, 0)
	wt := &Waiter{Pool: p, Bare: true, Of: "bare"}
	s.Wait(wt, 0)
	wantActs(t, s, "ask 2", "review in 20ms")
	s.Put(list[0], false, 0)
	wantActs(t, s)
	s.Take(p, false, 0)
	list[0].Trusting = true
	s.Put(list[0], false, 0)
	wantActs(t, s, "withdraw 2", "serve bare with lease 1")
}

// The Ledger reclaims nothing for a client whose own pool has idle backends.
func TestBackendMakesRoomForAClientThatHasProvenNothing(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0, 0, 0, 0)
	busy := s.Take(p, false, 0)
	first, second := &Waiter{Pool: p, Bare: true, Of: "first"}, &Waiter{Pool: p, Bare: true, Of: "second"}
	s.Wait(first, 0)
	s.Wait(second, 0)
	wantActs(t, s, "ask 2", "review in 20ms", "ask 4")
	s.Review(p, patience-1)
	wantActs(t, s, "review in 20ms")
	s.Review(p, patience)
	wantActs(t, s, "close lease 1: clients that wait need one of their own", "review in 20ms")
	s.Put(busy, false, patience) // the lease is on its way
	wantActs(t, s)
	if s.Grant(2, true, patience) != first {
		t.Fatal("the first doesn't get it")
	}
	busy = s.Take(p, false, patience)
	s.Put(busy, false, 2*patience)
	wantActs(t, s, "close lease 4: clients that wait need one of their own")
	s.Pause(p, time.Second)
	s.Review(p, 10*patience) // nobody can open one now
	wantActs(t, s, "resume in 1s", "review in 20ms")
	if !list[1].Idle() || !list[2].Idle() {
		t.Error("more are closed than are needed")
	}
}

func TestProvenClientsGetIdleBackends(t *testing.T) {
	s, p, _ := shelfWith(t, Limits{}, 0, 0)
	for _, name := range []string{"a", "b", "c", "d"} {
		s.Wait(&Waiter{Pool: p, Bare: true, Of: name}, 0)
	}
	wantActs(t, s, "ask 2", "review in 20ms", "ask 4", "ask 6", "ask 8")
	s.Prove(func(wt *Waiter) bool { return wt.Of != "a" }, 0)
	wantActs(t, s, "withdraw 4", "serve b with lease 2", "withdraw 6", "serve c with lease 1")
	b := &Backend{Pool: p, Lease: 3, Epoch: 1}
	s.Put(b, false, 0)
	wantActs(t, s, "withdraw 8", "serve d with lease 3")
	s.Put(b, false, 0)
	if !b.Idle() {
		t.Error("a gets one that it may not have")
	}
}

// A lease that was requested for an authenticated client must not go to an unproven one,
// because it would not count against the share.
func TestLeaseOfAKnownClientIsNotForOneThatHasProvenNothing(t *testing.T) {
	s, p, _ := shelfWith(t, Limits{})
	bare, known := &Waiter{Pool: p, Bare: true, Of: "bare"}, &Waiter{Pool: p, Of: "known"}
	s.Wait(bare, 0)
	s.Wait(known, 0)
	wantActs(t, s, "ask 2", "review in 20ms", "ask 4")
	if wt := s.Grant(4, true, 0); wt != known {
		t.Errorf("%+v got it", wt)
	}
	if wt := s.Grant(2, true, 0); wt != bare {
		t.Errorf("%+v got the other", wt)
	}
}

// Each reason for closing a backend.
func TestWhyABackendIsNotKept(t *testing.T) {
	limits := Limits{IdleTimeout: time.Second, MaxAge: time.Minute}
	for _, tt := range []struct {
		want string
		do   func(s *Shelf, b *Backend)
	}{
		{"no primary is open", func(s *Shelf, b *Backend) { s.SetTarget(false, 1, 0); s.Put(b, false, 0) }},
		{"another primary", func(s *Shelf, b *Backend) { s.SetTarget(true, 2, 0); s.Put(b, false, 0) }},
		{"another primary", func(s *Shelf, b *Backend) { s.Put(b, false, 0); s.SetTarget(true, 2, 0) }},
		{"its client has left", func(s *Shelf, b *Backend) { b.Private = true; s.Put(b, false, 0) }},
		{"unknown state", func(s *Shelf, b *Backend) { b.Spoiled = true; s.Put(b, false, 0) }},
		{"max_connection_age", func(s *Shelf, b *Backend) { s.Put(b, false, time.Minute) }},
		{"max_connection_age", func(s *Shelf, b *Backend) { s.Put(b, false, 50*time.Second); s.Sweep(time.Minute) }},
		{"idle_timeout", func(s *Shelf, b *Backend) { s.Put(b, false, 0); s.Sweep(time.Second) }},
		{"shutdown", func(s *Shelf, b *Backend) { s.Put(b, false, 0); s.Drain() }},
		{"shutdown", func(s *Shelf, b *Backend) { s.Drain(); s.Put(b, false, 0) }},
		{"another pool needs its place", func(s *Shelf, b *Backend) {
			s.Put(b, false, 0)
			s.Reclaim(Reclaim{ID: 1, Key: Key{Database: "other"}, Size: 1})
		}},
		{"clients that wait need one of their own", func(s *Shelf, b *Backend) {
			s.Wait(&Waiter{Pool: b.Pool, Bare: true}, 0)
			for _, ok := s.Next(); ok; _, ok = s.Next() {
			}
			s.TakeOver(0, shelfKey, b, 0)
			s.out = s.out[:1] // what is asked for after that
		}},
		{"the server's host is lost", func(s *Shelf, b *Backend) {
			s.Put(b, false, 0)
			s.CloseIdle(EvictServer, func(*Backend) bool { return true })
		}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			s, p, list := shelfWith(t, limits, 0)
			if s.Take(p, false, 0) != list[0] {
				t.Fatal("it isn't there")
			}
			tt.do(s, list[0])
			wantActs(t, s, "close lease 1: "+tt.want)
			if list[0].Idle() || s.Take(p, false, 0) != nil {
				t.Error("it is on the shelf")
			}
		})
	}
}

// Backends that were opened together must not be opened anew together.
func TestBackendsOfOneAgeEndAtDifferentTimes(t *testing.T) {
	const n = 100
	s, _, list := shelfWith(t, Limits{MaxAge: 1000 * time.Second}, make([]int, n)...)
	for _, tt := range []struct{ at, least, most int }{{899, n, n}, {925, 73, 77}, {950, 48, 52}, {975, 23, 27}, {1000, 0, 0}} {
		s.Sweep(time.Duration(tt.at) * time.Second)
		idle := 0
		for _, b := range list {
			if b.Idle() {
				idle++
			}
		}
		if idle < tt.least || idle > tt.most {
			t.Errorf("%d of %d backends are left after %d s of at most 1000 s, want %d to %d", idle, n, tt.at, tt.least, tt.most)
		}
	}
}

// A test of an idle backend isn't a use of it.
func TestBackendThatWasOnlyTestedKeepsItsPlace(t *testing.T) {
	s, p, list := shelfWith(t, Limits{IdleTimeout: time.Second}, 0, 100, 200)
	if got := s.IdleSince(100 * time.Millisecond); len(got) != 2 || got[0] != list[0] || got[1] != list[1] {
		t.Fatalf("%d backends are idle since 100 ms, want the first two", len(got))
	}
	s.Unshelve(list[0])
	s.PutBack(list[0], 300*time.Millisecond)
	if s.Take(p, false, 300*time.Millisecond) != list[2] {
		t.Error("the backend that was tested is taken first")
	}
	s.Sweep(time.Second)
	wantActs(t, s, "close lease 1: idle_timeout")
}

func TestBackendThatWasTestedGoesToAClientThatWaits(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0)
	s.Unshelve(list[0])
	s.Wait(&Waiter{Pool: p, Of: "client"}, 0)
	wantActs(t, s, "ask 2", "review in 20ms")
	s.PutBack(list[0], 0)
	wantActs(t, s, "withdraw 2", "serve client with lease 1")
}

func TestFreshBackendsAreKept(t *testing.T) {
	s, _, list := shelfWith(t, Limits{IdleTimeout: time.Second, MaxAge: time.Minute}, 0, 500)
	s.Sweep(999 * time.Millisecond)
	wantActs(t, s)
	s.Sweep(1200 * time.Millisecond)
	wantActs(t, s, "close lease 1: idle_timeout")
	if !list[1].Idle() {
		t.Error("one that was used since isn't there any more")
	}
	if every := s.SweepEvery(); every != 500*time.Millisecond {
		t.Errorf("a look each %v", every)
	}
	if every := NewShelf(Limits{MaxAge: time.Hour}).SweepEvery(); every != time.Minute {
		t.Errorf("a look each %v at connections that may live for an hour", every)
	}
}

func TestPoolUsedLongestAgoMakesRoomForAnother(t *testing.T) {
	s, first, _ := shelfWith(t, Limits{MaxPools: 2}, 0, 100)
	second := Key{Database: "second"}
	s.TakeOver(0, second, &Backend{Lease: 7, Epoch: 1}, 50*time.Millisecond)
	if _, ok := s.Pool(shelfKey); !ok {
		t.Error("a pool that is there is refused")
	}
	wantActs(t, s)
	if _, ok := s.Pool(Key{Database: "third"}); !ok {
		t.Fatal("no room was made")
	}
	wantActs(t, s, "close lease 7: max_pools")
	if s.Lookup(second) != nil || s.Lookup(shelfKey) != first {
		t.Error("another pool has gone")
	}
}

func TestPoolsThatAreInUseAreKept(t *testing.T) {
	for name, use := range map[string]func(s *Shelf, p *Pool, b *Backend){
		"a backend in use": func(s *Shelf, p *Pool, _ *Backend) { s.Take(p, false, 0) },
		"a client that waits": func(s *Shelf, _ *Pool, b *Backend) {
			s.Gone(b)
			p, _ := s.Pool(shelfKey)
			s.Wait(&Waiter{Pool: p}, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, list := shelfWith(t, Limits{MaxPools: 1}, 0)
			use(s, p, list[0])
			if _, ok := s.Pool(Key{Database: "other"}); ok {
				t.Error("there are more pools than may be")
			}
			if s.Lookup(Key{Database: "other"}) != nil {
				t.Error("what was refused is there")
			}
		})
	}
}

// A pool that was evicted may be made again before its backends are closed.
func TestBackendsOfAnEvictedPoolDoNotCountForItsHeir(t *testing.T) {
	s, _, list := shelfWith(t, Limits{MaxPools: 1}, 0)
	other, _ := s.Pool(Key{Database: "other"})
	wantActs(t, s, "close lease 1: max_pools")
	s.tidy(other)
	again, ok := s.Pool(shelfKey)
	if !ok {
		t.Fatal("no room")
	}
	s.Gone(list[0])
	if again.Live() != 0 || s.Lookup(shelfKey) != again {
		t.Errorf("%d backends live", again.Live())
	}
}

// Every transaction takes a backend off the shelf and puts it back, so that must not allocate.
func TestShelfAllocatesNothingOnTheWay(t *testing.T) {
	s, p, _ := shelfWith(t, Limits{IdleTimeout: time.Hour, MaxAge: time.Hour}, 0, 0)
	s.served.keep()
	p.served.keep()
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += time.Microsecond
		b := s.Take(p, false, now)
		s.Put(b, false, now)
		if _, ok := s.Next(); ok {
			t.Fatal("there is something to do")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEvictionsHaveWords(t *testing.T) {
	for e := EvictClosed; e <= EvictServer; e++ {
		if text := e.String(); text == "" || strings.Contains(text, "unknown reason") {
			t.Errorf("reason %d is %q", e, text)
		}
	}
}

// BenchmarkShelf takes a backend off the shelf and puts it back.
func BenchmarkShelf(b *testing.B) {
	s := NewShelf(Limits{MaxAge: time.Hour})
	s.SetTarget(true, 1, 0)
	for i := range 20 {
		s.TakeOver(0, shelfKey, &Backend{Lease: uint64(i), Epoch: 1}, 0)
	}
	p := s.Lookup(shelfKey)
	b.ReportAllocs()
	for b.Loop() {
		s.Put(s.Take(p, false, 1), false, 1)
		if _, ok := s.Next(); ok {
			b.Fatal("there is something to do")
		}
	}
}

// Clients of held pools wait, and their pool keeps and asks for nothing.
func TestHeldPoolsServeNobodyUntilTheyAreLetGo(t *testing.T) {
	s, p, list := shelfWith(t, Limits{}, 0, 1)
	free, _ := s.Pool(Key{Database: "other", User: "u"})
	took := s.Take(p, false, 2)
	s.SetHold(func(k Key) bool { return k.Database == "d" }, 3)
	wantActs(t, s, "close lease 1: clients are paused")
	s.Gone(list[0])
	wt := &Waiter{Pool: p, Of: "held"}
	s.Wait(wt, 4)
	s.Wait(&Waiter{Pool: free, Of: "free"}, 4)
	wantActs(t, s, "ask 3", "review in 20ms")
	if s.Take(p, false, 4) != nil || !p.Held() || free.Held() {
		t.Error("a held pool serves a client")
	}
	s.Put(took, false, 5)
	wantActs(t, s, "close lease 2: clients are paused")
	s.Gone(took)
	s.SetHold(nil, 6)
	wantActs(t, s, "ask 4", "review in 20ms")
	// A grant that comes when the pool is held again is returned.
	s.SetHold(func(Key) bool { return true }, 7)
	wantActs(t, s, "withdraw 4", "withdraw 3")
	if s.Grant(4, true, 8) != nil || !wt.Queued() {
		t.Error("a backend is opened for a held pool")
	}
	// A pool that is made while it is held is held.
	if late, _ := s.Pool(Key{Database: "late"}); !late.Held() {
		t.Error("a new pool isn't held")
	}
}
