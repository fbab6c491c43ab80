package pool

import "time"

const (
	// maxAsk is how many leases a pool asks for at a time. A grant takes less than a
	// millisecond, so a few requests fill an empty pool quickly, and a full pool
	// doesn't report every waiting client to the supervisor.
	maxAsk = 4
	// maxLate is how many leases a pool asks for at a time for clients that have
	// waited for longer than patience.
	maxLate = 64
	// answerTime is longer than a grant takes when leases are free.
	answerTime = 2 * time.Millisecond
	// patience is how long a client waits for backends of its own worker, if this has any,
	// before the worker asks for those of other workers.
	patience = 20 * time.Millisecond
	// probeAfter is after how many reviews, one per patience, a full pool that serves its
	// clients in time asks again whether it can have more leases.
	probeAfter = 10
)

// asking is what a pool has asked the Ledger for. The requests belong to the pool, not
// to a waiter: a grant serves the waiter that is first at that moment. If the limit is
// reached and the pool's own backends serve the waiters in time, the pool asks for hardly
// anything, because the Ledger would only move backends between workers whose clients
// wait equally long.
type asking struct {
	// requests are the open requests, oldest first.
	requests []uint64
	full     bool // at the last request the limit was reached
	paused   bool // a backend couldn't be opened, and the next attempt must wait
	failing  bool // no backend was opened since then, so only one attempt runs at a time
	reviewed bool // a Review is scheduled
	late     int  // how many clients had waited for longer than patience at the last review
	budget   int  // how many requests a full pool may make before the next review
	reviews  int  // how many reviews in a row had no reason to ask
}

func (a *asking) done() bool { return len(a.requests) == 0 && !a.reviewed && !a.paused }

// want asks for a lease for each waiter for which no backend is being opened, within the
// limits of lacks.
func (s *Shelf) want(p *Pool, now time.Duration) {
	a := &p.asking
	s.sweep(p, now)
	if p.held {
		return
	}
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

// unasked returns the first waiter for which no backend is being opened and no request is
// open.
func (p *Pool) unasked() *Waiter {
	if at := p.coming + len(p.asking.requests); at < len(p.waiters) && p.waiters[at].asked == 0 {
		return p.waiters[at] // this is the usual case
	}
	for _, wt := range p.waiters[min(p.coming, len(p.waiters)):] {
		if wt.asked == 0 {
			return wt
		}
	}
	return nil
}

// lacks returns how many leases to ask for now.
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

// Review checks whether the open requests are still needed. The act Review says when to
// call it.
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
	case !s.open || p.live == p.coming || s.contended(p) || late > 0 || p.waiters[0].Bare:
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
	if s.open && len(p.idle) > 0 && s.makesRoom(p.idle[0], now) {
		s.evict(p.idle[0], EvictUnfit)
	}
	s.want(p, now)
}

// contended reports whether clients of other pools wait as well. Then each waiter has
// its own request, so that the Ledger serves clients in the order of arrival.
func (s *Shelf) contended(p *Pool) bool { return s.waiting > len(p.waiters) }

// arrived adjusts the requests to a new waiter.
func (s *Shelf) arrived(p *Pool, now time.Duration) {
	if !s.contended(p) {
		s.want(p, now)
		return
	}
	for _, other := range s.queues {
		s.want(other, now)
	}
}

// left adjusts the requests after a waiter has left the queue. A waiter that leaves before
// its request is answered shows that the pool's own backends suffice. Its request is soon
// withdrawn, because it makes other workers give up backends.
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

// sweep withdraws the oldest requests whose waiters have left. It waits for answerTime
// first, because a grant would serve another waiter.
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

// withdraw withdraws all requests. A grant that is on its way will be returned.
func (s *Shelf) withdraw(p *Pool) {
	for len(p.asking.requests) > 0 {
		s.abandon(p.asking.requests[0])
	}
}

