package pool

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The simulation of fairness: clients, workers with the policy of package worker
// (ask.go, pools.go, reclaim.go and handover.go there, by the same names), links that
// take a while, and the Ledger. Time is simulated.

var fairSteps = flag.Int("steps", 0, "steps of the simulation of fairness; 0 for a million, or a tenth of it with the race detector")

// What is promised: nobody waits while another worker serves more than twice as many
// later arrivals as there may be backends, or longer than this, whichever is later.
const promise = 50 * time.Millisecond

// The constants of package worker.
const (
	fairMaxAsk     = 4
	fairMaxLate    = 64
	fairAnswerTime = 2 * time.Millisecond
	fairPatience   = 20 * time.Millisecond
	fairProbeAfter = 10
	fairFairness   = 40 * time.Millisecond
	fairMaxServed  = 256
)

type fairEvent struct {
	at  time.Duration
	seq int
	f   func()
}

type fairEvents []fairEvent

func (h fairEvents) Len() int { return len(h) }
func (h fairEvents) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h fairEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *fairEvents) Push(x any)   { *h = append(*h, x.(fairEvent)) }
func (h *fairEvents) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// fair is the world.
type fair struct {
	t       *testing.T
	name    string
	rnd     *rand.Rand
	now     time.Duration
	events  fairEvents
	seq     int
	ledger  *Ledger
	max     int
	rules   []Rule
	pools   []fairKey
	workers []*fairWorker
	moving  *fairBackend
	leases  map[uint64]int // by lease, the pool

	steps, serves, messages, moves, opens, longest int
}

type fairKey struct {
	key  Key
	rule int
}

type fairWorker struct {
	f        *fair
	index    int
	pools    []*fairPool
	waiting  int
	requests map[uint64]*fairWaiter
	reclaims []Reclaim
	backends []*fairBackend
	nextID   uint64
	served   []time.Duration
	up, down time.Duration // when the last message on a link arrives
}

type fairPool struct {
	w       *fairWorker
	index   int
	key     fairKey
	idle    []*fairBackend
	waiters []*fairWaiter
	live    int
	coming  int
	// underway are grants on their way: as many waiters are as good as served.
	underway int
	served   []time.Duration

	requests        []uint64
	full            bool
	budget, reviews int
	late            int
	timer           bool
}

type fairBackend struct {
	pool  *fairPool
	lease uint64
	idle  bool
}

type fairClient struct {
	w      *fairWorker
	pool   int
	work   func() time.Duration
	think  func() time.Duration
	passed []int // by worker, since it waits
}

type fairWaiter struct {
	id     uint64
	asked  uint64
	pool   *fairPool
	client *fairClient
	since  time.Duration
	at     time.Duration // when it was asked for
	gone   bool
}

func (f *fair) after(d time.Duration, fn func()) {
	f.seq++
	heap.Push(&f.events, fairEvent{f.now + d, f.seq, fn})
}

// link delivers in order, after a while.
func (f *fair) link(last *time.Duration, fn func()) {
	f.messages++
	at := max(*last, f.now+f.between(10*time.Microsecond, 80*time.Microsecond))
	*last = at
	f.after(at-f.now, fn)
}

func (f *fair) between(from, to time.Duration) time.Duration {
	return from + time.Duration(f.rnd.Int64N(int64(to-from)+1))
}

func (f *fair) run(steps int) {
	for range steps {
		if len(f.events) == 0 {
			f.t.Fatalf("%s: nothing moves any more at %v", f.name, f.now)
		}
		e := heap.Pop(&f.events).(fairEvent)
		f.now = e.at
		e.f()
		f.steps++
	}
}

