package pool

import (
	"cmp"
	"slices"
	"time"
)

// Shelf is a worker's part of the pools: its idle backends, the clients that wait
// here, what was asked of the Ledger for them (demand.go), and what the Ledger wants
// back for others (yield.go). It belongs to the worker's loop.
//
// It is pure, as the Ledger is: the time comes in with each call, on the caller's
// clock, and acts come out of Next, which the caller carries out in their order after
// each call. Taking a backend off the shelf and putting it back allocates nothing.
type Shelf struct {
	Limits
	open     bool
	epoch    uint64
	draining bool

	pools map[Key]*Pool
	// queues are the pools that somebody waits in, waiting counts who does.
	queues  []*Pool
	waiting int
	// requests are those under way, and whom they were for.
	requests map[uint64]*Waiter
	reclaims []Reclaim
	served   servings
	lastID   uint64

	out  []Act
	head int // of out: what was carried out already
}

// Limits are the configuration that a Shelf works by; 0 stands for no limit.
type Limits struct {
	// NoWait: a client that gets no backend at once gets none, so nothing is put off.
	NoWait bool
	// MaxPools is how many pools there may be.
	MaxPools int
	// IdleTimeout and MaxAge are how long a backend may lie on the shelf, and live.
	IdleTimeout, MaxAge time.Duration
}

// Pool is one pool: backends that are interchangeable. It is forgotten when nobody
// uses it.
type Pool struct {
	Key Key
	// Owner is the caller's, which is forgotten with the pool.
	Owner any

	idle    []*Backend // the one used last is the last
	waiters []*Waiter  // who came first is the first
	// live counts its backends, those that are being opened included; coming those
	// that are being opened for a waiter of the queue.
	live, coming int
	asking       asking
	served       servings
}

// Asked returns how many leases are asked for.
func (p *Pool) Asked() int { return len(p.asking.requests) }

// Live returns how many backends there are, those that are being opened included.
func (p *Pool) Live() int { return p.live }

// Coming returns how many backends are being opened for waiters of the queue.
func (p *Pool) Coming() int { return p.coming }

// Backend is what the Shelf has to know of an established backend.
type Backend struct {
	Pool         *Pool
	Lease, Epoch uint64
	// Born is when it was opened.
	Born time.Duration
	// Trusting: its server asked for no password, so it may serve a client that hasn't
	// proven who it is.
	Trusting bool
	// Private: it was opened with a client's own proof, and ends with that client.
	Private bool
	// Spoiled: nobody can tell any more what its server makes of it.
	Spoiled bool
	// Of is the caller's.
	Of any

	idle  bool
	since time.Duration // when it came on the shelf
}

// Idle reports whether a backend is on the shelf.
func (b *Backend) Idle() bool { return b.idle }

// Waiter is a client that waits for a backend of a pool.
type Waiter struct {
	Pool *Pool
	// Bare: it takes a bare lease, or a Trusting backend, since only its server can tell
	// who it is.
	Bare bool
	// Since is when it came.
	Since time.Duration
	// Of is the caller's.
	Of any

	id      uint64 // in the order of arrival
	asked   uint64 // the request that is under way for it, 0 for none
	askedAt time.Duration
	queued  bool
}

// Queued reports whether a waiter is still in the queue.
func (wt *Waiter) Queued() bool { return wt.queued }

// Verb says what an Act is.
type Verb uint8

// The verbs, each with the fields of Act that it has.
const (
	Ask      Verb = iota + 1 // for a lease under Request, for Waiter
	Withdraw                 // Request
	Serve                    // Waiter, which has left the queue, with Backend
	HandOver                 // Backend goes to a client of another worker
	Close                    // Backend, for Reason
	Review                   // call Shelf.Review with Pool after In
	Resume                   // call Shelf.Resume with Pool after In
)

// Act is something that the caller of a Shelf has to do.
type Act struct {
	Do      Verb
	Reason  Eviction
	Request uint64
	Pool    *Pool
	Waiter  *Waiter
	Backend *Backend
	In      time.Duration
}

// Eviction says why a backend is closed rather than kept.
type Eviction uint8

// The reasons.
const (
	EvictClosed   Eviction = iota + 1 // no primary is open
	EvictEpoch                        // it is of another primary
	EvictPrivate                      // it was its client's own
	EvictSpoiled                      // its state can't be told
	EvictAge                          // max_connection_age
	EvictIdle                         // idle_timeout
	EvictDrain                        // the worker ends
	EvictForOther                     // a client of another pool needs its lease
	EvictUnfit                        // those who wait need one of their own
	EvictMaxPools                     // max_pools
	EvictServer                       // its server's host doesn't know it any more
)

var evictions = [...]string{
	EvictClosed: "no primary is open", EvictEpoch: "another primary", EvictPrivate: "its client has left",
	EvictSpoiled: "unknown state", EvictAge: "max_connection_age", EvictIdle: "idle_timeout", EvictDrain: "shutdown",
	EvictForOther: "another pool needs its place", EvictUnfit: "clients that wait need one of their own",
	EvictMaxPools: "max_pools", EvictServer: "the server's host is lost",
}

