package supervisor

import (
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Limits of cancel requests that one worker passes on to the others.
const (
	maxCancels  = 1024
	cancelsStay = 5 * time.Second
)

// cancels are the cancel requests in progress.
type cancels struct {
	// pending are requests of clients whose session another worker may have. Each is a
	// round, by its id.
	pending map[uint64]*round
	// moved counts the sessions that have changed their worker.
	moved uint64
	// orphans are the cancel requests that the supervisor itself sends, see
	// cancelOrphans. queued are the orphans that wait for their turn.
	queued  []pool.Orphan
	orphans map[*orphanCancel]bool
}

// onCancelRequest asks all other workers for the session, or none if there are too many
// requests: a client can't tell, because it never gets an answer to a cancel request.
func (s *supervisor) onCancelRequest(c *child, m *ipc.CancelRequest) {
	if len(m.Key) > maxSecret {
		s.violation(c, "a cancel key that no client was given")
		return
	}
	var others []*child
	if len(s.cancels.pending) < maxCancels && s.cancelsOf(c) < len(c.clients) {
		others = slices.DeleteFunc(s.everyReady(), func(x *child) bool { return x == c })
	}
	s.forwardCancel(c, m, others, true)
}

// forwardCancel asks workers for the session. If none has it, and a session has changed its worker
// meanwhile, it may have been that one: then it asks all of them again, once.
func (s *supervisor) forwardCancel(c *child, m *ipc.CancelRequest, workers []*child, again bool) {
	var r *round
	moved := s.cancels.moved
	r = s.newRound(cancelsStay, func() {
		delete(s.cancels.pending, r.id)
		switch {
		case c.state != childReady:
		case again && !r.found && s.cancels.moved != moved:
			s.forwardCancel(c, m, s.everyReady(), false)
		default:
			s.send(c, &ipc.CancelDone{ID: m.ID})
		}
	})
	r.asker = c
	if s.cancels.pending == nil {
		s.cancels.pending = map[uint64]*round{}
	}
	s.cancels.pending[r.id] = r
	s.ask(r, workers, &ipc.CancelForward{ID: r.id, PID: m.PID, Key: m.Key})
}

// cancelsOf returns how many cancel requests of a worker are in progress.
func (s *supervisor) cancelsOf(c *child) int {
	n := 0
	for _, r := range s.cancels.pending {
		if r.asker == c {
			n++
		}
	}
	return n
}

// onCancelAnswer ends the round at once when a worker has found the session.
func (s *supervisor) onCancelAnswer(c *child, m *ipc.CancelAnswer) {
	r := s.cancels.pending[m.ID]
	switch {
	case !r.awaits(c): // late
	case m.Found:
		r.found = true
		s.endRound(r)
	default:
		s.answered(r, c)
	}
}
