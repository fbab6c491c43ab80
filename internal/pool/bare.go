package pool

import (
	"slices"
	"time"
)

// A bare waiter can't use the idle backends of its own pool, and the Ledger doesn't reclaim
// them for it: it expects a worker's client to take those anyway. So if the leases have run
// out, the Shelf itself closes one.

// makesRoom reports whether a backend must be closed for the first waiter of its pool. That
// one has waited for so long that no lease can be free. It gets one backend per patience,
// because the lease needs a moment to come back.
func (s *Shelf) makesRoom(b *Backend, now time.Duration) bool {
	p := b.Pool
	if len(p.waiters) == 0 || b.Trusting || p.asking.paused {
		return false
	}
	wt := p.waiters[0]
	if !wt.Bare || now-max(wt.Since, wt.roomAt) < patience {
		return false
	}
	wt.roomAt = now
	return true
}

// Prove says that the bare waiters which which selects are who they say they are, so that
// any backend of their pool may serve them.
func (s *Shelf) Prove(which func(*Waiter) bool, now time.Duration) {
	for _, p := range slices.Clone(s.queues) {
		for _, wt := range p.waiters {
			wt.Bare = wt.Bare && !which(wt)
		}
		for n := len(p.idle); n > 0 && p.next(p.idle[len(p.idle)-1]) != nil; n-- {
			b := p.idle[len(p.idle)-1]
			s.Unshelve(b)
			s.Put(b, false, now)
		}
	}
}