func (e Eviction) String() string {
	if int(e) < len(evictions) && evictions[e] != "" {
		return evictions[e]
	}
	return "unknown reason"
}

// NewShelf returns a Shelf that serves nobody until SetTarget opens it.
func NewShelf(limits Limits) *Shelf {
	return &Shelf{Limits: limits, pools: map[Key]*Pool{}, requests: map[uint64]*Waiter{}}
}

// Next returns the next act that waits to be carried out.
func (s *Shelf) Next() (Act, bool) {
	if s.head == len(s.out) {
		return Act{}, false
	}
	a := s.out[s.head]
	s.out[s.head] = Act{}
	if s.head++; s.head == len(s.out) {
		s.out, s.head = s.out[:0], 0
	}
	return a, true
}

func (s *Shelf) act(a Act) { s.out = append(s.out, a) }

// Pool returns a pool, which is made if need be, and false when there are MaxPools
// already and all of them are in use.
func (s *Shelf) Pool(key Key) (*Pool, bool) {
	p := s.pools[key]
	if p == nil && s.MaxPools > 0 && len(s.pools) >= s.MaxPools && !s.evictPool() {
		return nil, false
	}
	if p == nil {
		p = s.pool(key)
	}
	return p, true
}

// Lookup returns a pool that is there, or nil.
func (s *Shelf) Lookup(key Key) *Pool { return s.pools[key] }

// pool is Pool without a limit, for a backend that is there already.
func (s *Shelf) pool(key Key) *Pool {
	p := s.pools[key]
	if p == nil {
		p = &Pool{Key: key}
		s.pools[key] = p
	}
	return p
}

// evictPool makes room for another pool: of those that nobody uses the one goes that
// was used longest ago.
func (s *Shelf) evictPool() bool {
	var oldest *Pool
	for _, p := range s.pools {
		if p.live == len(p.idle) && len(p.waiters) == 0 && len(p.asking.requests) == 0 &&
			(oldest == nil || p.compare(oldest) < 0) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.pools, oldest.Key)
	for len(oldest.idle) > 0 {
		s.evict(oldest.idle[0], EvictMaxPools)
	}
	return true
}

// compare orders pools that nobody uses by when they were used last.
func (p *Pool) compare(o *Pool) int {
	used := func(p *Pool) time.Duration {
		if n := len(p.idle); n > 0 {
			return p.idle[n-1].since
		}
		return -1
	}
	return cmp.Or(cmp.Compare(used(p), used(o)), cmp.Compare(p.Key.Database, o.Key.Database),
		cmp.Compare(p.Key.User, o.Key.User), cmp.Compare(p.Key.Params, o.Key.Params))
}

// tidy forgets a pool that nobody uses.
func (s *Shelf) tidy(p *Pool) {
	if p.live == 0 && len(p.waiters) == 0 && p.asking.done() && s.pools[p.Key] == p {
		delete(s.pools, p.Key)
	}
}

// SetTarget says whether clients are served, and of which epoch a backend has to be.
func (s *Shelf) SetTarget(open bool, epoch uint64, now time.Duration) {
	other := s.epoch != epoch
	s.open, s.epoch = open, epoch
	if other {
		s.CloseIdle(EvictEpoch, func(b *Backend) bool { return b.Epoch != epoch })
		for _, p := range s.pools {
			p.asking.failing = false
		}
	}
	if open {
		for _, p := range s.queues {
			s.want(p, now)
		}
	}
}

// Drain closes what is idle now and from now on.
func (s *Shelf) Drain() {
	s.draining = true
	s.CloseIdle(EvictDrain, func(*Backend) bool { return true })
}

