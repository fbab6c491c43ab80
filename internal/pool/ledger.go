package pool

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Ledger is the only place where leases are counted. It belongs to one
// goroutine. The zero Ledger is not usable.
//
// A request passes two gates, the gate of its rule and the gate of the total. It waits in
// the queue of its rule. The gate of the total admits the oldest request among the heads of
// all queues whose own gate has room. So clients are served in the order of arrival over
// all workers, and a full rule delays no clients of other rules.
//
// A client that hasn't authenticated itself yet can keep a lease for as long as it keeps
// its server waiting. The requests of such clients are called unproven. They have queues of
// their own, and their leases may be at most a share of each gate until the backends are
// open (share.go).
type Ledger struct {
	total gate
	// rules has the gate of NoRule first, then the gate of each rule.
	rules []gate

	server int
	epoch  uint64
	open   bool

	leases  map[uint64]*lease
	workers map[int]*worker
	// order has the workers by index, so that effects don't depend on the order of a map.
	order []*worker

	ahead ahead
	holds func(Key) bool // pools that get no lease, see Hold; nil for none
	// parked are the requests of these pools. They count at no gate.
	parked queue

	lastLease, lastSeq, lastReclaim uint64
	out                             []Effect
}

// gate is one limit and the leases that count against it.
type gate struct {
	max, used, orphans int
	queue              queue
	// unknown is the queue of unproven requests, and unproven counts their leases.
	unknown  queue
	unproven int
	demand   int // how many requests of the queues this gate would admit now
	claims   []*claim
	dirty    bool // claims must be checked
}

type lease struct {
	id     uint64
	key    Key
	rule   int // as an index of Ledger.rules
	server int
	epoch  uint64
	worker *worker // nil for an orphan
	pos    int     // in the worker's holding
	// unproven says that the lease counts against the share.
	unproven bool
	// ahead is the rule for which the lease was given ahead, until its backend is open;
	// nil for any other lease.
	ahead  *aheadRule
	pid    uint32
	cancel CancelKey
}

// worker is what the Ledger knows about one worker.
type worker struct {
	index   int
	waiting map[uint64]*waiter
	total   holding
	rules   []holding
	keys    map[Key]int // leases by pool
	retired bool        // it is given nothing ahead any more
}

// holding is what a worker holds of one gate.
type holding struct {
	n      int
	leases []*lease // empty for the total
	notes  []*note  // by id
	// names caches the ids of leases; nil after a change.
	names []uint64
	// newest is the newest lease that the holding ever had.
	newest uint64
	// stale is how many notes must be sent again, so that they name newer leases.
	stale int
}

// NewLedger returns a Ledger that grants nothing until SetTarget opens it.
func NewLedger(limit int, rules []Rule) *Ledger {
	return &Ledger{
		total: gate{max: limit}, rules: gates(rules), ahead: newAhead(rules),
		leases: map[uint64]*lease{}, workers: map[int]*worker{},
	}
}

func gates(rules []Rule) []gate {
	g := make([]gate, len(rules)+1)
	g[0].max = math.MaxInt
	for i, r := range rules {
		g[i+1].max = r.Max
	}
	return g
}

// SetTarget says on which server backends are opened from now on, and to which epoch
// they belong. While open is false nothing is granted or reclaimed, and requests wait.
func (l *Ledger) SetTarget(server int, epoch uint64, open bool) []Effect {
	l.server, l.epoch = server, epoch
	if l.open != open {
		l.open = open
		l.touchAll()
	}
	l.aim()
	return l.settle()
}

// Request asks for a lease. The worker has chosen id. rule is the index of the rule that
// applies, or NoRule. since is when the waiting client arrived, on the caller's clock. The
// client that arrived first is served first, even if its request comes later.
func (l *Ledger) Request(worker int, id uint64, key Key, rule int, since time.Duration) []Effect {
	return l.request(worker, &waiter{id: id, key: key, rule: rule + 1, since: since})
}

// RequestUnproven is Request for a client that only its server can authenticate.
func (l *Ledger) RequestUnproven(worker int, id uint64, key Key, rule int, since time.Duration) []Effect {
	return l.request(worker, &waiter{id: id, key: key, rule: rule + 1, since: since, unproven: true})
}

func (l *Ledger) request(worker int, q *waiter) []Effect {
	w := l.worker(worker)
	reason := l.refusal(q.rule - 1)
	if _, ok := w.waiting[q.id]; ok {
		reason = ReasonDuplicate
	}
	if reason != 0 {
		return []Effect{Refuse{Worker: worker, Request: q.id, Reason: reason}}
	}
	l.lastSeq++
	q.seq, q.worker = l.lastSeq, w
	w.waiting[q.id] = q
	l.enqueue(q)
	return l.settle()
}

// enqueue puts a request into its queue.
func (l *Ledger) enqueue(q *waiter) {
	q.parked = l.holds != nil && l.holds(q.key)
	l.queueOf(q).push(q)
	l.touch(q.rule)
}

