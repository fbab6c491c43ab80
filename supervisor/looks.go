package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// lookGrace is how much longer than the time-out of its request the prober may
	// take. One that takes longer hangs.
	lookGrace = time.Second
	// maxLooksWaiting is how many requests may wait for a prober.
	maxLooksWaiting = 1024
)

// look is a request to the prober.
type look struct {
	id      uint64
	request ipc.Message
	timeout time.Duration // of the prober for this
	started time.Duration // when it was sent, or asked for if it never was
	sent    bool
	limit   *timer
	done    func(answer ipc.Message, err error)
}

// looks are the requests to the prober, of whichever process it is.
type looks struct {
	nextID  uint64
	sent    map[uint64]*look // not answered yet, ipc.MaxLooks at most
	waiting []*look          // for a prober that is up, or for a place in sent
}

var (
	errNoProber  = errors.New("there was no prober in time")
	errManyLooks = errors.New("too many looks wait for the prober")
)

// lookAt asks the prober; request makes the message for a number. done gets the answer,
// or an error that says nothing about the server, later and exactly once: within
// timeout and a second, or when a prober that hangs was killed.
func lookAt[T ipc.Message](s *supervisor, timeout time.Duration, request func(id uint64) ipc.Message, done func(T, error)) *look {
	x := &s.servers.prober.looks
	x.nextID++
	l := &look{id: x.nextID, request: request(x.nextID), timeout: timeout, started: s.env.now()}
	l.done = func(answer ipc.Message, err error) {
		m, _ := answer.(T) // of this type, or there is an error
		done(m, err)
	}
	if len(x.waiting) >= maxLooksWaiting {
		s.after(0, func() { l.done(nil, errManyLooks) })
		return l
	}
	l.limit = s.after(timeout+lookGrace, func() { s.lookLate(l) })
	x.waiting = append(x.waiting, l)
	s.sendLooks()
	return l
}

// sendLooks sends what waits, oldest first, as far as the prober takes it.
func (s *supervisor) sendLooks() {
	x := &s.servers.prober.looks
	for p := s.servers.prober.end; p != nil && p.up && len(x.waiting) > 0 && len(x.sent) < ipc.MaxLooks; {
		l := x.waiting[0]
		x.waiting = x.waiting[1:]
		if x.sent == nil {
			x.sent = map[uint64]*look{}
		}
		x.sent[l.id] = l
		l.sent, l.started = true, s.env.now()
		s.timers.stop(l.limit)
		l.limit = s.after(l.timeout+lookGrace, func() { s.lookLate(l) })
		s.sendProber(p, l.request)
	}
}

// lookLate is about a look without an answer in time: one that was never sent fails, and
// a prober that hangs is killed, with which all its looks fail.
func (s *supervisor) lookLate(l *look) {
	if l.sent {
		if p := s.servers.prober.end; p != nil {
			s.dropProber(p, fmt.Sprintf("%s is not answered after %v", ipc.Name(l.request.Number()), l.timeout+lookGrace))
		}
		return
	}
	s.withdrawLook(l, errNoProber)
}

// withdrawLook fails a look that waits: it is never sent, and its asker hears so later.
func (s *supervisor) withdrawLook(l *look, err error) {
	x := &s.servers.prober.looks
	for i, w := range x.waiting {
		if w == l {
			x.waiting = append(x.waiting[:i:i], x.waiting[i+1:]...)
			s.timers.stop(l.limit)
			s.after(0, func() { l.done(nil, err) })
			return
		}
	}
}

// onLookDone hands an answer to whoever has asked.
func (s *supervisor) onLookDone(p *proberEnd, id uint64, m ipc.Message) {
	l := s.servers.prober.looks.sent[id]
	if l == nil {
		s.proberBroke(p, "an answer that nobody has asked for")
		return
	}
	if row, _ := ipc.Lookup(l.request.Number()); row.Reply != m.Number() {
		s.proberBroke(p, "an answer to something else than was asked")
		return
	}
	if probe, ok := m.(*ipc.ProbeDone); ok {
		if wrong := claimOfProbe(probe); wrong != "" {
			s.proberBroke(p, wrong)
			return
		}
	}
	delete(s.servers.prober.looks.sent, id)
	s.timers.stop(l.limit)
	l.done(m, nil)
	s.sendLooks()
}

// failLooks is for the looks of a prober that has ended.
func (s *supervisor) failLooks(err error) {
	lost := s.servers.prober.looks.sent
	s.servers.prober.looks.sent = nil
	for _, l := range lost {
		s.timers.stop(l.limit)
		l.done(nil, err)
	}
}