// Take returns the backend of a pool that was used last, for a client that hasn't
// waited, or nil for none. A bare client gets a Trusting one.
func (s *Shelf) Take(p *Pool, bare bool, now time.Duration) *Backend {
	if !s.open {
		return nil
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		b := p.idle[n-1]
		if bare && !b.Trusting {
			return nil
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		b.idle = false
		if b.Epoch == s.epoch {
			s.serves(p, now)
			return b
		}
		s.act(Act{Do: Close, Backend: b, Reason: EvictEpoch})
	}
	return nil
}

// serves notes that a client is served that came at a time.
func (s *Shelf) serves(p *Pool, came time.Duration) {
	s.served.note(came)
	p.served.note(came)
}

// Wait puts a client at the end of its pool's queue and asks for a lease.
func (s *Shelf) Wait(wt *Waiter, now time.Duration) {
	s.lastID++
	wt.id, wt.Since, wt.queued = s.lastID, now, true
	s.served.keep()
	wt.Pool.served.keep()
	if len(wt.Pool.waiters) == 0 {
		s.queues = append(s.queues, wt.Pool)
	}
	wt.Pool.waiters = append(wt.Pool.waiters, wt)
	s.waiting++
	s.arrived(wt.Pool, now)
}

// Leave takes a client out of the queue that doesn't wait any more, whatever the reason.
func (s *Shelf) Leave(wt *Waiter, now time.Duration) {
	if wt.queued {
		s.leave(wt, now)
		s.tidy(wt.Pool)
	}
}

func (s *Shelf) leave(wt *Waiter, now time.Duration) {
	p := wt.Pool
	wt.queued = false
	s.waiting--
	p.waiters = without(p.waiters, wt)
	if len(p.waiters) == 0 {
		s.queues = without(s.queues, p)
	}
	s.left(wt, now)
}

// Waiting returns how many clients wait.
func (s *Shelf) Waiting() int { return s.waiting }

// Waiters returns the clients that wait, those of each pool in their order.
func (s *Shelf) Waiters() []*Waiter {
	all := make([]*Waiter, 0, s.waiting)
	for _, p := range s.queues {
		all = append(all, p.waiters...)
	}
	return all
}

// Put takes a clean backend that nobody uses: it serves who waits for it, another
// worker or the first of the queue here, or lies on the shelf. One that was granted is
// for a client here first, because others have had their turn before.
func (s *Shelf) Put(b *Backend, granted bool, now time.Duration) {
	if reason := s.unfit(b, now); reason != 0 {
		s.act(Act{Do: Close, Backend: b, Reason: reason})
		return
	}
	p := b.Pool
	wt := p.next(b)
	if wt != nil && (granted || !s.owes(b, wt, now)) {
		s.serves(p, wt.Since)
		s.leave(wt, now)
		s.act(Act{Do: Serve, Waiter: wt, Backend: b})
		return
	}
	if r, ok := s.reclaimed(b); ok {
		s.giveUp(b, &r)
		return
	}
	p.idle = append(p.idle, b)
	b.idle, b.since = true, now
}

// unfit returns why a backend can't be kept, 0 when it can.
func (s *Shelf) unfit(b *Backend, now time.Duration) Eviction {
	switch {
	case s.draining:
		return EvictDrain
	case b.Epoch != s.epoch:
		return EvictEpoch
	case !s.open:
		return EvictClosed
	case b.Private:
		return EvictPrivate
	case b.Spoiled:
		return EvictSpoiled
	case s.MaxAge > 0 && now-b.Born >= s.MaxAge:
		return EvictAge
	}
	return 0
}

// next returns the waiter that came first of those that a backend can serve, nil for
// none.
func (p *Pool) next(b *Backend) *Waiter {
	for _, wt := range p.waiters {
		if !wt.Bare || b.Trusting {
			return wt
		}
	}
	return nil
}

// Unshelve takes a particular backend off the shelf, wherever it is.
func (s *Shelf) Unshelve(b *Backend) {
	if b.idle {
		b.idle = false
		b.Pool.idle = without(b.Pool.idle, b)
	}
}

// Gone says that a backend is closed, or was handed over, with its lease.
func (s *Shelf) Gone(b *Backend) {
	s.Unshelve(b)
	b.Pool.live--
	s.Returned(b.Lease)
	s.tidy(b.Pool)
}

// evict takes a backend off the shelf and closes it.
func (s *Shelf) evict(b *Backend, reason Eviction) {
	s.Unshelve(b)
	s.act(Act{Do: Close, Backend: b, Reason: reason})
}

// CloseIdle closes the idle backends for which which says so.
func (s *Shelf) CloseIdle(reason Eviction, which func(*Backend) bool) {
	s.closeIdle(func(b *Backend) Eviction {
		if which(b) {
			return reason
		}
		return 0
	})
}

// closeIdle closes the idle backends that why has a reason for, in the order of their
// leases.
func (s *Shelf) closeIdle(why func(*Backend) Eviction) {
	var out []*Backend
	for _, p := range s.pools {
		for _, b := range p.idle {
			if why(b) != 0 {
				out = append(out, b)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Backend) int { return cmp.Compare(a.Lease, b.Lease) })
	for _, b := range out {
		s.evict(b, why(b))
	}
}

// SweepEvery returns how often Sweep is to be called, 0 for never.
func (s *Shelf) SweepEvery() time.Duration {
	every := time.Duration(0)
	for _, d := range []time.Duration{s.IdleTimeout, s.MaxAge} {
		if d > 0 && (every == 0 || d/2 < every) {
			every = max(d/2, 500*time.Millisecond)
		}
	}
	return every
}

// Sweep closes backends that are idle for too long or too old.
func (s *Shelf) Sweep(now time.Duration) {
	s.closeIdle(func(b *Backend) Eviction {
		switch {
		case s.MaxAge > 0 && now-b.Born >= s.MaxAge:
			return EvictAge
		case s.IdleTimeout > 0 && now-b.since >= s.IdleTimeout:
			return EvictIdle
		}
		return 0
	})
}
