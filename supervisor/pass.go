package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A retired worker hands its sessions over to the worker that has its place. Each goes through the
// supervisor, which moves its client and its lease in the same call. So a client and a backend belong to
// exactly one worker at any time, and to none while nobody has them: a fence finds a backend at the
// worker that has its lease, and what is on its way is cut here (onSessionOut).
//
// The old worker may send passWindow sessions more than the new one has taken, so that no queue
// fills up. If the new worker dies, the old one waits for the next. If there is none at the
// moment, a session that is already on its way goes back.

const (
	// passWindow is how many sessions may be on their way from one worker to another.
	passWindow = 64
	// partGrace is how long transactions of a retired worker may take to end when its time is
	// over.
	partGrace = 10 * time.Second
)

// passage counts the sessions that a retired worker hands over.
type passage struct {
	moved uint64 // so far
	out   uint64 // of these, sessions that the next worker hasn't taken yet
	until uint64 // how many it was allowed to hand over
	leave bool
}

// heirOf returns the worker that has the place of a retired one, nil if there is none that is
// ready.
func (s *supervisor) heirOf(c *child) *child {
	place := s.workers.slots[c.index].place
	for _, sl := range s.workers.slots {
		if sl.place == place && sl.retired == nil && sl.child != nil && sl.child.state == childReady {
			return sl.child
		}
	}
	return nil
}

// passFurther lets a retired worker hand more over, or has it wait if nobody takes it.
func (s *supervisor) passFurther(c *child) {
	sl := s.workers.slots[c.index]
	if sl.retired == nil || c.state != childReady || c.leaving {
		return
	}
	p := &sl.retired.pass
	until := p.moved - p.out + passWindow
	if s.heirOf(c) == nil {
		until = 0
	}
	if until == 0 && p.until > 0 || until >= p.until+passWindow/2 {
		s.sendPass(c, until)
	}
}

func (s *supervisor) sendPass(c *child, until uint64) {
	p := &s.workers.slots[c.index].retired.pass
	p.until = until
	s.send(c, &ipc.Pass{Until: until, Leave: p.leave})
}

// passAgain is passFurther for all workers whose place it is.
func (s *supervisor) passAgain(place int) {
	for _, sl := range s.workers.slots {
		if sl.place == place && sl.child != nil {
			s.passFurther(sl.child)
		}
	}
}

// onSessionOut gives a session to the worker that has the place of its worker.
func (s *supervisor) onSessionOut(c *child, m *ipc.SessionOut, fds []int) {
	if wrong := s.claimOfSessionOut(c, m, len(fds)); wrong != "" {
		abort(fds)
		s.violation(c, wrong)
		return
	}
	p := &s.workers.slots[c.index].retired.pass
	p.moved++
	delete(c.clients, m.Client)
	if len(fds) == 0 { // there was no free descriptor for it, so its connections are closed
		s.clients.left(m.Client)
		s.returnPassed(c, m.Lease)
		s.checkRetired(c)
		return
	}
	to := s.heirOf(c)
	if to == nil {
		to = c
	}
	in := &ipc.SessionIn{Client: m.Client, Lease: m.Lease, Backend: m.Backend, State: m.State, Mapped: m.Mapped}
	in.Backend.Flushed = in.Backend.Flushed || m.Lease != 0 && s.flushesMoving(c, m.Backend.Key.Database)
	p.out++
	s.giveSession(c, to, in, fds, p)
	s.checkRetired(c)
}

