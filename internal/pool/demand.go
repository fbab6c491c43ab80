package pool

import "time"

const (
	// maxAsk is how many leases a pool asks for at a time. A grant takes less than
	// a millisecond, so a few are enough to fill an empty pool quickly, and a full
	// one doesn't tell the supervisor of every client that waits.
	maxAsk = 4
	// maxLate is how many leases a pool asks for at a time for clients that have
	// waited for longer than patience.
	maxLate = 64
	// answerTime is longer than a grant takes when there is room.
	answerTime = 2 * time.Millisecond
	// patience is how long a client waits for the backends at hand, where there are
	// some, before those of other workers are asked for.
	patience = 20 * time.Millisecond
	// probeAfter is after how many times of patience a pool that is served in good
	// time asks whether there is room for more.
	probeAfter = 10
)

// asking is what a pool has asked the Ledger for. The requests belong to the
// pool, not to a waiter: a grant serves whoever is first by then. Where the limit
// is reached and the waiters are served in good time by the backends at hand,
// hardly anything is asked for: the Ledger would only move backends between
// workers whose clients wait as long.
type asking struct {
	// requests are those under way, oldest first.
	requests []uint64
	// full: the limit was reached when last asked. paused: a backend couldn't be
	// opened, and the next attempt is due later. failing: none has been opened since,
	// so there is one attempt at a time. reviewed: a Review is due.
	full, paused, failing, reviewed bool
	// late is how many had waited for too long at the last review, and budget how
	// many requests a full pool may make before the next one; reviews counts those
	// at which it had no reason to.
	late, budget, reviews int
}

func (a *asking) done() bool { return len(a.requests) == 0 && !a.reviewed && !a.paused }

// want asks for as many leases as there are waiters that nothing is coming for,
// as far as there is hope.
func (s *Shelf) want(p *Pool, now time.Duration) {
	a := &p.asking
	s.sweep(p, now)
	for n := s.lacks(p); n > 0; n-- {
		wt := p.unasked()
		if wt == nil {
			break
		}
		s.lastID++
		wt.asked, wt.askedAt = s.lastID, now
		a.requests = append(a.requests, wt.asked)
		s.requests[wt.asked] = wt
		s.act(Act{Do: Ask, Request: wt.asked, Waiter: wt, Pool: p})
	}
	if !a.reviewed && len(p.waiters) > 0 {
		a.reviewed = true
		s.act(Act{Do: Review, Pool: p, In: patience})
	}
}

// unasked returns the first waiter that no backend is coming for and nothing was
// asked for.
func (p *Pool) unasked() *Waiter {
	if at := p.coming + len(p.asking.requests); at < len(p.waiters) && p.waiters[at].asked == 0 {
		return p.waiters[at] // as a rule
	}
	for _, wt := range p.waiters[min(p.coming, len(p.waiters)):] {
		if wt.asked == 0 {
			return wt
		}
	}
	return nil
}

// lacks returns how many leases are to be asked for now.
func (s *Shelf) lacks(p *Pool) int {
	a := &p.asking
	n := len(p.waiters) - p.coming - len(a.requests)
	switch {
	case a.paused:
		return 0
	case a.failing:
		return min(n, 1-p.coming-len(a.requests))
	case s.NoWait, s.contended(p):
		return n
	}
	n = min(n, max(maxAsk, a.late)-len(a.requests))
	if a.full && p.live > 0 && n > 0 {
		n = min(n, a.budget)
		a.budget -= n
	}
	return n
}

// Review looks whether what was asked for is still wanted. It is due at the time of
// the act of that name.
func (s *Shelf) Review(p *Pool, now time.Duration) {
	a := &p.asking
	a.reviewed = false
	if len(p.waiters) == 0 {
		a.full, a.reviews = false, 0
		s.withdraw(p)
		s.tidy(p)
		return
	}
	late := 0
	for late < min(len(p.waiters), maxLate) && now-p.waiters[late].Since >= patience {
		late++
	}
	a.late, a.budget = late, late
	switch {
	case !s.open || p.live == p.coming || s.contended(p) || late > 0:
		a.reviews = 0
	default:
		if len(a.requests) > 0 {
			a.full = true
			s.withdraw(p)
		}
		if a.reviews++; a.reviews >= probeAfter {
			a.reviews, a.budget = 0, 1
		}
	}
	s.want(p, now)
}

// contended reports whether clients of other pools wait as well. Each waiter has
// a request of its own then, so that the Ledger's order is that of arrival.
func (s *Shelf) contended(p *Pool) bool { return s.waiting > len(p.waiters) }

// arrived brings requests in line with a new waiter.
func (s *Shelf) arrived(p *Pool, now time.Duration) {
	if !s.contended(p) {
		s.want(p, now)
		return
	}
	for _, other := range s.queues {
		s.want(other, now)
	}
}

// left brings requests in line with a waiter that has left the queue. Where one
// leaves before its answer has come, the backends at hand suffice. Its request is
// taken back soon, since others are told how long it has waited.
func (s *Shelf) left(wt *Waiter, now time.Duration) {
	p := wt.Pool
	a := &p.asking
	late := wt.asked != 0 && now-wt.askedAt >= answerTime
	if late && !s.contended(p) && p.live > p.coming {
		a.full = true
	}
	switch surplus := len(a.requests) > len(p.waiters)-p.coming; {
	case late, surplus && wt.asked != 0:
		s.abandon(wt.asked)
	case surplus && len(a.requests) > 0:
		s.abandon(a.requests[len(a.requests)-1])
	}
	s.sweep(p, now)
}

