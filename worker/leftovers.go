package worker

import "time"

// A client of the transaction pipeline may leave things on a backend, for example a lock
// or a temporary table. They are removed when another client gets the backend (cleanse).
// Until then they may block other clients, so they don't stay on an idle backend for long:
//
//   - not after their client has left (disown);
//   - not longer than leftoverLimit, even if this worker has no other client: a client of
//     another worker may wait for the lock, and no worker can see that.

const leftoverLimit = 5 * time.Second

// soiled reports whether a backend has leftovers that the reset query removes.
func (b *backend) soiled() bool {
	return (b.Dirty || b.Sequences) && len(b.w.cfg.reset) > 0
}

// watchLeftovers handles a backend that has just been shelved.
func (w *worker) watchLeftovers(b *backend) {
	switch {
	case !b.soiled() || !b.Idle():
	case w.clients[b.DirtyBy] == nil:
		w.removeLeftovers(b)
	case b.Dirty && b.leftovers == nil:
		b.leftovers = w.loop.After(leftoverLimit, func() { w.reviewLeftovers(b) })
	}
}

// reviewLeftovers removes the leftovers of a backend that has been idle for too long.
func (w *worker) reviewLeftovers(b *backend) {
	b.leftovers = nil
	if b.state == backendClosed || !b.Dirty {
		return
	}
	if idle := w.loop.Now().Sub(b.since); b.Idle() && idle >= leftoverLimit {
		w.removeLeftovers(b)
		return
	}
	b.leftovers = w.loop.After(leftoverLimit, func() { w.reviewLeftovers(b) })
}

// removeLeftovers takes an idle backend off the shelf and resets it.
func (w *worker) removeLeftovers(b *backend) {
	if !b.soiled() {
		return // a new configuration has no reset query
	}
	w.shelf.Unshelve(&b.shelved)
	w.reset(b, true)
}

// disown removes the leftovers of a client that is gone from idle backends.
func (w *worker) disown(client uint64) {
	for _, b := range w.backends {
		if b.DirtyBy == client && b.Idle() && b.soiled() {
			w.removeLeftovers(b)
		}
	}
}