func (l *Ledger) queueOf(q *waiter) *queue {
	if q.parked {
		return &l.parked
	}
	return l.rules[q.rule].queueOf(q)
}

// refusal returns why no request with this rule can ever be granted, or 0.
func (l *Ledger) refusal(rule int) Reason {
	switch {
	case rule < NoRule || rule+1 >= len(l.rules):
		return ReasonNoSuchRule
	case l.total.max <= 0:
		return ReasonPoolClosed
	case l.rules[rule+1].max <= 0:
		return ReasonRuleClosed
	}
	return 0
}

// Abandon withdraws a request. It does nothing for a request that was already granted or
// refused: the worker returns the lease when the grant arrives.
func (l *Ledger) Abandon(worker int, id uint64) []Effect {
	w := l.workers[worker]
	if w == nil || w.waiting[id] == nil {
		return nil
	}
	l.leave(w.waiting[id])
	return l.settle()
}

// Opened records the backend of a lease, after its login. The error says that the worker
// doesn't hold the lease, or has already reported a backend for it; either is a bug of the
// worker.
func (l *Ledger) Opened(worker int, lease uint64, pid uint32, key CancelKey) ([]Effect, error) {
	held, err := l.held(worker, lease)
	if err != nil {
		return nil, fmt.Errorf("record backend: %w", err)
	}
	if held.pid != 0 {
		return nil, fmt.Errorf("record backend: lease %d has one", lease)
	}
	held.pid, held.cancel = pid, key
	l.openedAhead(held, true)
	if held.unproven {
		held.unproven = false
		l.countUnproven(held.rule, -1)
	}
	return l.settle(), nil
}

// Return gives a lease back. The error says that the worker doesn't hold the
// lease, which is a bug of the worker.
func (l *Ledger) Return(worker int, lease uint64) ([]Effect, error) {
	held, err := l.held(worker, lease)
	if err != nil {
		return nil, fmt.Errorf("return lease: %w", err)
	}
	l.answered(held)
	l.letGo(held)
	l.remove(held)
	return l.settle(), nil
}

// HandOver moves a lease and its backend to the request that would get the lease if it were
// returned, provided that the request is for the same pool. Otherwise they go to the worker
// home, which is worker itself unless another process takes its place. The effects contain
// one Move. The error says that the worker doesn't hold the lease, which is a bug of the worker.
func (l *Ledger) HandOver(worker int, lease uint64, home int) ([]Effect, error) {
	held, err := l.held(worker, lease)
	if err != nil {
		return nil, fmt.Errorf("hand backend over: %w", err)
	}
	l.answered(held)
	l.letGo(held)
	l.remove(held)
	moved := *held
	moved.unproven = false // the backend is already open
	if q := l.heir(held); q != nil {
		l.leave(q)
		moved.rule = q.rule
		l.emit(Move{Worker: q.worker.index, Request: q.id, Lease: l.lend(q.worker, &moved).id})
	} else {
		l.emit(Move{Worker: home, Lease: l.lend(l.worker(home), &moved).id, Back: true})
	}
	return l.settle(), nil
}

// Pass moves a lease to another worker, together with the client that has its backend, and
// returns the new lease. No other request gets it on the way. The error says that the worker
// doesn't hold the lease, which is a bug of the worker.
func (l *Ledger) Pass(worker int, lease uint64, to int) (uint64, []Effect, error) {
	held, err := l.held(worker, lease)
	if err != nil {
		return 0, nil, fmt.Errorf("pass backend on: %w", err)
	}
	l.answered(held)
	l.letGo(held)
	l.remove(held)
	moved := *held
	moved.unproven = false // the backend is already open
	id := l.lend(l.worker(to), &moved).id
	return id, l.settle(), nil
}

// heir returns the request that gets the backend of a lease that was just removed, or nil.
func (l *Ledger) heir(held *lease) *waiter {
	if !l.open || held.epoch != l.epoch || l.total.used >= l.total.max {
		return nil
	}
	q := l.next(func(q *waiter) *waiter { return q })
	if q == nil || q.key != held.key {
		return nil
	}
	return q
}

func (l *Ledger) held(worker int, id uint64) (*lease, error) {
	held := l.leases[id]
	if held == nil || held.worker == nil || held.worker.index != worker {
		return nil, fmt.Errorf("lease %d is not held by worker %d", id, worker)
	}
	return held, nil
}

// WorkerGone removes a worker and its requests. Its leases become orphans, which WorkerGone
// returns, the oldest first.
func (l *Ledger) WorkerGone(worker int) ([]Orphan, []Effect) {
	w := l.workers[worker]
	if w == nil {
		return nil, nil
	}
	l.forget(w)
	for _, q := range byArrival(w) {
		l.leave(q)
	}
	var orphans []Orphan
	for r := range w.rules {
		for _, held := range w.rules[r].leases {
			held.worker = nil
			l.openedAhead(held, false)
			l.total.orphans++
			l.rules[r].orphans++
			l.touch(r)
			orphans = append(orphans, Orphan{
				Lease: held.id, Key: held.key, Server: held.server, Epoch: held.epoch,
				PID: held.pid, Cancel: held.cancel,
			})
		}
	}
	slices.SortFunc(orphans, func(a, b Orphan) int { return cmp.Compare(a.Lease, b.Lease) })
	return orphans, l.settle()
}

