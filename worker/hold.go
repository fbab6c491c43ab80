package worker

import (
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// While an operator pauses clients, they wait for backends as they do while no primary is
// open, but without a time limit of their own: the supervisor limits the pause. Backends end
// as soon as their clients don't need them.

// hold puts the pause of a ServerState in effect.
func (w *worker) hold() {
	all, databases := w.servers.HoldAll, w.servers.Hold
	var holds func(pool.Key) bool
	if all || len(databases) > 0 {
		holds = func(k pool.Key) bool { return all || slices.Contains(databases, k.Database) }
	}
	w.shelf.SetHold(holds, w.now())
	for _, x := range w.shelf.Waiters() {
		w.limitWait(x.Of.(*waiter))
	}
	w.carryOut()
	if holds == nil {
		return
	}
	for _, b := range w.backends {
		if s := b.session; s != nil && b.Pool.Held() {
			s.moveAside()
		}
	}
}

// limitWait gives a waiter its time limit, none during a pause. Time that it has spent in a
// pause doesn't count.
func (w *worker) limitWait(wt *waiter) {
	switch {
	case wt.Pool.Held():
		wt.timer.Stop()
		wt.timer, wt.paused = nil, true
	case wt.paused:
		wt.paused = false
		w.startTimer(wt)
	}
}

// startTimer starts the time limit of a waiter.
func (w *worker) startTimer(wt *waiter) {
	if d := w.waitLimit(); d > 0 {
		wt.timer = w.loop.After(d, func() { w.expire(wt) })
	}
}

// moveAside takes the backend from a session that isn't in a transaction and loses nothing
// with its backend. The session then waits for another one. It reports whether it did.
func (s *session) moveAside() bool {
	if s.state != sessionActive || s.talk.Stand() != relay.Resting || s.talk.Lose().Fate != relay.Waits {
		return false
	}
	s.w.closeBackend(s.backend)
	s.detach()
	s.seek()
	return true
}
