package worker

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// reclaim is the supervisor's word that somebody waits for one of our backends.
type reclaim struct {
	*ipc.Reclaim
	since time.Time // when the one who waits began to
}

// fairness is how long a client of another worker may be passed over by clients
// of ours that came later, and by at least as many as there may be backends. What
// is promised is 50 ms and twice as many; the rest is for the way of a backend.
const fairness = 40 * time.Millisecond

// onReclaim gives an idle backend up that another client needs, or remembers to
// do so at the next boundary. One of the same pool is as good as ready for it.
func (w *worker) onReclaim(m *ipc.Reclaim) {
	r := reclaim{m, time.Now().Add(-ms(m.WaitedMS))}
	w.reclaims = append(w.reclaims, r)
	if p := w.pools[m.Key]; p != nil && len(p.idle) > 0 && r.wants(p.idle[0]) {
		w.giveUp(p.idle[0], r)
		return
	}
	for _, b := range w.backends {
		if b.state == backendIdle && r.wants(b) {
			w.giveUp(b, r)
			return
		}
	}
}

func (w *worker) onReclaimCancel(m *ipc.ReclaimCancel) {
	for i := range w.reclaims {
		if w.reclaims[i].ID == m.ID {
			w.reclaims = append(w.reclaims[:i], w.reclaims[i+1:]...)
			return
		}
	}
}

// giveUp parts with an idle backend: it goes to the one who waits, or makes room
// for another.
func (w *worker) giveUp(b *backend, m reclaim) {
	if m.Key == b.pool.key {
		w.handOver(b)
		return
	}
	w.closeBackend(b)
}

// wants reports whether giving that backend up serves the one who waits. For a
// waiter of our own a backend of its own pool is given to it without that.
func (m reclaim) wants(b *backend) bool {
	return m.helps(b.lease) && !(m.Own && b.pool.key == m.Key)
}

// helps reports whether giving that lease back answers a reclaim.
func (m reclaim) helps(lease uint64) bool {
	return len(m.Leases) == 0 || slices.Contains(m.Leases, lease)
}

// reclaimed returns the first reclaim that a backend serves. It is struck out when
// the lease is returned or handed over.
func (w *worker) reclaimed(b *backend) (reclaim, bool) {
	for _, m := range w.reclaims {
		if m.wants(b) {
			return m, true
		}
	}
	return reclaim{}, false
}

// strike takes out the reclaim that is answered by giving a lease up: the first
// that names it, by the rule that the ledger counts with.
func (w *worker) strike(lease uint64) {
	for i, m := range w.reclaims {
		if m.helps(lease) {
			w.reclaims = append(w.reclaims[:i], w.reclaims[i+1:]...)
			return
		}
	}
}

// returnLease gives a lease back.
func (w *worker) returnLease(lease uint64) {
	w.strike(lease)
	w.send(&ipc.LeaseReturn{Lease: lease})
}

// owes reports whether somebody else has waited for a backend longer than the
// waiter at hand: another pool's client here, or, with some patience, another
// worker's. What the waiter's own request reclaims came after it.
func (w *worker) owes(b *backend, wt *waiter) bool {
	for _, m := range w.reclaims {
		if p := w.pools[m.Key]; p != nil && p != b.pool && len(p.waiters) > 0 && p.waiters[0].id < wt.id && m.wants(b) {
			return true
		}
		if m.since.Before(wt.since) && time.Since(m.since) >= fairness && w.helpsPool(b, m.Key) && w.passedOver(b, m) {
			return true
		}
	}
	return false
}

// helpsPool reports whether giving a backend up serves somebody of a pool. It is the
// one of them who came first then, whichever reclaim names the backend.
func (w *worker) helpsPool(b *backend, key ipc.PoolKey) bool {
	for _, m := range w.reclaims {
		if m.Key == key && m.wants(b) {
			return true
		}
	}
	return false
}

// passedOver reports whether as many clients as there may be backends came after
// the one who waits and were served before it.
func (w *worker) passedOver(b *backend, m reclaim) bool {
	after := m.since.Sub(w.born)
	if len(m.Leases) == 0 {
		return w.served.after(after) >= min(m.Size, maxServed)
	}
	return b.pool.served.after(after) >= min(m.Size, maxServed)
}

// maxServed is how many clients that were served are remembered.
const maxServed = 256

// servings are the last clients that were served, by when they came: since the
// worker was born, and later for later ones in most cases.
type servings struct {
	ring []time.Duration
	next int
}

// keep begins to remember; nobody asks before somebody waits.
func (s *servings) keep() {
	if s.ring == nil {
		s.ring = make([]time.Duration, maxServed)
		for i := range s.ring {
			s.ring[i] = -1
		}
	}
}

// note remembers a client that is being served.
func (s *servings) note(came time.Duration) {
	if s.ring != nil {
		s.ring[s.next] = came
		s.next = (s.next + 1) % len(s.ring)
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
