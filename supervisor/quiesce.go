package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// quiesceLimit is how long workers have to count their transactions.
const quiesceLimit = 500 * time.Millisecond

// calm is the question to all workers whether transactions run, for a planned
// switchover. The machine asks again after each answer, so there is one at a time.
type calm struct {
	id      uint64
	epoch   uint64
	waiting map[*child]bool
	busy    int
	limit   *timer
}

// quiesce asks all workers, to be answered by Quiesced. A question under way is
// given up for it.
func (s *supervisor) quiesce(a failover.Quiesce) {
	q := &s.calm
	s.timers.stop(q.limit)
	q.id++
	q.epoch, q.busy, q.waiting = a.Epoch, 0, map[*child]bool{}
	s.ready(func(c *child) { q.waiting[c] = true })
	for c := range q.waiting {
		s.send(c, &ipc.Quiesce{ID: q.id, Epoch: q.epoch})
	}
	q.limit = s.after(quiesceLimit, s.endQuiesce)
	if len(q.waiting) == 0 {
		s.endQuiesce()
	}
}

func (s *supervisor) onQuiesced(c *child, m *ipc.Quiesced) {
	q := &s.calm
	if m.ID != q.id || !q.waiting[c] {
		return
	}
	if m.Busy < 0 {
		s.violation(c, "a number of transactions below nothing")
		return
	}
	q.busy += m.Busy
	s.quietWithout(c)
}

// quietWithout goes on without a worker that has answered, or is dead.
func (s *supervisor) quietWithout(c *child) {
	if s.calm.waiting[c] {
		delete(s.calm.waiting, c)
		if len(s.calm.waiting) == 0 {
			s.endQuiesce()
		}
	}
}

// endQuiesce answers the machine. A worker that is late counts as busy.
func (s *supervisor) endQuiesce() {
	q := &s.calm
	s.timers.stop(q.limit)
	busy := q.busy + len(q.waiting)
	q.waiting = nil
	s.feed(failover.Quiesced{Epoch: q.epoch, Busy: busy})
}
