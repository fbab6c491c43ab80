package pool

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Shelf is a worker's part of the pools: its idle backends, its waiting clients, the
// leases that it has asked the Ledger for (demand.go), and what the Ledger wants back
// for others (yield.go). It belongs to the worker's loop.
//
// It is pure, like the Ledger: each call gets the time, on the caller's clock. After
// each call the caller gets acts from Next and carries them out in their order. Taking
// a backend off the shelf and putting it back allocates nothing.
type Shelf struct {
	Limits
	open     bool
	epoch    uint64
	draining bool
	holds    func(Key) bool // whose clients wait although the shelf is open; nil for none

	pools map[Key]*Pool
	// queues are the pools with waiters; waiting counts the waiters.
	queues  []*Pool
	waiting int
	// requests are the open requests, with the waiters that they were made for.
	requests map[uint64]*Waiter
	reclaims []Reclaim
	served   servings
	lastID   uint64

	out  []Act
	head int // index in out of the next act
}

// Limits are the configuration of a Shelf; 0 means no limit.
type Limits struct {
	// NoWait says that a client that gets no backend at once is refused, so that requests
	// must not be delayed.
	NoWait bool
	// MaxPools is how many pools there may be.
	MaxPools int
	// IdleTimeout is how long a backend may be idle, MaxAge how long it may exist at most: see
	// aged.
	IdleTimeout, MaxAge time.Duration
	// Keep is how many idle backends of a pool IdleTimeout spares: the worker's share of the
	// rule's Min.
	Keep map[Key]int
}

// Pool is a set of interchangeable backends, and the clients that wait for one. It is
// removed when nobody uses it.
type Pool struct {
	Key Key
	// Owner is data of the caller, which is dropped with the pool.
	Owner any

	idle    []*Backend // the most recently used is the last
	waiters []*Waiter  // in the order of arrival
	// live counts the backends, including those that are being opened. coming counts the
	// backends that are being opened for a waiter in the queue.
	live, coming int
	held         bool
	asking       asking
	served       servings
}

// Held reports whether the pool's clients wait until SetHold lets them go on.
func (p *Pool) Held() bool { return p.held }

// Asked returns how many leases the pool has asked for.
func (p *Pool) Asked() int { return len(p.asking.requests) }

// Live returns how many backends the pool has, including those that are being opened.
func (p *Pool) Live() int { return p.live }

// Coming returns how many backends are being opened for waiters in the queue.
func (p *Pool) Coming() int { return p.coming }

// Backend is what the Shelf has to know about an established backend.
type Backend struct {
	Pool         *Pool
	Lease, Epoch uint64
	// Born is when the backend was opened.
	Born time.Duration
	// Trusting says that the server asked for no password, so that the backend may serve a
	// client that hasn't authenticated itself.
	Trusting bool
	// Private says that the backend was opened with a client's own password, and ends with
	// this client.
	Private bool
	// Spoiled says that the state of the session on the server is unknown.
	Spoiled bool
	// Flushed says that the backend is closed when its client doesn't need it any more, because
	// of a flush.
	Flushed bool
	// Of is data of the caller.
	Of any

	idle  bool
	since time.Duration // since when it is on the shelf
}

// Idle reports whether a backend is on the shelf.
func (b *Backend) Idle() bool { return b.idle }

// Waiter is a client that waits for a backend of a pool.
type Waiter struct {
	Pool *Pool
	// Bare says that only the server can tell who the client is. It needs a lease, to open
	// its own backend, or a Trusting backend.
	Bare bool
	// Since is when the client arrived. Waited is how long it had waited elsewhere before.
	Since, Waited time.Duration
	// Of is data of the caller.
	Of any

	id      uint64 // in the order of arrival
	asked   uint64 // the open request for it, 0 for none
	askedAt time.Duration
	roomAt  time.Duration // when a backend was closed for it: see makesRoom
	queued  bool
}

// Queued reports whether a waiter is still in the queue.
func (wt *Waiter) Queued() bool { return wt.queued }

// Verb is the kind of an Act.
type Verb uint8

// The verbs, each with the fields of Act that it uses.
const (
	Ask      Verb = iota + 1 // ask for a lease as Request, for Waiter
	Withdraw                 // Request
	Serve                    // Waiter, which has left the queue, with Backend
	HandOver                 // Backend goes to a client of another worker
	Close                    // Backend, for Reason
	Review                   // call Shelf.Review with Pool after In
	Resume                   // call Shelf.Resume with Pool after In
)

// Act is an action for the caller of a Shelf.
type Act struct {
	Do      Verb
	Reason  Eviction
	Request uint64
	Pool    *Pool
	Waiter  *Waiter
	Backend *Backend
	In      time.Duration
}

// Eviction is why a backend is closed rather than kept.
type Eviction uint8

