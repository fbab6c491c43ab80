package worker

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// While an operator pauses clients, they wait for backends as they do while no primary is
// open, but without a time limit of their own: the supervisor limits the pause. Backends end
// as soon as their clients don't need them. Of the clients that have proven nothing yet only
// some are spared their time limit, so that they can't keep out all others.

// maxSpared is how many clients that a server has to authenticate may wait for the end of a
// pause without a time limit, and as many with auth_query. They are a part of maxSetups.
const maxSpared = maxSetups / 8

// hold puts the pause of a ServerState in effect.
func (w *worker) hold() {
	all, databases := w.servers.HoldAll, w.servers.Hold
	var holds func(pool.Key) bool
	if all || len(databases) > 0 {
		holds = func(k pool.Key) bool { return w.heldDatabase(k.Database) }
	}
	w.shelf.SetHold(holds, w.now())
	w.limitWaits()
	w.carryOut()
	w.stored.resumed(w)
	if holds == nil {
		return
	}
	for _, b := range w.backends {
		if s := b.session; s != nil && b.Pool.Held() {
			s.moveAside()
		}
	}
}

// heldDatabase reports whether the clients of a database are paused.
func (w *worker) heldDatabase(name string) bool {
	return w.servers.HoldAll || slices.Contains(w.servers.Hold, name)
}

// limitWaits gives each waiter its time limit, none during a pause. Time that it has spent in a
// pause doesn't count.
func (w *worker) limitWaits() {
	spared := 0
	for _, x := range w.shelf.Waiters() {
		wt := x.Of.(*waiter)
		switch held := wt.Pool.Held(); {
		case held && (wt.session != nil || spared < maxSpared):
			if wt.session == nil {
				spared++
			}
			wt.timer.Stop()
			wt.timer, wt.paused = nil, true
		case wt.paused && !held:
			wt.paused = false
			w.startTimer(wt)
		}
	}
}

// spares reports whether a client that begins to wait has no time limit, because its pool is
// paused.
func (w *worker) spares(wt *waiter) bool {
	if !wt.Pool.Held() || wt.session != nil {
		return wt.Pool.Held()
	}
	spared := 0
	for _, x := range w.shelf.Waiters() {
		if other := x.Of.(*waiter); other.session == nil && other.paused {
			spared++
		}
	}
	return spared < maxSpared
}

// startTimer starts the time limit of a waiter. It may have waited in another worker.
func (w *worker) startTimer(wt *waiter) {
	wt.limited = w.now() - wt.Waited
	if d := w.waitLimit(); d > 0 {
		wt.timer = w.loop.After(max(d-wt.Waited, time.Millisecond), func() { w.expire(wt) })
	}
	wt.Waited = 0
}

// hasWaited is how long a waiter has waited for what its time limit is about: without a pause before.
func (w *worker) hasWaited(wt *waiter) time.Duration {
	if wt.paused {
		return wt.Waited
	}
	return w.now() - wt.limited
}

// moveAside takes the backend from a session that isn't in a transaction and loses nothing
// with its backend. The session then waits for another one; a kept session seeks one when its client
// needs it. moveAside reports whether it did, and otherwise why a kept session can't move.
func (s *session) moveAside() (moved bool, why string) {
	if s.state != sessionActive || s.talk.Stand() != relay.Resting {
		return false, ""
	}
	loss := s.talk.Lose()
	if loss.Fate != relay.Waits && loss.Fate != relay.Stays {
		return false, loss.Why
	}
	s.w.closeBackend(s.backend)
	s.detach()
	if loss.Fate == relay.Waits {
		s.seek()
	} else {
		s.listen()
	}
	return true, ""
}