// apply carries out what the Ledger has decided, and checks the limits.
func (f *fair) apply(effects []Effect) {
	for _, e := range effects {
		w := f.workers[e.Target()]
		switch e := e.(type) {
		case Grant:
			f.leases[e.Lease] = w.requestPool(e.Request)
			f.check()
			p := w.pools[w.requestPool(e.Request)]
			p.underway++
			f.link(&w.down, func() { p.underway--; w.onGrant(e) })
		case Move:
			b := f.moving
			f.moving = nil
			f.leases[e.Lease] = b.pool.index
			f.check()
			p := w.pools[b.pool.index]
			if !e.Back {
				p.underway++
			}
			f.link(&w.down, func() { w.onTakeOver(e, p) })
		case Refuse:
			f.t.Fatalf("%s: refused %+v", f.name, e)
		case Reclaim:
			f.link(&w.down, func() { w.onReclaim(e) })
		case ReclaimCancel:
			f.link(&w.down, func() { w.onReclaimCancel(e) })
		}
	}
}

// check holds after every step: no limit is exceeded.
func (f *fair) check() {
	if len(f.leases) > f.max {
		f.t.Fatalf("%s: %d leases, %d are allowed", f.name, len(f.leases), f.max)
	}
	for r, rule := range f.rules {
		n := 0
		for _, p := range f.leases {
			if f.pools[p].rule == r {
				n++
			}
		}
		if n > rule.Max {
			f.t.Fatalf("%s: %d leases of rule %d, %d are allowed", f.name, n, r, rule.Max)
		}
	}
}

// size is the limit that a pool's clients wait for.
func (f *fair) size(k fairKey) int {
	if k.rule == NoRule {
		return f.max
	}
	return min(f.max, f.rules[k.rule].Max)
}

// passes checks the promise when a worker serves a client that came at a time: of
// the others those are passed over that came before and that no backend is on its
// way to.
func (f *fair) passes(b *fairWorker, k fairKey, came time.Duration) {
	f.serves++
	for _, a := range f.workers {
		if a == b || a.waiting == 0 {
			continue
		}
		for _, p := range a.pools {
			if p.key.rule != NoRule && p.key.rule != k.rule {
				continue // another limit
			}
			for _, wt := range p.waiters[min(p.coming+p.underway, len(p.waiters)):] {
				if wt.since < came {
					f.passed(wt, b)
				}
			}
		}
	}
}

func (f *fair) passed(wt *fairWaiter, by *fairWorker) {
	wt.client.passed[by.index]++
	waits, n, size := f.now-wt.since, wt.client.passed[by.index], f.size(wt.pool.key)
	if waits <= promise {
		return
	}
	f.longest = max(f.longest, 100*n/size)
	if n > 2*size {
		f.t.Fatalf("%s: at %v a client of worker %d waits for %v, %d clients of worker %d that came later were served; there may be %d backends",
			f.name, f.now, wt.pool.w.index, waits, n, by.index, size)
	}
}

// newFair makes a world of workers with clients to be added.
func newFair(t *testing.T, seed uint64, workers, limit int, rules []Rule, pools ...fairKey) *fair {
	f := &fair{
		t: t, name: fmt.Sprint("seed ", seed), rnd: rand.New(rand.NewPCG(seed, 2)),
		ledger: NewLedger(limit, rules), max: limit, rules: rules, pools: pools, leases: map[uint64]int{},
	}
	f.ledger.SetTarget(0, 1, true)
	for i := range workers {
		w := &fairWorker{f: f, index: i, requests: map[uint64]*fairWaiter{}}
		for k, key := range pools {
			w.pools = append(w.pools, &fairPool{w: w, index: k, key: key})
		}
		f.workers = append(f.workers, w)
	}
	return f
}

// add lets clients of one kind in, over a while.
func (f *fair) add(worker, pool, clients int, work, think [2]time.Duration) {
	for range clients {
		c := &fairClient{w: f.workers[worker], pool: pool, passed: make([]int, len(f.workers))}
		c.work = func() time.Duration { return f.between(work[0], work[1]) }
		c.think = func() time.Duration { return f.between(think[0], think[1]) }
		f.after(f.between(0, 10*time.Millisecond), c.arrive)
	}
}