// The reasons.
const (
	EvictClosed   Eviction = iota + 1 // no primary is open
	EvictEpoch                        // it belongs to another primary
	EvictPrivate                      // it belonged to one client
	EvictSpoiled                      // its state is unknown
	EvictAge                          // max_connection_age
	EvictIdle                         // idle_timeout
	EvictDrain                        // the worker is ending
	EvictForOther                     // a client of another pool needs its lease
	EvictUnfit                        // no waiter can use it, because each needs a login of its own
	EvictMaxPools                     // max_pools
	EvictServer                       // its server's host doesn't know the connection any more
	EvictFlush                        // flush
	EvictHeld                         // the clients of its pool are paused
)

var evictions = [...]string{
	EvictClosed: "no primary is open", EvictEpoch: "another primary", EvictPrivate: "its client has left",
	EvictSpoiled: "unknown state", EvictAge: "max_connection_age", EvictIdle: "idle_timeout", EvictDrain: "shutdown",
	EvictForOther: "another pool needs its place", EvictUnfit: "clients that wait need one of their own",
	EvictMaxPools: "max_pools", EvictServer: "the server's host is lost",
	EvictFlush: "flush", EvictHeld: "clients are paused",
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

// Next returns the next act to carry out.
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

// Pool returns the pool of a key, and makes it if needed. It returns false if there are
// already MaxPools pools and all are in use.
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

// Lookup returns an existing pool, or nil.
func (s *Shelf) Lookup(key Key) *Pool { return s.pools[key] }

// pool is Pool without a limit, for a backend that already exists.
func (s *Shelf) pool(key Key) *Pool {
	p := s.pools[key]
	if p == nil {
		p = &Pool{Key: key, held: s.holds != nil && s.holds(key)}
		s.pools[key] = p
	}
	return p
}

// evictPool makes room for another pool: it removes the least recently used pool that
// nobody uses.
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

// compare orders unused pools by the time of their last use, and then by key.
func (p *Pool) compare(o *Pool) int {
	used := func(p *Pool) time.Duration {
		if n := len(p.idle); n > 0 {
			return p.idle[n-1].since
		}
		return -1
	}
	return cmp.Or(cmp.Compare(used(p), used(o)), p.compareKeys(o))
}

func (p *Pool) compareKeys(o *Pool) int {
	return cmp.Or(cmp.Compare(p.Key.Database, o.Key.Database), cmp.Compare(p.Key.User, o.Key.User), cmp.Compare(p.Key.Params, o.Key.Params))
}

// tidy removes a pool that nobody uses.
func (s *Shelf) tidy(p *Pool) {
	if p.live == 0 && len(p.waiters) == 0 && p.asking.done() && s.pools[p.Key] == p {
		delete(s.pools, p.Key)
	}
}

// SetTarget says whether clients are served, and to which epoch a backend must belong.
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

// SetHold says of which pools the clients wait, although the shelf is open; nil for none.
// Backends of these pools are closed, now if they are idle and else when they are put back.
func (s *Shelf) SetHold(holds func(Key) bool, now time.Duration) {
	if s.holds == nil && holds == nil {
		return
	}
	s.holds = holds
	for _, p := range slices.SortedFunc(maps.Values(s.pools), (*Pool).compareKeys) {
		was := p.held
		p.held = holds != nil && holds(p.Key)
		switch {
		case p.held && !was:
			s.withdraw(p)
		case was && !p.held:
			s.want(p, now)
		}
	}
	s.CloseIdle(EvictHeld, func(b *Backend) bool { return b.Pool.held })
}

// Drain closes the idle backends, now and from now on.
func (s *Shelf) Drain() {
	s.draining = true
	s.CloseIdle(EvictDrain, func(*Backend) bool { return true })
}

// Take returns the most recently used idle backend of a pool for a client that hasn't
// waited, or nil if there is none. A bare client gets only a Trusting one.
func (s *Shelf) Take(p *Pool, bare bool, now time.Duration) *Backend {
	if !s.open || p.held {
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

// serves records that a client is being served, which arrived at came.
func (s *Shelf) serves(p *Pool, came time.Duration) {
	s.served.note(came)
	p.served.note(came)
}

// Wait puts a client at the end of its pool's queue and asks for a lease.
func (s *Shelf) Wait(wt *Waiter, now time.Duration) {
	s.lastID++
	wt.id, wt.Since, wt.queued = s.lastID, now-wt.Waited, true
	s.served.keep()
	wt.Pool.served.keep()
	if len(wt.Pool.waiters) == 0 {
		s.queues = append(s.queues, wt.Pool)
	}
	at := len(wt.Pool.waiters)
	for wt.Waited > 0 && at > 0 && wt.Pool.waiters[at-1].Since > wt.Since {
		at--
	}
	wt.Pool.waiters = slices.Insert(wt.Pool.waiters, at, wt)
	s.waiting++
	s.arrived(wt.Pool, now)
}

// Leave removes a client that no longer waits from the queue, for whatever reason.
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

// Waiters returns the waiting clients, those of each pool in their order.
func (s *Shelf) Waiters() []*Waiter {
	all := make([]*Waiter, 0, s.waiting)
	for _, p := range s.queues {
		all = append(all, p.waiters...)
	}
	return all
}

// Put accepts a clean backend that nobody uses. It gives the backend to a waiting client,
// the first one here or one of another worker, or puts it on the shelf. A backend granted
// for this worker goes to one of its own clients first, because other workers were already
// served.
func (s *Shelf) Put(b *Backend, granted bool, now time.Duration) {
	if reason := s.unfit(b, now); reason != 0 {
		s.act(Act{Do: Close, Backend: b, Reason: reason})
		return
	}
	if s.makesRoom(b, now) {
		s.act(Act{Do: Close, Backend: b, Reason: EvictUnfit})
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

// unfit returns why a backend can't be kept, 0 if it can.
func (s *Shelf) unfit(b *Backend, now time.Duration) Eviction {
	switch {
	case s.draining:
		return EvictDrain
	case b.Epoch != s.epoch:
		return EvictEpoch
	case !s.open:
		return EvictClosed
	case b.Pool.held:
		return EvictHeld
	case b.Private:
		return EvictPrivate
	case b.Spoiled:
		return EvictSpoiled
	case b.Flushed:
		return EvictFlush
	case s.aged(b, now):
		return EvictAge
	}
	return 0
}

// Replaced reports whether a client that loses nothing with its backend gets another one, because
// this one is to be flushed or is too old.
func (s *Shelf) Replaced(b *Backend, now time.Duration) bool { return b.Flushed || s.aged(b, now) }

// aged reports whether a backend is too old. Backends end at different ages, the last tenth of
// MaxAge before it, so that those that were opened together aren't opened anew together. The
// lease decides, because it needs no random numbers and spreads successive leases evenly.
func (s *Shelf) aged(b *Backend, now time.Duration) bool {
	const golden = 0x9E3779B97F4A7C15 // 2^64 / the golden ratio
	early := time.Duration(float64(s.MaxAge) / 10 * float64(b.Lease*golden>>32) / (1 << 32))
	return s.MaxAge > 0 && now-b.Born >= s.MaxAge-early
}

// PutBack is Put for a backend that was unshelved although no client got it. Its idle time goes
// on, and it keeps its place on the shelf.
func (s *Shelf) PutBack(b *Backend, now time.Duration) {
	since := b.since
	s.Put(b, false, now)
	if b.idle {
		b.since = since
		slices.SortStableFunc(b.Pool.idle, func(a, b *Backend) int { return cmp.Compare(a.since, b.since) })
	}
}

// IdleSince returns the idle backends that were put on the shelf at t or before, in the order of
// their leases.
func (s *Shelf) IdleSince(t time.Duration) []*Backend {
	return s.selectIdle(func(b *Backend) bool { return b.since <= t })
}

// next returns the first waiter that a backend can serve, nil for none.
func (p *Pool) next(b *Backend) *Waiter {
	for _, wt := range p.waiters {
		if !wt.Bare || b.Trusting {
			return wt
		}
	}
	return nil
}

// Unshelve removes one backend from the shelf.
func (s *Shelf) Unshelve(b *Backend) {
	if b.idle {
		b.idle = false
		b.Pool.idle = without(b.Pool.idle, b)
	}
}

// Gone says that a backend was closed or handed over and its lease given up.
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

// CloseIdle closes the idle backends that which selects, and returns how many they are.
func (s *Shelf) CloseIdle(reason Eviction, which func(*Backend) bool) int {
	list := s.selectIdle(which)
	for _, b := range list {
		s.evict(b, reason)
	}
	return len(list)
}

// selectIdle returns the idle backends that which selects, in the order of their leases. It
// asks which about the backends of a pool in the order of their last use.
func (s *Shelf) selectIdle(which func(*Backend) bool) []*Backend {
	var out []*Backend
	for _, p := range s.pools {
		for _, b := range p.idle {
			if which(b) {
				out = append(out, b)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Backend) int { return cmp.Compare(a.Lease, b.Lease) })
	return out
}

// SweepEvery returns how often Sweep must be called, 0 for never.
func (s *Shelf) SweepEvery() time.Duration {
	every := time.Duration(0)
	for _, d := range []time.Duration{s.IdleTimeout, s.MaxAge} {
		if d > 0 && (every == 0 || d/2 < every) {
			every = max(min(d/2, time.Minute), 500*time.Millisecond)
		}
	}
	return every
}

// Sweep closes backends that have been idle too long or are too old.
func (s *Shelf) Sweep(now time.Duration) {
	s.CloseIdle(EvictAge, func(b *Backend) bool { return s.aged(b, now) })
	spare := map[*Pool]int{}
	s.CloseIdle(EvictIdle, func(b *Backend) bool {
		if s.IdleTimeout == 0 || now-b.since < s.IdleTimeout {
			return false
		}
		n, known := spare[b.Pool]
		if !known {
			n = len(b.Pool.idle) - s.Keep[b.Pool.Key]
		}
		spare[b.Pool] = n - 1
		return n > 0
	})
}
