package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// A worker retires when another process has taken its place: after an upgrade, or when the
// worker itself is to be replaced. It gets no new client and no new configuration. It hands
// the sessions that it has over to the worker in its place (pass.go), as soon as they are at rest,
// and keeps the others. It ends when the last one has gone, or when its time is over;
// clients that are still there are then told that pgagroal is shutting down, those that are in
// a transaction a little later.

// retirement is the last part of the life of a worker.
type retirement struct {
	why   string
	since time.Duration
	limit *timer // nil for no limit
	pass  passage
}

// retires reports whether the worker gets no new client any more.
func (s *supervisor) retires(c *child) bool { return s.workers.slots[c.index].retired != nil }

// stillRetired counts the retired workers that still have something.
func (s *supervisor) stillRetired() int {
	n := 0
	s.ready(func(c *child) {
		if s.retires(c) && !c.drained {
			n++
		}
	})
	return n
}

// replaceWorker starts another worker in the place of c. c retires when that one is ready,
// and serves clients as before until then.
func (s *supervisor) replaceWorker(c *child) {
	i := s.freeSlot()
	s.workers.slots[i].place = s.workers.slots[c.index].place
	s.startWorker(i)
}

// freeSlot returns the index of a slot that no worker has.
func (s *supervisor) freeSlot() int {
	for i, sl := range s.workers.slots {
		if sl.retired != nil && sl.child == nil {
			*sl = slot{}
			return i
		}
	}
	s.workers.slots = append(s.workers.slots, &slot{})
	return len(s.workers.slots) - 1
}

// retirePredecessors lets those retire whose place a worker that is ready now has taken.
func (s *supervisor) retirePredecessors(c *child) {
	for i, sl := range s.workers.slots {
		if i != c.index && sl.place == s.workers.slots[c.index].place && sl.retired == nil {
			s.retire(sl, "another worker has taken its place")
		}
	}
}

func (s *supervisor) retire(sl *slot, why string) {
	sl.retired = &retirement{why: why, since: s.env.now()}
	c := sl.child
	if c == nil {
		return // it has died, and isn't started again
	}
	s.log.Info("worker retires: it gets no new client, and ends when its last one has left", "worker", c.index, "why", why,
		"clients", len(c.clients), "limit", s.cfg.UpgradeTimeout)
	s.carryOut(s.ledger.WorkerRetires(c.index))
	if most := s.cfg.UpgradeTimeout; most > 0 {
		s.limitRetirement(c, s.env.now()+most)
	}
	s.passFurther(c)
	s.checkRetired(c)
	s.placeClients()
}

// checkRetired ends a retired worker that has no client left.
func (s *supervisor) checkRetired(c *child) {
	if c.state == childReady && s.retires(c) && len(c.clients) == 0 {
		s.drain(c)
	}
}

// limitRetirement ends the worker at that time; 0 is never.
func (s *supervisor) limitRetirement(c *child, until time.Duration) {
	if r := s.workers.slots[c.index].retired; until > 0 {
		r.limit = s.timers.at(until, func() { s.endRetirement(c, until-r.since) })
	}
}

// endRetirement ends a worker whose time is over: at once the clients that aren't in a
// transaction, and after partGrace the others.
func (s *supervisor) endRetirement(c *child, most time.Duration) {
	if c.ending() {
		return
	}
	if n := len(c.clients); n > 0 {
		s.log.Warn("clients of a retired worker are disconnected", "worker", c.index, "clients", n, "after", most)
	}
	p := &s.workers.slots[c.index].retired.pass
	p.leave = true
	s.sendPass(c, p.until)
	s.after(partGrace, func() { s.drain(c) })
}

// drain has a worker end its clients and backends, and kills it if that takes too long.
func (s *supervisor) drain(c *child) {
	if c.leaving || c.ending() {
		return
	}
	c.leaving = true
	s.send(c, &ipc.Drain{})
	s.after(drainLimit+exitLimit, func() { s.killWorker(c, "it did not end in time") })
}
