package pool

import "slices"

// maxClaims limits how much is reclaimed at a time for one gate. More than a few dozen
// claims serve no client sooner, but each costs a message per worker.
const maxClaims = 64

// maxNames limits the leases in one Reclaim, so that it fits into a packet of 64 KiB: a
// lease has 9 bytes, and the key needs room.
const maxNames = 5000

// claim is one lease that a gate needs back for a waiter. Several workers may have a note
// of the same claim, because each could give the lease back. The claim ends when its waiter
// is served, or the gate no longer needs the lease.
type claim struct {
	gate   *gate
	rule   int // of the gate as an index of Ledger.rules, -1 for the total
	waiter *waiter
	key    Key
	notes  []*note
}

// note is a Reclaim that one worker has got for a claim. It names the leases older than
// before.
type note struct {
	id     uint64
	claim  *claim
	worker *worker
	before uint64
}

const totalGate = -1

func (w *worker) holding(rule int) *holding {
	if rule == totalGate {
		return &w.total
	}
	return &w.rules[rule]
}

// reclaim adjusts claims and notes to the current need.
func (l *Ledger) reclaim() {
	l.reclaimForRules()
	l.balance(&l.total, totalGate, l.demand()+l.total.used-l.total.max)
	l.reclaimForRules() // for requests that have lost their claim at the total
}

func (l *Ledger) reclaimForRules() {
	for r := range l.rules {
		g := &l.rules[r]
		if g.dirty {
			g.dirty = false
			// Not waiting + used - max, which could overflow: the max of NoRule is the
			// largest int.
			l.balance(g, r, g.queue.n+l.eligible(g)-(g.max-g.used))
		}
	}
}

// balance gives the gate as many claims as it needs leases, and tells the holders of
// leases. There may be more claims than leases, so that a worker whose own clients come
// first knows who comes next.
func (l *Ledger) balance(g *gate, rule, need int) {
	want := min(need, maxClaims)
	if !l.open || g.used == g.orphans {
		want = 0
	}
	l.dropBeyondShare(g)
	for len(g.claims) > max(0, want) {
		l.drop(g.claims[len(g.claims)-1])
	}
	for len(g.claims) < want {
		q := l.needy(g, rule)
		if q == nil {
			break
		}
		l.claim(g, rule, q)
	}
	for _, w := range l.order {
		l.notify(w, g, rule)
	}
}

// needy returns the oldest request that has no claim yet and may have one at a gate,
// nil for none.
func (l *Ledger) needy(g *gate, rule int) *waiter {
	pick := func(head *waiter) *waiter {
		if q := unclaimed(head); q != nil && (!q.unproven || l.shareHasRoom(g, q)) {
			return q
		}
		return nil
	}
	if rule == totalGate {
		return l.next(pick)
	}
	return l.first(g, pick)
}

func (l *Ledger) claim(g *gate, rule int, q *waiter) {
	c := &claim{gate: g, rule: rule, waiter: q, key: q.key}
	q.claim = c
	at := len(g.claims)
	for at > 0 && c.before(g.claims[at-1]) {
		at--
	}
	g.claims = slices.Insert(g.claims, at, c)
}

// before orders claims like their waiters.
func (c *claim) before(o *claim) bool { return c.waiter.before(o.waiter) }

// notify gives a worker notes of as many claims as it holds leases, except claims that it
// can't help. If there are more claims, it gets those of the clients that arrived first.
//
// A note names only leases that are older than the note. So for each newer lease the oldest
// note is sent again. Then the notes that name a lease are always the last ones of the
// worker, as many as there are newer leases, or all. A worker that answers the first note
// that names the lease then never runs out of notes.
func (l *Ledger) notify(w *worker, g *gate, rule int) {
	h := w.holding(rule)
	for len(h.notes) < min(len(g.claims), h.n) {
		c := firstWithout(g.claims, w, h)
		if c == nil {
			break
		}
		l.send(w, h, c)
		h.stale--
	}
	for len(h.notes) > 0 && len(h.notes) < len(g.claims) {
		c, last := firstWithout(g.claims, w, h), h.youngest()
		if c == nil || !c.before(last.claim) {
			break
		}
		if h.notes[0] != last {
			h.stale++
		}
		l.withdraw(last)
		l.send(w, h, c)
		h.stale--
	}
	for ; h.stale > 0 && rule != totalGate && len(h.notes) > 0; h.stale-- {
		first := h.notes[0]
		if first.before > h.newest {
			break
		}
		l.withdraw(first)
		l.send(w, h, first.claim)
	}
	h.stale = 0
}

