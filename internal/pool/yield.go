package pool

import (
	"slices"
	"time"
)

// fairness is how long a client of another worker may be passed over by clients
// of this one that came later, and by at least as many as there may be backends. What
// is promised is 50 ms and twice as many; the rest is for the way of a backend.
const fairness = 40 * time.Millisecond

// Reclaim takes the Ledger's word that somebody waits for a backend of this worker:
// an idle one is given up, else the next that is put back. One of the same pool is as
// good as ready for the one who waits; of others that one goes that was idle longest.
func (s *Shelf) Reclaim(r Reclaim) {
	s.reclaims = append(s.reclaims, r)
	if p := s.pools[r.Key]; p != nil && len(p.idle) > 0 && r.wants(p.idle[0]) {
		s.giveUp(p.idle[0], &r)
		return
	}
	var oldest *Backend
	for _, p := range s.pools {
		for _, b := range p.idle {
			if r.wants(b) && (oldest == nil || b.since < oldest.since || b.since == oldest.since && b.Lease < oldest.Lease) {
				oldest = b
			}
		}
	}
	if oldest != nil {
		s.giveUp(oldest, &r)
	}
}

// ReclaimCancel withdraws a Reclaim.
func (s *Shelf) ReclaimCancel(id uint64) {
	s.reclaims = slices.DeleteFunc(s.reclaims, func(r Reclaim) bool { return r.ID == id })
}

// Reclaims returns how many reclaims wait for a backend to be given up.
func (s *Shelf) Reclaims() int { return len(s.reclaims) }

// giveUp parts with a backend: it goes to the one who waits, or makes room for
// another.
func (s *Shelf) giveUp(b *Backend, r *Reclaim) {
	s.Unshelve(b)
	if r.Key == b.Pool.Key {
		s.act(Act{Do: HandOver, Backend: b})
		return
	}
	s.act(Act{Do: Close, Backend: b, Reason: EvictForOther})
}

// wants reports whether giving that backend up serves the one who waits. For a
// waiter of this worker a backend of its own pool is given to it without that.
func (r *Reclaim) wants(b *Backend) bool {
	return r.helps(b.Lease) && !(r.Own && b.Pool.Key == r.Key)
}

// helps reports whether giving that lease back answers a reclaim.
func (r *Reclaim) helps(lease uint64) bool {
	return len(r.Leases) == 0 || slices.Contains(r.Leases, lease)
}

// reclaimed returns the first reclaim that a backend serves. It is struck out when
// the lease is returned or handed over.
func (s *Shelf) reclaimed(b *Backend) (Reclaim, bool) {
	for i := range s.reclaims {
		if s.reclaims[i].wants(b) {
			return s.reclaims[i], true
		}
	}
	return Reclaim{}, false
}

// Returned strikes out the reclaim that is answered by giving a lease up: the first
// that names it, by the rule that the Ledger counts with.
func (s *Shelf) Returned(lease uint64) {
	for i := range s.reclaims {
		if s.reclaims[i].helps(lease) {
			s.reclaims = slices.Delete(s.reclaims, i, i+1)
			return
		}
	}
}

// owes reports whether somebody else has waited for a backend longer than the
// waiter at hand: another pool's client here, or, with some patience, another
// worker's. What the waiter's own request reclaims came after it.
func (s *Shelf) owes(b *Backend, wt *Waiter, now time.Duration) bool {
	for i := range s.reclaims {
		r := &s.reclaims[i]
		if p := s.pools[r.Key]; p != nil && p != b.Pool && len(p.waiters) > 0 && p.waiters[0].id < wt.id && r.wants(b) {
			return true
		}
		if r.Since < wt.Since && now-r.Since >= fairness && s.helpsPool(b, r.Key) && s.passedOver(b, r) {
			return true
		}
	}
	return false
}

// helpsPool reports whether giving a backend up serves somebody of a pool. It is the
// one of them who came first then, whichever reclaim names the backend.
func (s *Shelf) helpsPool(b *Backend, key Key) bool {
	for i := range s.reclaims {
		if r := &s.reclaims[i]; r.Key == key && r.wants(b) {
			return true
		}
	}
	return false
}

// passedOver reports whether as many clients as there may be backends came after
// the one who waits and were served before it.
func (s *Shelf) passedOver(b *Backend, r *Reclaim) bool {
	if len(r.Leases) == 0 {
		return s.served.after(r.Since) >= min(r.Size, maxServed)
	}
	return b.Pool.served.after(r.Since) >= min(r.Size, maxServed)
}

// maxServed is how many clients that were served are remembered.
const maxServed = 256

// servings are the last clients that were served, by when they came: later for later
// ones in most cases.
type servings struct {
	ring []time.Duration
	next int
}

// keep begins to remember; nobody asks before somebody waits.
func (s *servings) keep() {
	if s.ring == nil {
		s.ring = make([]time.Duration, 0, maxServed)
	}
}

// note remembers a client that is being served.
func (s *servings) note(came time.Duration) {
	switch {
	case s.ring == nil:
	case len(s.ring) < maxServed:
		s.ring = append(s.ring, came)
	default:
		s.ring[s.next] = came
		s.next = (s.next + 1) % maxServed
	}
}

// after counts those of the last maxServed clients that came after a time.
func (s *servings) after(t time.Duration) int {
	n := 0
	for _, came := range s.ring {
		if came > t {
			n++
		}
	}
	return n
}