// span is a range of times, of an order of magnitude that is random too.
func (f *fair) span(least time.Duration, orders ...time.Duration) [2]time.Duration {
	top := orders[f.rnd.IntN(len(orders))]
	return [2]time.Duration{f.between(least, top), top}
}

// randomWorld is any mixture of clients that a pool may meet.
func randomWorld(t *testing.T, seed uint64) *fair {
	rnd := rand.New(rand.NewPCG(seed, 3))
	limit := 1 + rnd.IntN(20)
	rules := []Rule{{Max: 1 + rnd.IntN(10)}}
	pools := []fairKey{{Key{Database: "a"}, NoRule}}
	switch rnd.IntN(3) {
	case 0: // a rule, and others that it must not delay
		limit = 100
		pools = []fairKey{{Key{Database: "r"}, 0}, {Key{Database: "a"}, NoRule}}
	case 1: // two pools that share the limit
		pools = append(pools, fairKey{Key{Database: "b"}, NoRule})
	}
	f := newFair(t, seed, 2+rnd.IntN(3), limit, rules, pools...)
	const us, ms = time.Microsecond, time.Millisecond
	for w := range f.workers {
		for p := range pools {
			n := []int{0, 1, 4, 16, 40}[f.rnd.IntN(5)]
			f.add(w, p, n, f.span(200*us, 400*us, ms, 5*ms, 30*ms), f.span(0, us, ms, 20*ms, 100*ms))
		}
	}
	f.add(0, 0, 1, [2]time.Duration{ms, 5 * ms}, [2]time.Duration{ms, 5 * ms}) // at least one
	return f
}

func TestNobodyIsPassedOverForLong(t *testing.T) {
	total := *fairSteps
	if total == 0 {
		total = defaultFairSteps
	}
	const each = 20_000
	steps, moves, longest := 0, 0, 0
	for seed := uint64(0); steps < total; seed++ {
		f := randomWorld(t, seed)
		f.run(each)
		steps += f.steps
		moves += f.moves
		longest = max(longest, f.longest)
	}
	t.Logf("%d steps, %d backends moved; at most %d %% of the size of a pool were served first after %v", steps, moves, longest, promise)
	if moves < steps/10_000 || longest < 50 {
		t.Error("the schedules test nothing")
	}
}

// Backends that are all in use serve the workers that have them: moving them about
// would serve nobody sooner.
func TestBackendsAreNotMovedToAndFro(t *testing.T) {
	const us = time.Microsecond
	for _, tt := range []struct {
		name            string
		clients         [2]int
		work            [2]time.Duration
		messages, moves float64 // at most, per transaction
	}{
		{"as many on both", [2]int{32, 32}, [2]time.Duration{200 * us, 400 * us}, 0.01, 0.001},
		{"more on one", [2]int{48, 16}, [2]time.Duration{200 * us, 400 * us}, 0.01, 0.001},
		{"enough for all", [2]int{10, 10}, [2]time.Duration{200 * us, 400 * us}, 0.01, 0.001},
		{"longer transactions", [2]int{32, 32}, [2]time.Duration{4000 * us, 6000 * us}, 0.03, 0.001},
		{"longer than anybody should wait", [2]int{200, 200}, [2]time.Duration{4000 * us, 6000 * us}, 4, 0.15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFair(t, 1, 2, 20, nil, fairKey{Key{Database: "a"}, NoRule})
			for w, n := range tt.clients {
				f.add(w, 0, n, tt.work, [2]time.Duration{0, 50 * us})
			}
			f.run(200_000)
			messages, moves := float64(f.messages)/float64(f.serves), float64(f.moves)/float64(f.serves)
			t.Logf("%d transactions, %d openings; %.4f messages and %.4f moves each", f.serves, f.opens, messages, moves)
			if messages > tt.messages || moves > tt.moves {
				t.Errorf("%.4f messages and %.4f moves for each transaction, at most %v and %v", messages, moves, tt.messages, tt.moves)
			}
		})
	}
}
