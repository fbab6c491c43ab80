package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

const (
	// maxAsk is how many leases a pool asks for at a time. A grant takes less than
	// a millisecond, so a few are enough to fill an empty pool quickly, and a full
	// one doesn't tell the supervisor of every client that waits.
	maxAsk = 4
	// patience is how long a pool that has backends waits for a lease before it
	// takes the limit as reached.
	patience = 20 * time.Millisecond
)

// asking is what a pool has asked the supervisor for. The requests belong to the
// pool, not to a waiter: a grant serves whoever is first by then. While the
// limit is reached and the waiters are served in good time by the backends at
// hand, nothing is asked for; the supervisor would only take backends from other
// workers whose clients wait as long.
type asking struct {
	// requests are those under way.
	requests []uint64
	// full: the limit was reached when last asked. paused: a backend couldn't be
	// opened, and the next attempt is due later.
	full, paused bool
	timer        *reactor.Timer
}

func (a *asking) done() bool { return len(a.requests) == 0 && a.timer == nil && !a.paused }

// want asks for as many leases as there are waiters that nothing is coming for.
func (w *worker) want(p *pool) {
	a := &p.asking
	noWait := w.cfg.Load().BlockingTimeoutMS == 0
	n := len(p.waiters) - p.coming
	if !noWait && !w.contended(p) {
		n = min(n, maxAsk)
	}
	if a.paused || a.full && p.live > 0 {
		n = 0
	}
	for n -= len(a.requests); n > 0; n-- {
		id := w.newID()
		a.requests = append(a.requests, id)
		w.requests[id] = p
		w.send(&ipc.LeaseRequest{ID: id, Key: p.key, Requested: p.waiters[0].requested, NoWait: noWait})
	}
	if a.timer == nil && len(p.waiters) > 0 {
		a.timer = w.loop.After(patience, func() { w.review(p) })
	}
}

// review looks whether what was asked for is still wanted.
func (w *worker) review(p *pool) {
	a := &p.asking
	a.timer = nil
	switch {
	case len(p.waiters) == 0:
		a.full = false
		w.withdraw(p)
		w.tidy(p)
		return
	case a.full:
		a.full = false // perhaps there is room by now
	case w.contended(p):
	case len(a.requests) > 0 && p.live > p.coming && time.Since(p.waiters[0].since) < fairness && w.servers.Open:
		a.full = true
		w.withdraw(p)
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
			other.asking.full = false
			w.want(other)
		}
	}
}

// served takes the request of a waiter back that got a backend without it.
func (w *worker) served(p *pool) {
	a := &p.asking
	if !w.contended(p) || len(a.requests) <= len(p.waiters)-p.coming {
		return
	}
	id := a.requests[0]
	w.answered(id)
	w.send(&ipc.LeaseAbandon{ID: id})
}

// withdraw takes all requests back. A grant that crosses is returned.
func (w *worker) withdraw(p *pool) {
	for _, id := range p.asking.requests {
		delete(w.requests, id)
		w.send(&ipc.LeaseAbandon{ID: id})
	}
	p.asking.requests = p.asking.requests[:0]
}

// pause has the next attempt to open a backend wait for a while.
func (w *worker) pause(p *pool, d time.Duration) {
	if p.asking.paused {
		return
	}
	p.asking.paused = true
	w.loop.After(d, func() {
		p.asking.paused = false
		w.want(p)
		w.tidy(p)
	})
}

// answered returns the pool whose request it was, nil when it was withdrawn.
func (w *worker) answered(id uint64) *pool {
	p := w.requests[id]
	if p == nil {
		return nil
	}
	delete(w.requests, id)
	for i, r := range p.asking.requests {
		if r == id {
			p.asking.requests = append(p.asking.requests[:i], p.asking.requests[i+1:]...)
			break
		}
	}
	return p
}

// uncovered returns the first waiter that no backend is being opened for.
func (p *pool) uncovered() *waiter {
	if p.coming >= len(p.waiters) {
		return nil
	}
	return p.waiters[p.coming]
}

func (w *worker) onLeaseGrant(m *ipc.LeaseGrant) {
	p := w.answered(m.ID)
	if p == nil { // withdrawn while the grant was on its way
		w.returnLease(m.Lease)
		return
	}
	wt := p.uncovered()
	if wt == nil || m.Epoch <= w.fenced {
		w.returnLease(m.Lease)
		w.want(p)
		w.tidy(p)
		return
	}
	p.asking.full = false
	if wt.granted != nil {
		w.leave(wt)
		wt.granted(m)
	} else {
		w.open(wt, m)
	}
	w.want(p)
}

func (w *worker) onLeaseRefuse(m *ipc.LeaseRefuse) {
	p := w.answered(m.ID)
	if p == nil {
		return
	}
	if wt := p.uncovered(); wt != nil {
		w.refuse(wt, m.Code, m.Message)
	}
	w.tidy(p)
}
