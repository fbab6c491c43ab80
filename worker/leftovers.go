package worker

import "time"

// What a client of the transaction pipeline has left on a backend, a lock or a
// temporary table for example, is removed when another client gets the backend
// (cleanse). Until then it may block other clients, so it doesn't stay on an idle
// backend for long:
//
//   - not after its client has left (disown);
//   - not longer than leftoverLimit, even while its client is the only one of this worker: a
//     client of another worker may wait for the lock, and no worker can see that.

const leftoverLimit = 5 * time.Second

// soiled reports whether a backend has something that the reset query would remove.
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

// reviewLeftovers removes what has been on an idle backend for too long.
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
		return // the reset query was taken out of the configuration
	}
	w.shelf.Unshelve(&b.shelved)
	w.reset(b, true)
}

// disown removes what a client has left that is gone.
func (w *worker) disown(client uint64) {
	for _, b := range w.backends {
		if b.DirtyBy == client && b.Idle() && b.soiled() {
			w.removeLeftovers(b)
		}
	}
}
