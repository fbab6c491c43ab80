package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// lookGrace is how much longer than the time-out of its request the prober may
	// take. A prober that takes longer hangs.
	lookGrace = time.Second
	// maxLooksWaiting is how many requests may wait for a prober.
	maxLooksWaiting = 1024
)

// look is a request to the prober.
type look struct {
	id      uint64
	request ipc.Message
	timeout time.Duration // the prober's time limit for the request
	started time.Duration // when it was sent; until then, when it was asked for
	sent    bool
	limit   *timer
	done    func(answer ipc.Message, err error)
}

// looks are the requests to the prober. Those that wait outlive a process of the prober.
type looks struct {
	nextID  uint64
	sent    map[uint64]*look // not answered yet, ipc.MaxLooks at most
	waiting []*look          // for a prober that is up, or for a place in sent
}

var (
	errNoProber  = errors.New("there was no prober in time")
	errManyLooks = errors.New("too many looks wait for the prober")
)

// lookAt asks the prober; request makes the message with the given id. done is called
// later and exactly once, with the answer or with an error that says nothing about the
// server. A look waits at most timeout + lookGrace until it is sent, and then as long for
// its answer; after that the prober is killed.
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

// sendLooks sends the looks that wait, oldest first, until the prober has as many as it
// takes.
func (s *supervisor) sendLooks() {
	x := &s.servers.prober.looks
	for p := s.servers.prober.end; p != nil && p.up && len(x.waiting) > 0 && len(x.sent) < ipc.MaxLooks; {
		l := x.waiting[0]
		x.waiting = x.waiting[1:]
		if err := s.mayLookUp(l.request); err != nil {
			s.timers.stop(l.limit)
			s.after(0, func() { l.done(nil, err) })
			continue
		}
		if x.sent == nil {
			x.sent = map[uint64]*look{}
		}
		x.sent[l.id] = l
		l.sent, l.started = true, s.env.now()
		s.timers.stop(l.limit)
		l.limit = s.after(l.timeout+lookGrace, func() { s.lookLate(l) })
		s.sendAide(p, l.request)
	}
}

// repeatLooks has the next prober do what the last one, which did nothing wrong, has left
// undone. A cancel request isn't repeated: it could meet another query.
func (s *supervisor) repeatLooks() {
	x := &s.servers.prober.looks
	var again []*look
	for _, id := range slices.Sorted(maps.Keys(x.sent)) {
		l := x.sent[id]
		if _, once := l.request.(*ipc.ServerCancel); once {
			continue
		}
		delete(x.sent, id)
		l.sent, l.started = false, s.env.now()
		s.timers.stop(l.limit)
		l.limit = s.after(l.timeout+lookGrace, func() { s.lookLate(l) })
		again = append(again, l)
	}
	x.waiting = append(again, x.waiting...)
}

// lookLate handles a look that has no answer in time. If it was never sent, it fails. If
// it was sent, the prober hangs and is killed, and all its looks fail.
func (s *supervisor) lookLate(l *look) {
	if l.sent {
		if p := s.servers.prober.end; p != nil {
			s.dropAide(p, fmt.Sprintf("%s is not answered after %v", ipc.Name(l.request.Number()), l.timeout+lookGrace))
		}
		return
	}
	s.withdrawLook(l, errNoProber)
}

// withdrawLook fails a look that still waits, so that it is never sent. done is called
// later.
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

// onLookDone hands an answer to the look that it belongs to.
func (s *supervisor) onLookDone(p *aideEnd, id uint64, m ipc.Message) {
	l := s.servers.prober.looks.sent[id]
	if l == nil {
		s.aideBroke(p, "an answer that nobody has asked for")
		return
	}
	if row, _ := ipc.Lookup(l.request.Number()); row.Reply != m.Number() {
		s.aideBroke(p, "an answer to something else than was asked")
		return
	}
	if probe, ok := m.(*ipc.ProbeDone); ok {
		if wrong := claimOfProbe(probe); wrong != "" {
			s.aideBroke(p, wrong)
			return
		}
		s.console.figures.logged.add(&p.logged, probe.Logged)
	}
	delete(s.servers.prober.looks.sent, id)
	s.timers.stop(l.limit)
	l.done(m, nil)
	s.sendLooks()
}

// failLooks fails the looks that a prober which has ended has not answered.
func (s *supervisor) failLooks(err error) {
	lost := s.servers.prober.looks.sent
	s.servers.prober.looks.sent = nil
	for _, l := range lost {
		s.timers.stop(l.limit)
		l.done(nil, err)
	}
}