// giveSession moves a session, with its client and its lease, from one worker to another. The worker that
// had it may be dead.
func (s *supervisor) giveSession(from, to *child, in *ipc.SessionIn, fds []int, p *passage) {
	if s.calm.round != nil { // to may have counted its transactions already
		s.calm.busy++
	}
	to.drained = false
	var effects []pool.Effect
	if held, ok := s.ledger.Lease(in.Lease); ok && in.Lease != 0 {
		var err error
		if s.fenced(held.Epoch) || !s.isAtItsServer(from, &held, fds[1]) {
			abort(fds[1:2])
			fds = append(fds[:1:1], fds[2:]...)
			in.Lease, in.Cut = 0, true
			effects, err = s.ledger.Return(from.index, held.ID)
		} else {
			in.Lease, effects, err = s.ledger.Pass(from.index, held.ID, to.index)
		}
		if err != nil { // claimOfSessionOut has made sure that it holds the lease
			s.log.Error("lease of a session can't be moved", "error", err)
		}
	}
	to.clients[in.Client] = true
	s.cancels.moved++
	if s.clients.taking == nil {
		s.clients.taking = map[uint64]*passage{}
	}
	s.clients.taking[in.Client] = p
	s.log.Debug("session changes its worker", "client", in.Client, "from", from.index, "to", to.index)
	s.send(to, in, fds...)
	for range fds {
		s.takenOff(to)
	}
	s.carryOut(effects)
}

// returnPassed returns the lease of a session that was lost on the way to the supervisor.
func (s *supervisor) returnPassed(c *child, lease uint64) {
	if lease == 0 {
		return
	}
	effects, err := s.ledger.Return(c.index, lease)
	if err != nil {
		s.violation(c, err.Error())
		return
	}
	s.carryOut(effects)
}

// claimOfSessionOut checks a session that a worker hands over.
func (s *supervisor) claimOfSessionOut(c *child, m *ipc.SessionOut, fds int) string {
	want := 1
	if m.Lease != 0 {
		want++
	}
	if m.Mapped != 0 {
		want++
	}
	sl := s.workers.slots[c.index]
	switch {
	case sl.retired == nil:
		return "it hands a session over that nobody asks for"
	case !c.clients[m.Client]:
		return "it hands a client over that it doesn't have"
	case fds != 0 && fds != want:
		return "it hands a session over with other descriptors than it says"
	case m.Mapped < 0 || m.Mapped > ipc.MaxSessionState:
		return "it hands a session over that is larger than any"
	case m.Lease == 0:
		return ""
	}
	held, ok := s.ledger.Lease(m.Lease)
	if !ok || held.Worker != c.index {
		return "it hands a backend over that it doesn't have"
	}
	return s.claimOfBackend(&held, &m.Backend)
}

// onSessionTaken lets the worker that has handed the session over send the next.
func (s *supervisor) onSessionTaken(c *child, m *ipc.SessionTaken) {
	if !c.clients[m.Client] || s.clients.taking[m.Client] == nil {
		s.violation(c, "it takes a session that it wasn't given")
		return
	}
	s.clients.taken(m.Client)
	s.passAgain(s.workers.slots[c.index].place)
}

// taken notes that a session isn't on its way any more.
func (x *clients) taken(id uint64) {
	if p := x.taking[id]; p != nil {
		p.out--
		delete(x.taking, id)
	}
}

// onPassed takes the report that a worker has tried to hand every session over.
func (s *supervisor) onPassed(c *child, m *ipc.Passed) {
	sl := s.workers.slots[c.index]
	if sl.retired == nil || m.Encrypted < 0 || m.Other < 0 || m.Encrypted+m.Other > len(c.clients) {
		s.violation(c, "it reports sessions that it doesn't have")
		return
	}
	s.log.Info("worker has handed its sessions over", "worker", c.index, "moved", sl.retired.pass.moved,
		"encrypted", m.Encrypted, "busy", m.Other)
	s.recyclePassed(c, m.Encrypted+m.Other)
}

// rescueSession gives a session that a dead worker hasn't read from its link to another worker. It returns
// false if there is none.
func (s *supervisor) rescueSession(c *child, m *ipc.SessionIn, fds []int) bool {
	p := s.clients.taking[m.Client]
	to := s.anyOther(c)
	if to == nil || p == nil || len(fds) == 0 || !c.clients[m.Client] {
		return false
	}
	delete(c.clients, m.Client)
	s.giveSession(c, to, m, fds, p)
	return true
}

// anyOther returns a worker that can continue sessions: one that gets clients, or else a retired
// one.
func (s *supervisor) anyOther(c *child) *child {
	if to := s.leastLoaded(); to != nil {
		return to
	}
	var other *child
	s.ready(func(x *child) {
		if x != c && !x.drained && !x.leaving {
			other = x
		}
	})
	return other
}
