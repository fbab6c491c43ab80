package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// Limits of cancel requests that one worker passes on to the others.
const (
	maxCancels  = 1024
	cancelsStay = 5 * time.Second
)

// cancels are the cancel requests whose session is looked for.
type cancels struct {
	nextID  uint64
	pending map[uint64]*cancel
	// orphans are those that we send ourselves, see cancelOrphan.
	orphans map[*orphanCancel]bool
}

// cancel is one of them.
type cancel struct {
	from    *child
	id      uint64          // the worker's
	waiting map[*child]bool // asked, not answered
	limit   *timer
}

// onCancelRequest asks all other workers. A cancel request is never answered to
// the client, so one too many is just ended.
func (s *supervisor) onCancelRequest(c *child, m *ipc.CancelRequest) {
	x := &cancel{from: c, id: m.ID, waiting: map[*child]bool{}}
	if len(s.cancels.pending) < maxCancels {
		s.ready(func(other *child) {
			if other != c {
				x.waiting[other] = true
			}
		})
	}
	if len(x.waiting) == 0 {
		s.send(c, &ipc.CancelDone{ID: m.ID})
		return
	}
	s.cancels.nextID++
	id := s.cancels.nextID
	if s.cancels.pending == nil {
		s.cancels.pending = map[uint64]*cancel{}
	}
	s.cancels.pending[id] = x
	x.limit = s.after(cancelsStay, func() { s.endCancel(id, x) })
	for other := range x.waiting {
		s.send(other, &ipc.CancelForward{ID: id, PID: m.PID, Key: m.Key})
	}
}

func (s *supervisor) onCancelAnswer(c *child, m *ipc.CancelAnswer) {
	x := s.cancels.pending[m.ID]
	if x == nil || !x.waiting[c] {
		return // late
	}
	delete(x.waiting, c)
	if m.Found || len(x.waiting) == 0 {
		s.endCancel(m.ID, x)
	}
}

func (s *supervisor) endCancel(id uint64, x *cancel) {
	delete(s.cancels.pending, id)
	s.timers.stop(x.limit)
	if x.from.state == childReady {
		s.send(x.from, &ipc.CancelDone{ID: x.id})
	}
}

// cancelsWithout takes a dead worker for one that has answered.
func (s *supervisor) cancelsWithout(c *child) {
	for id, x := range s.cancels.pending {
		delete(x.waiting, c)
		if x.from == c || len(x.waiting) == 0 {
			s.endCancel(id, x)
		}
	}
}
