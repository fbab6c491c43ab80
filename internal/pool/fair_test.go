package pool

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The simulation of fairness: clients, workers with real Shelves, links with a delay, and the
// Ledger. Time is simulated.

var fairSteps = flag.Int("steps", 0, "steps of the simulation of fairness; 0 for a million, or a tenth of it with the race detector")

// The promise: a client waits at most until another worker has served twice as many later
// arrivals as there may be backends, or for this time, whichever is later.
const promise = 50 * time.Millisecond

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
	moving  *Backend
	leases  map[uint64]int // pool by lease

	steps, serves, messages, moves, opens, longest int
}

type fairKey struct {
	key  Key
	rule int
}

type fairWorker struct {
	f     *fair
	index int
	shelf *Shelf
	asked map[uint64]int // pool by request
	// underway counts, by pool, the grants on their way. As many waiters count as served.
	underway []int
	up, down time.Duration // when the last message on a link arrives
}

type fairClient struct {
	w      *fairWorker
	pool   int
	work   func() time.Duration
	think  func() time.Duration
	passed []int // later clients that each worker has served since this one waits
}

func (f *fair) after(d time.Duration, fn func()) {
	f.seq++
	heap.Push(&f.events, fairEvent{f.now + d, f.seq, fn})
}

// link delivers messages in order, after a delay.
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
			at := w.asked[e.Request]
			f.leases[e.Lease] = at
			f.check()
			w.underway[at]++
			f.link(&w.down, func() { w.underway[at]--; w.onGrant(e) })
		case Ahead:
			f.leases[e.Lease] = f.poolAt(e.Key)
			f.check()
			f.link(&w.down, func() { w.onAhead(e) })
		case Move:
			b, at := f.moving, f.poolAt(f.moving.Pool.Key)
			f.moving = nil
			f.leases[e.Lease] = at
			f.check()
			if !e.Back {
				w.underway[at]++
			}
			f.link(&w.down, func() { w.onTakeOver(e, at, b) })
		case Refuse:
			f.t.Fatalf("%s: refused %+v", f.name, e)
		case Reclaim:
			f.link(&w.down, func() { w.shelf.Reclaim(e); w.carryOut() })
		case ReclaimCancel:
			f.link(&w.down, func() { w.shelf.ReclaimCancel(e.ID) })
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

// passes checks the promise when a worker serves a client that arrived at came. Clients of other
// workers are passed over if they arrived earlier and no backend is on its way to them.
func (f *fair) passes(b *fairWorker, k fairKey, came time.Duration) {
	f.serves++
	for _, a := range f.workers {
		if a == b || a.shelf.Waiting() == 0 {
			continue
		}
		for at, other := range f.pools {
			p := a.shelf.pools[other.key]
			if p == nil || other.rule != NoRule && other.rule != k.rule {
				continue // another limit
			}
			for _, wt := range p.waiters[min(p.coming+a.underway[at], len(p.waiters)):] {
				if wt.Since < came {
					f.passed(wt, a, other, b)
				}
			}
		}
	}
}

func (f *fair) passed(wt *Waiter, at *fairWorker, k fairKey, by *fairWorker) {
	c := wt.Of.(*fairClient)
	c.passed[by.index]++
	waits, n, size := f.now-wt.Since, c.passed[by.index], f.size(k)
	if waits <= promise {
		return
	}
	f.longest = max(f.longest, 100*n/size)
	if n > 2*size {
		f.t.Fatalf("%s: at %v a client of worker %d waits for %v, %d clients of worker %d that came later were served; there may be %d backends",
			f.name, f.now, at.index, waits, n, by.index, size)
	}
}

// newFair returns a world with workers. add adds clients.
func newFair(t *testing.T, seed uint64, workers, limit int, rules []Rule, pools ...fairKey) *fair {
	f := &fair{
		t: t, name: fmt.Sprint("seed ", seed), rnd: rand.New(rand.NewPCG(seed, 2)),
		ledger: NewLedger(limit, rules), max: limit, rules: rules, pools: pools, leases: map[uint64]int{},
	}
	f.ledger.SetTarget(0, 1, true)
	for i := range workers {
		w := &fairWorker{f: f, index: i, shelf: NewShelf(Limits{}), asked: map[uint64]int{}, underway: make([]int, len(pools))}
		w.shelf.SetTarget(true, 1, 0)
		f.workers = append(f.workers, w)
	}
	for _, w := range f.workers {
		f.apply(f.ledger.WorkerReady(w.index))
	}
	return f
}

// poolAt returns which pool has a key.
func (f *fair) poolAt(key Key) int {
	for i := range f.pools {
		if f.pools[i].key == key {
			return i
		}
	}
	panic("no such pool")
}

// arrive lets a client arrive that needs a backend.
func (c *fairClient) arrive() {
	w := c.w
	p, _ := w.shelf.Pool(w.f.pools[c.pool].key)
	if b := w.shelf.Take(p, false, w.f.now); b != nil {
		w.serves(b, c, w.f.now)
		return
	}
	clear(c.passed)
	w.shelf.Wait(&Waiter{Pool: p, Of: c}, w.f.now)
	w.carryOut()
}

func (w *fairWorker) serves(b *Backend, c *fairClient, came time.Duration) {
	f := w.f
	f.passes(w, f.pools[c.pool], came)
	f.after(c.work(), func() {
		f.after(c.think(), c.arrive)
		w.put(b, false)
	})
}

func (w *fairWorker) put(b *Backend, granted bool) {
	w.shelf.Put(b, granted, w.f.now)
	w.carryOut()
}