// sweep takes back the oldest requests, as far as they were for waiters that have
// left and had their chance of a grant, which would serve another one.
func (s *Shelf) sweep(p *Pool, now time.Duration) {
	for len(p.asking.requests) > 0 {
		wt := s.requests[p.asking.requests[0]]
		if wt.queued || now-wt.askedAt < answerTime {
			return
		}
		s.abandon(wt.asked)
	}
}

func (s *Shelf) abandon(id uint64) {
	s.answered(id)
	s.act(Act{Do: Withdraw, Request: id})
}

// withdraw takes all requests back. A grant that crosses is returned.
func (s *Shelf) withdraw(p *Pool) {
	for len(p.asking.requests) > 0 {
		s.abandon(p.asking.requests[0])
	}
}

// Pause has the next attempt to open a backend wait for a while.
func (s *Shelf) Pause(p *Pool, d time.Duration) {
	if !p.asking.paused {
		p.asking.paused, p.asking.failing = true, true
		s.act(Act{Do: Resume, Pool: p, In: d})
	}
}

// Resume ends a Pause. It is due at the time of the act of that name.
func (s *Shelf) Resume(p *Pool, now time.Duration) {
	p.asking.paused = false
	s.want(p, now)
	s.tidy(p)
}

// answered takes a request off the books and returns the waiter that it was for,
// nil when it was withdrawn.
func (s *Shelf) answered(id uint64) *Waiter {
	wt := s.requests[id]
	if wt == nil {
		return nil
	}
	delete(s.requests, id)
	wt.asked = 0
	a := &wt.Pool.asking
	a.requests = without(a.requests, id)
	return wt
}

// relabel gives the request of the waiter that is served to the one whose request
// was answered.
func (s *Shelf) relabel(asked, served *Waiter) {
	if asked != served && asked.queued && served.asked != 0 {
		asked.asked, asked.askedAt, served.asked = served.asked, served.askedAt, 0
		s.requests[asked.asked] = asked
	}
}

// uncovered returns the first waiter that no backend is being opened for and that may
// have the answer to a request. That of a client that is known isn't for one that has
// proven nothing: the Ledger counts those.
func (p *Pool) uncovered(asked *Waiter) *Waiter {
	coming := p.coming // for the first waiters that aren't bare
	for _, wt := range p.waiters {
		switch {
		case !wt.Bare && coming > 0:
			coming--
		case asked.Bare || !wt.Bare:
			return wt
		}
	}
	return nil
}

// Grant takes a lease and returns the waiter to open a backend for with it, or nil
// when the lease is to be returned. A bare waiter leaves the queue; others wait for
// Opened. usable says that a backend may be opened with the lease.
func (s *Shelf) Grant(request uint64, usable bool, now time.Duration) *Waiter {
	asked := s.answered(request)
	if asked == nil { // withdrawn while the grant was on its way
		return nil
	}
	p := asked.Pool
	wt := p.uncovered(asked)
	if wt == nil || !usable {
		s.want(p, now)
		s.tidy(p)
		return nil
	}
	s.relabel(asked, wt)
	p.asking.full = false // a lease without a backend: there was room
	p.live++
	if wt.Bare {
		s.leave(wt, now)
	} else {
		p.coming++
	}
	s.want(p, now)
	return wt
}

// Opened tells what came of an opening that Grant has begun for a waiter: a backend,
// or, when ok is false, none.
func (s *Shelf) Opened(wt *Waiter, ok bool) {
	p := wt.Pool
	if !wt.Bare {
		p.coming--
		if ok { // the server can be reached again
			p.asking.paused, p.asking.failing = false, false
		}
	}
	if !ok {
		p.live--
		s.tidy(p)
	}
}

// Want asks for what a pool lacks, after an opening has ended.
func (s *Shelf) Want(p *Pool, now time.Duration) {
	s.want(p, now)
	s.tidy(p)
}

// Refuse takes a no, and returns the waiter that it is for, which has left the queue,
// or nil for none.
func (s *Shelf) Refuse(request uint64, now time.Duration) *Waiter {
	asked := s.answered(request)
	if asked == nil {
		return nil
	}
	p := asked.Pool
	wt := p.uncovered(asked)
	if wt != nil {
		s.relabel(asked, wt)
		s.leave(wt, now)
	}
	s.tidy(p)
	return wt
}

// Unanswered says that the answer to a request got lost on its way.
func (s *Shelf) Unanswered(request uint64, now time.Duration) {
	if asked := s.answered(request); asked != nil {
		s.want(asked.Pool, now)
		s.tidy(asked.Pool)
	}
}

// TakeOver takes a backend of another worker as the answer to a request, or one that
// comes back because nobody wants it any more: request is 0 then.
func (s *Shelf) TakeOver(request uint64, key Key, b *Backend, now time.Duration) {
	asked := s.answered(request)
	p := s.pool(key)
	b.Pool = p
	p.live++
	// Had there been room for another backend, a lease would have come alone.
	p.asking.full = request != 0 || p.asking.full
	wt := p.next(b)
	if asked != nil && wt != nil {
		s.relabel(asked, wt)
	}
	if wt == nil && len(p.waiters) > 0 {
		s.act(Act{Do: Close, Backend: b, Reason: EvictUnfit})
	} else {
		p.asking.failing = false // another worker has opened one; in a full pool this one may never do
		s.Put(b, request != 0, now)
	}
	s.want(p, now)
}
