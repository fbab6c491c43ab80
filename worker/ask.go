package worker

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

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

// asking is what a pool has asked the supervisor for. The requests belong to the
// pool, not to a waiter: a grant serves whoever is first by then. Where the limit
// is reached and the waiters are served in good time by the backends at hand,
// hardly anything is asked for: the supervisor would only move backends between
// workers whose clients wait as long.
type asking struct {
	// requests are those under way, oldest first.
	requests []uint64
	// full: the limit was reached when last asked. paused: a backend couldn't be
	// opened, and the next attempt is due later. failing: none has been opened since,
	// so there is one attempt at a time.
	full, paused, failing bool
	// late is how many had waited for too long at the last review, and budget how
	// many requests a full pool may make before the next one; reviews counts those
	// at which it had no reason to.
	late, budget, reviews int
	timer                 *reactor.Timer
}

func (a *asking) done() bool { return len(a.requests) == 0 && a.timer == nil && !a.paused }

// want asks for as many leases as there are waiters that nothing is coming for,
// as far as there is hope.
func (w *worker) want(p *pool) {
	a := &p.asking
	w.sweep(p)
	for n := w.lacks(p); n > 0; n-- {
		wt := p.unasked()
		if wt == nil {
			break
		}
		wt.asked, wt.askedAt = w.newID(), time.Now()
		a.requests = append(a.requests, wt.asked)
		w.requests[wt.asked] = wt
		w.send(&ipc.LeaseRequest{
			ID: wt.asked, Key: p.key, Requested: wt.requested, NoWait: w.cfg.BlockingTimeoutMS == 0,
			WaitedMS: wt.askedAt.Sub(wt.since).Milliseconds(),
		})
	}
	if a.timer == nil && len(p.waiters) > 0 {
		a.timer = w.loop.After(patience, func() { w.review(p) })
	}
}

// unasked returns the first waiter that no backend is coming for and nothing was
// asked for.
func (p *pool) unasked() *waiter {
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
func (w *worker) lacks(p *pool) int {
	a := &p.asking
	n := len(p.waiters) - p.coming - len(a.requests)
	switch {
	case a.paused:
		return 0
	case a.failing:
		return min(n, 1-p.coming-len(a.requests))
	case w.cfg.BlockingTimeoutMS == 0, w.contended(p):
		return n
	}
	n = min(n, max(maxAsk, a.late)-len(a.requests))
	if a.full && p.live > 0 && n > 0 {
		n = min(n, a.budget)
		a.budget -= n
	}
	return n
}

// review looks whether what was asked for is still wanted.
func (w *worker) review(p *pool) {
	a := &p.asking
	a.timer = nil
	if len(p.waiters) == 0 {
		a.full, a.reviews = false, 0
		w.withdraw(p)
		w.tidy(p)
		return
	}
	late := 0
	for late < min(len(p.waiters), maxLate) && time.Since(p.waiters[late].since) >= patience {
		late++
	}
	a.late, a.budget = late, late
	switch {
	case !w.servers.Open || p.live == p.coming || w.contended(p) || late > 0:
		a.reviews = 0
	default:
		if len(a.requests) > 0 {
			a.full = true
			w.withdraw(p)
		}
		if a.reviews++; a.reviews >= probeAfter {
			a.reviews, a.budget = 0, 1
		}
	}
	w.want(p)
}

// contended reports whether clients of other pools wait as well. Each waiter has
// a request of its own then, so that the supervisor's order is that of arrival.
func (w *worker) contended(p *pool) bool { return len(w.waiters) > len(p.waiters) }

// arrived brings requests in line with a new waiter.
func (w *worker) arrived(p *pool) {
	if !w.contended(p) {
		w.want(p)
		return
	}
	for _, other := range w.pools {
		if len(other.waiters) > 0 {
			w.want(other)
		}
	}
}

// left brings requests in line with a waiter that has left the queue. Where one
// leaves before its answer has come, the backends at hand suffice. Its request is
// taken back soon, since others are told how long it has waited.
func (w *worker) left(wt *waiter) {
	p := wt.pool
	a := &p.asking
	wt.gone = true
	late := wt.asked != 0 && time.Since(wt.askedAt) >= answerTime
	if late && !w.contended(p) && p.live > p.coming {
		a.full = true
	}
	switch surplus := len(a.requests) > len(p.waiters)-p.coming; {
	case late, surplus && wt.asked != 0:
		w.abandon(wt.asked)
	case surplus && len(a.requests) > 0:
		w.abandon(a.requests[len(a.requests)-1])
	}
	w.sweep(p)
}

// sweep takes back the oldest requests, as far as they were for waiters that have
// left and had their chance of a grant, which would serve another one.
func (w *worker) sweep(p *pool) {
	for len(p.asking.requests) > 0 {
		wt := w.requests[p.asking.requests[0]]
		if !wt.gone || time.Since(wt.askedAt) < answerTime {
			return
		}
		w.abandon(wt.asked)
	}
}

func (w *worker) abandon(id uint64) {
	w.answered(id)
	w.send(&ipc.LeaseAbandon{ID: id})
}

// withdraw takes all requests back. A grant that crosses is returned.
func (w *worker) withdraw(p *pool) {
	for len(p.asking.requests) > 0 {
		w.abandon(p.asking.requests[0])
	}
}

// pause has the next attempt to open a backend wait for a while.
func (w *worker) pause(p *pool, d time.Duration) {
	if p.asking.paused {
		return
	}
	p.asking.paused, p.asking.failing = true, true
	w.loop.After(d, func() {
		p.asking.paused = false
		w.want(p)
		w.tidy(p)
	})
}

// answered takes a request off the books and returns the waiter that it was for,
// nil when it was withdrawn.
func (w *worker) answered(id uint64) *waiter {
	wt := w.requests[id]
	if wt == nil {
		return nil
	}
	delete(w.requests, id)
	wt.asked = 0
	a := &wt.pool.asking
	if i := slices.Index(a.requests, id); i >= 0 {
		a.requests = slices.Delete(a.requests, i, i+1)
	}
	return wt
}

// relabel gives the request of the waiter that is served to the one whose request
// was answered.
func (w *worker) relabel(asked, served *waiter) {
	if asked != served && !asked.gone && served.asked != 0 {
		asked.asked, asked.askedAt, served.asked = served.asked, served.askedAt, 0
		w.requests[asked.asked] = asked
	}
}

// uncovered returns the first waiter that no backend is being opened for.
func (p *pool) uncovered() *waiter {
	if p.coming >= len(p.waiters) {
		return nil
	}
	return p.waiters[p.coming]
}

func (w *worker) onLeaseGrant(m *ipc.LeaseGrant) {
	asked := w.answered(m.ID)
	if asked == nil { // withdrawn while the grant was on its way
		w.returnLease(m.Lease)
		return
	}
	p := asked.pool
	wt := p.uncovered()
	if wt == nil || m.Epoch <= w.fenced {
		w.returnLease(m.Lease)
		w.want(p)
		w.tidy(p)
		return
	}
	w.relabel(asked, wt)
	p.asking.full = false // a lease without a backend: there was room
	if wt.granted != nil {
		w.leave(wt)
		wt.granted(m)
	} else {
		w.open(wt, m)
	}
	w.want(p)
}

func (w *worker) onLeaseRefuse(m *ipc.LeaseRefuse) {
	asked := w.answered(m.ID)
	if asked == nil {
		return
	}
	p := asked.pool
	if wt := p.uncovered(); wt != nil {
		w.relabel(asked, wt)
		w.refuse(wt, m.Code, m.Message)
	}
	w.tidy(p)
}