// carryOut carries out the acts of the Shelf, as package worker does.
func (w *fairWorker) carryOut() {
	for a, ok := w.shelf.Next(); ok; a, ok = w.shelf.Next() {
		w.do(a)
	}
}

func (w *fairWorker) do(a Act) {
	f := w.f
	switch a.Do {
	case Ask:
		at := f.poolAt(a.Pool.Key)
		w.asked[a.Request] = at
		since := a.Waiter.Since
		w.send(func() { f.apply(f.ledger.Request(w.index, a.Request, f.pools[at].key, f.pools[at].rule, since)) })
	case Withdraw:
		w.send(func() { f.apply(f.ledger.Abandon(w.index, a.Request)) })
	case Serve:
		w.serves(a.Backend, a.Waiter.Of.(*fairClient), a.Waiter.Since)
	case HandOver:
		f.after(20*time.Microsecond, func() {
			w.shelf.Gone(a.Backend)
			w.send(func() { f.handedOver(w, a.Backend) })
			w.shelf.Want(a.Backend.Pool, f.now)
			w.carryOut()
		})
	case Close:
		f.after(f.between(100*time.Microsecond, time.Millisecond), func() {
			w.shelf.Gone(a.Backend)
			w.send(func() { f.returned(w, a.Backend.Lease) })
			w.carryOut()
		})
	case Review:
		f.after(a.In, func() { w.shelf.Review(a.Pool, f.now); w.carryOut() })
	default:
		f.t.Fatalf("%s: nothing fails here, and worker %d is to do %+v", f.name, w.index, a)
	}
}

func (w *fairWorker) send(fn func()) { w.f.link(&w.up, fn) }

func (f *fair) returned(w *fairWorker, lease uint64) {
	delete(f.leases, lease)
	effects, err := f.ledger.Return(w.index, lease)
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(effects)
}

func (f *fair) handedOver(w *fairWorker, b *Backend) {
	f.moves++
	f.moving = b
	delete(f.leases, b.Lease)
	effects, err := f.ledger.HandOver(w.index, b.Lease, w.index)
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(effects)
}

func (w *fairWorker) onGrant(m Grant) {
	f := w.f
	wt := w.shelf.Grant(m.Request, true, f.now)
	if wt == nil {
		w.shelf.Returned(m.Lease)
		w.send(func() { f.returned(w, m.Lease) })
		w.carryOut()
		return
	}
	w.carryOut()
	f.opens++
	f.after(f.between(time.Millisecond, 5*time.Millisecond), func() {
		w.shelf.Opened(wt, true)
		w.put(&Backend{Pool: wt.Pool, Lease: m.Lease, Epoch: 1, Born: f.now}, true)
		w.shelf.Want(wt.Pool, f.now)
		w.carryOut()
	})
}

// onAhead opens a backend for which nobody waits, as package worker does.
func (w *fairWorker) onAhead(m Ahead) {
	f := w.f
	p, _ := w.shelf.Pool(m.Key)
	w.shelf.OpenAhead(p)
	f.opens++
	f.after(f.between(time.Millisecond, 5*time.Millisecond), func() {
		w.shelf.Opened(&Waiter{Pool: p, Bare: true}, true)
		w.send(func() {
			effects, err := f.ledger.Opened(w.index, m.Lease, 1, "")
			if err != nil {
				f.t.Fatal(err)
			}
			f.apply(effects)
		})
		w.put(&Backend{Pool: p, Lease: m.Lease, Epoch: 1, Born: f.now}, true)
		w.shelf.Want(p, f.now)
		w.carryOut()
	})
}

func (w *fairWorker) onTakeOver(m Move, at int, b *Backend) {
	if !m.Back {
		w.underway[at]--
	}
	w.shelf.TakeOver(m.Request, w.f.pools[at].key, &Backend{Lease: m.Lease, Epoch: 1, Born: b.Born}, w.f.now)
	w.carryOut()
}

// add adds clients of one kind, which arrive over a span of time.
func (f *fair) add(worker, pool, clients int, work, think [2]time.Duration) {
	for range clients {
		c := &fairClient{w: f.workers[worker], pool: pool, passed: make([]int, len(f.workers))}
		c.work = func() time.Duration { return f.between(work[0], work[1]) }
		c.think = func() time.Duration { return f.between(think[0], think[1]) }
		f.after(f.between(0, 10*time.Millisecond), c.arrive)
	}
}

// span returns a range of times with a random order of magnitude.
func (f *fair) span(least time.Duration, orders ...time.Duration) [2]time.Duration {
	top := orders[f.rnd.IntN(len(orders))]
	return [2]time.Duration{f.between(least, top), top}
}

// randomWorld returns a world with a random mixture of clients.
func randomWorld(t *testing.T, seed uint64) *fair {
	rnd := rand.New(rand.NewPCG(seed, 3))
	limit := 1 + rnd.IntN(20)
	rules := []Rule{{Max: 1 + rnd.IntN(10)}}
	pools := []fairKey{{Key{Database: "a"}, NoRule}}
	switch rnd.IntN(3) {
	case 0: // a rule, and others that it must not delay
		limit = 100
		pools = []fairKey{{Key{Database: "r"}, 0}, {Key{Database: "a"}, NoRule}}
		rules[0].Key, rules[0].Min = pools[0].key, rnd.IntN(rules[0].Max+1)
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

// If all backends are in use, they must stay with their workers, because moving them would
// serve no client sooner.
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