// Pause delays the next attempt to open a backend.
func (s *Shelf) Pause(p *Pool, d time.Duration) {
	if !p.asking.paused {
		p.asking.paused, p.asking.failing = true, true
		s.act(Act{Do: Resume, Pool: p, In: d})
	}
}

// Resume ends a Pause. The act Resume says when to call it.
func (s *Shelf) Resume(p *Pool, now time.Duration) {
	p.asking.paused = false
	s.want(p, now)
	s.tidy(p)
}

// answered removes a request and returns the waiter that it was made for, nil if the
// request was withdrawn.
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

// relabel keeps requests and waiters in step when a request made for asked serves another
// waiter: asked gets the open request of the waiter that is served.
func (s *Shelf) relabel(asked, served *Waiter) {
	if asked != served && asked.queued && served.asked != 0 {
		asked.asked, asked.askedAt, served.asked = served.asked, served.askedAt, 0
		s.requests[asked.asked] = asked
	}
}

// uncovered returns the first waiter for which no backend is being opened and which may use
// the answer to the request of asked. A bare waiter may not use the request of a waiter that
// isn't bare, because the Ledger counts unproven leases.
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

// Grant accepts a lease and returns the waiter to open a backend for, or nil if the lease
// must be returned. A bare waiter leaves the queue, others stay there until Opened. usable
// says whether a backend may be opened with the lease.
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
	p.asking.full = false // a new lease means that there was room
	p.live++
	if wt.Bare {
		s.leave(wt, now)
	} else {
		p.coming++
	}
	s.want(p, now)
	return wt
}

// OpenAhead begins the opening of a backend for which nobody waits. Opened ends it, with
// a waiter of this pool that is Bare and in no queue.
func (s *Shelf) OpenAhead(p *Pool) { p.live++ }

// Opened ends an opening that Grant or OpenAhead has begun for a waiter. ok says whether it has led
// to a backend.
func (s *Shelf) Opened(wt *Waiter, ok bool) {
	p := wt.Pool
	if !wt.Bare {
		p.coming--
	}
	if ok { // the server can be reached again
		p.asking.paused, p.asking.failing = false, false
	} else {
		p.live--
		s.tidy(p)
	}
}

// Want asks for the leases that a pool needs after an opening has ended.
func (s *Shelf) Want(p *Pool, now time.Duration) {
	s.want(p, now)
	s.tidy(p)
}

// Refuse handles a refusal. It returns the waiter that is refused, which has left the queue,
// or nil.
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

// Unanswered says that the answer to a request was lost.
func (s *Shelf) Unanswered(request uint64, now time.Duration) {
	if asked := s.answered(request); asked != nil {
		s.want(asked.Pool, now)
		s.tidy(asked.Pool)
	}
}

// TakeOver accepts a backend of another worker as the answer to a request, or, with request
// 0, a backend that comes back because no client waits for it any more.
func (s *Shelf) TakeOver(request uint64, key Key, b *Backend, now time.Duration) {
	asked := s.answered(request)
	p := s.pool(key)
	b.Pool = p
	p.live++
	// If there were room for another backend, the answer would have been a new lease.
	p.asking.full = request != 0 || p.asking.full
	wt := p.next(b)
	if asked != nil && wt != nil {
		s.relabel(asked, wt)
	}
	if wt == nil && len(p.waiters) > 0 {
		s.act(Act{Do: Close, Backend: b, Reason: EvictUnfit})
	} else {
		p.asking.failing = false // the server can be reached; a full pool may never find that out itself
		s.Put(b, request != 0, now)
	}
	s.want(p, now)
}

// Adopt accepts a backend of another worker that comes with its client.
func (s *Shelf) Adopt(key Key, b *Backend) {
	b.Pool = s.pool(key)
	b.Pool.live++
}

// Surplus returns idle backends of a worker that hands everything over, oldest first: all but
// keep of them, so that clients that stay find one.
func (s *Shelf) Surplus(keep int) []*Backend {
	list := s.selectIdle(func(*Backend) bool { return true })
	return list[:max(len(list)-keep, 0)]
}