// youngest returns the note whose client arrived last.
func (h *holding) youngest() *note {
	last := h.notes[0]
	for _, n := range h.notes {
		if last.claim.before(n.claim) {
			last = n
		}
	}
	return last
}

// firstWithout returns the first claim that a worker can help and has no note of, nil
// for none.
func firstWithout(claims []*claim, w *worker, h *holding) *claim {
	for _, c := range claims {
		if !c.idleFor(w, h) && !slices.ContainsFunc(c.notes, func(n *note) bool { return n.worker == w }) {
			return c
		}
	}
	return nil
}

// idleFor reports whether the worker can't help a claim: the claim is for its own
// client, and all that it holds is of that client's pool, so the client gets it anyway.
func (c *claim) idleFor(w *worker, h *holding) bool {
	return c.waiter.worker == w && w.keys[c.key] >= h.n
}

func (l *Ledger) send(w *worker, h *holding, c *claim) {
	l.lastReclaim++
	n := &note{id: l.lastReclaim, claim: c, worker: w, before: l.lastLease + 1}
	c.notes = append(c.notes, n)
	h.notes = append(h.notes, n)
	e := Reclaim{
		ID: n.id, Worker: w.index, Key: c.key, Size: c.gate.max, Own: c.waiter.worker == w, Since: c.waiter.since,
	}
	if c.rule != totalGate {
		e.Leases = h.ids()
	}
	l.emit(e)
}

// ids returns the ids of the leases. All Reclaims share the slice until the next
// change; it is never modified.
func (h *holding) ids() []uint64 {
	if h.names == nil {
		h.names = make([]uint64, min(len(h.leases), maxNames))
		for i := range h.names {
			h.names[i] = h.leases[i].id
		}
	}
	return h.names
}

// withdraw cancels a note.
func (l *Ledger) withdraw(n *note) {
	h := n.worker.holding(n.claim.rule)
	h.notes = without(h.notes, n)
	n.claim.notes = without(n.claim.notes, n)
	l.emit(ReclaimCancel{ID: n.id, Worker: n.worker.index})
}

// drop ends a claim. The caller makes sure that the gate is checked afterwards.
func (l *Ledger) drop(c *claim) {
	for len(c.notes) > 0 {
		n := c.notes[len(c.notes)-1]
		h := n.worker.holding(c.rule)
		if h.notes[0] != n {
			// A note that names more leases is gone; an older note has to take its
			// place.
			h.stale++
		}
		l.withdraw(n)
	}
	c.gate.claims = without(c.gate.claims, c)
	c.waiter.claim = nil
	if c.rule == totalGate { // its rule may have become full meanwhile
		l.rules[c.waiter.rule].dirty = true
	}
}

// answered removes the note that the worker answers by returning the lease. It also cancels
// the note at the worker, because a worker that returns the lease for another reason may
// get the note only afterwards.
func (l *Ledger) answered(held *lease) {
	var first *note
	if notes := held.worker.total.notes; len(notes) > 0 {
		first = notes[0]
	}
	for _, n := range held.worker.rules[held.rule].notes {
		if n.before > held.id && (first == nil || n.id < first.id) {
			first = n
			break
		}
	}
	if first != nil {
		// Other workers keep the claim until its waiter is served.
		l.withdraw(first)
	}
}

// forget removes a worker without sending it anything.
func (l *Ledger) forget(w *worker) {
	delete(l.workers, w.index)
	l.order = without(l.order, w)
	l.unnote(&w.total)
	for r := range w.rules {
		l.unnote(&w.rules[r])
	}
}

func (l *Ledger) unnote(h *holding) {
	for _, n := range h.notes {
		n.claim.notes = without(n.claim.notes, n)
	}
	h.notes = nil
}

// without removes v from s and keeps the order of the rest.
func without[T comparable](s []T, v T) []T {
	if i := slices.Index(s, v); i >= 0 {
		return slices.Delete(s, i, i+1)
	}
	return s
}