// OrphanGone ends an orphan, because its server has no such backend any more. It ignores
// unknown orphans.
func (l *Ledger) OrphanGone(lease uint64) []Effect {
	held := l.leases[lease]
	if held == nil || held.worker != nil {
		return nil
	}
	l.total.orphans--
	l.rules[held.rule].orphans--
	l.remove(held)
	return l.settle()
}

// worker returns the state of a worker. It makes one at the worker's first request.
func (l *Ledger) worker(index int) *worker {
	if w := l.workers[index]; w != nil {
		return w
	}
	w := &worker{index: index, waiting: map[uint64]*waiter{}, keys: map[Key]int{}, rules: make([]holding, len(l.rules))}
	l.workers[index] = w
	at, _ := slices.BinarySearchFunc(l.order, index, func(w *worker, i int) int { return w.index - i })
	l.order = slices.Insert(l.order, at, w)
	return w
}

// letGo removes a lease from its worker's holdings.
func (l *Ledger) letGo(held *lease) {
	w := held.worker
	w.total.n--
	if w.keys[held.key]--; w.keys[held.key] == 0 {
		delete(w.keys, held.key)
	}
	h := &w.rules[held.rule]
	last := h.leases[h.n-1]
	h.leases[held.pos], last.pos = last, held.pos
	h.n--
	h.leases[h.n] = nil
	h.leases, h.names = h.leases[:h.n], nil
}

// remove ends a lease that no worker holds any more.
func (l *Ledger) remove(held *lease) {
	delete(l.leases, held.id)
	l.openedAhead(held, false)
	l.total.used--
	l.rules[held.rule].used--
	if held.unproven {
		l.countUnproven(held.rule, -1)
	}
	l.touch(held.rule)
}

// leave removes a request from its queue, for whatever reason.
func (l *Ledger) leave(q *waiter) {
	delete(q.worker.waiting, q.id)
	l.dequeue(q)
}

// dequeue removes a request from its queue, and what other workers give up for it.
func (l *Ledger) dequeue(q *waiter) {
	l.queueOf(q).remove(q)
	if q.claim != nil {
		l.drop(q.claim)
	}
	l.touch(q.rule)
}

// touch updates the demand of a rule after any change of its queues or use, and marks its
// claims for a check.
func (l *Ledger) touch(rule int) {
	g := &l.rules[rule]
	g.dirty = true
	g.demand = min(g.queue.n+l.eligible(g), max(0, g.max-g.used))
}

func (l *Ledger) touchAll() {
	for r := range l.rules {
		l.touch(r)
	}
}

// settle grants what can be granted, reclaims as much as the remaining requests need,
// and returns the effects of the whole step.
func (l *Ledger) settle() []Effect {
	for l.open && l.total.used < l.total.max {
		q := l.next(func(q *waiter) *waiter { return q })
		if q == nil {
			break
		}
		l.grant(q)
	}
	l.giveAhead()
	l.reclaim()
	out := l.out
	l.out = nil
	return out
}

// next returns the oldest of the requests that pick selects from the heads of the
// queues whose rule has room. There are few rules, so it checks each.
func (l *Ledger) next(pick func(*waiter) *waiter) *waiter {
	var oldest *waiter
	for r := range l.rules {
		if l.rules[r].demand == 0 {
			continue
		}
		if q := l.first(&l.rules[r], pick); q != nil && (oldest == nil || q.before(oldest)) {
			oldest = q
		}
	}
	return oldest
}

func (l *Ledger) grant(q *waiter) {
	l.leave(q)
	held := l.lend(q.worker, &lease{key: q.key, rule: q.rule, server: l.server, epoch: l.epoch, unproven: q.unproven})
	l.emit(Grant{Worker: q.worker.index, Request: q.id, Lease: held.id, Server: held.server, Epoch: held.epoch})
}

// lend gives a new lease to a worker.
func (l *Ledger) lend(w *worker, held *lease) *lease {
	l.lastLease++
	g, h := &l.rules[held.rule], &w.rules[held.rule]
	held.id, held.worker, held.pos = l.lastLease, w, h.n
	l.leases[held.id] = held
	h.leases, h.names = append(h.leases, held), nil
	h.n++
	h.newest = held.id
	h.stale++
	w.total.n++
	w.keys[held.key]++
	g.used++
	l.total.used++
	if held.unproven {
		l.countUnproven(held.rule, 1)
	}
	l.touch(held.rule)
	return held
}

func (l *Ledger) emit(e Effect) { l.out = append(l.out, e) }
