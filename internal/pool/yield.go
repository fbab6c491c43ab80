package pool

import (
	"slices"
	"time"
)

// fairness is how long a client of another worker may wait while later clients of this
// worker are served, if those are at least as many as there may be backends. The documented
// promise is 50 ms and twice as many clients; the difference leaves time to move a backend.
const fairness = 40 * time.Millisecond

// Reclaim accepts the Ledger's request to give up a backend: an idle one now, or else the
// next that is put back. It prefers an idle backend of the waiting client's pool, because
// the client can use it at once. Of the backends of other pools it gives up the one that
// has been idle longest.
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

// giveUp gives up a backend: it goes to the waiting client, or is closed to make room
// for another.
func (s *Shelf) giveUp(b *Backend, r *Reclaim) {
	s.Unshelve(b)
	if r.Key == b.Pool.Key {
		s.act(Act{Do: HandOver, Backend: b})
		return
	}
	s.act(Act{Do: Close, Backend: b, Reason: EvictForOther})
}

// wants reports whether it serves the reclaim's client to give up this backend. A client of
// this worker gets backends of its own pool without a reclaim.
func (r *Reclaim) wants(b *Backend) bool {
	return r.helps(b.Lease) && !(r.Own && b.Pool.Key == r.Key)
}

// helps reports whether the reclaim names the lease.
func (r *Reclaim) helps(lease uint64) bool {
	return len(r.Leases) == 0 || slices.Contains(r.Leases, lease)
}

// reclaimed returns the first reclaim that wants a backend. The reclaim stays until the
// lease is returned or handed over.
func (s *Shelf) reclaimed(b *Backend) (Reclaim, bool) {
	for i := range s.reclaims {
		if s.reclaims[i].wants(b) {
			return s.reclaims[i], true
		}
	}
	return Reclaim{}, false
}

// Returned removes the reclaim that is answered by giving up a lease: the first that names
// the lease, as in the Ledger.
func (s *Shelf) Returned(lease uint64) {
	for i := range s.reclaims {
		if s.reclaims[i].helps(lease) {
			s.reclaims = slices.Delete(s.reclaims, i, i+1)
			return
		}
	}
}

// owes reports whether another client must get the backend before wt: a client of another
// pool of this worker that arrived earlier, or a client of another worker that arrived
// earlier and was passed over for too long. A reclaim for wt's own request doesn't count,
// because it can't be older than wt.
func (s *Shelf) owes(b *Backend, wt *Waiter, now time.Duration) bool {
	for i := range s.reclaims {
		r := &s.reclaims[i]
		if p := s.pools[r.Key]; p != nil && p != b.Pool && len(p.waiters) > 0 && p.waiters[0].before(wt) && r.wants(b) {
			return true
		}
		if r.Since < wt.Since && now-r.Since >= fairness && s.helpsPool(b, r.Key) && s.passedOver(b, r) {
			return true
		}
	}
	return false
}

// before reports whether wt arrived earlier than o. One that has moved here arrived when it came to the other worker;
// its id is that of its place here.
func (wt *Waiter) before(o *Waiter) bool {
	return wt.Since < o.Since || wt.Since == o.Since && wt.id < o.id
}

// helpsPool reports whether it serves a client of the pool key to give up a backend.
// Whichever reclaim names the backend, the Ledger then serves the client of that pool that
// arrived first.
func (s *Shelf) helpsPool(b *Backend, key Key) bool {
	for i := range s.reclaims {
		if r := &s.reclaims[i]; r.Key == key && r.wants(b) {
			return true
		}
	}
	return false
}

// passedOver reports whether the reclaim's client was passed over by as many clients as
// there may be backends: they arrived later but were served earlier.
func (s *Shelf) passedOver(b *Backend, r *Reclaim) bool {
	if len(r.Leases) == 0 {
		return s.served.after(r.Since) >= min(r.Size, maxServed)
	}
	return b.Pool.served.after(r.Since) >= min(r.Size, maxServed)
}

// maxServed is how many of the last served clients are remembered.
const maxServed = 256

// servings has the arrival times of the last served clients.
type servings struct {
	ring []time.Duration
	next int
}

// keep starts to record. It is called when the first client has to wait.
func (s *servings) keep() {
	if s.ring == nil {
		s.ring = make([]time.Duration, 0, maxServed)
	}
}

// note records the arrival of a client that is being served.
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

// after counts the remembered clients that arrived after t.
func (s *servings) after(t time.Duration) int {
	n := 0
	for _, came := range s.ring {
		if came > t {
			n++
		}
	}
	return n
}
