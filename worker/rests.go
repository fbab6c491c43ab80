package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// restAfter is how long a kept session must have been idle before rests is called.
const restAfter = time.Second

// asksEach is how many sessions the server is asked about after one look around. The others follow after the next.
const asksEach = 50

// rests is called every second or so while a session is idle. The server is asked what a kept session has
// left on its backend, once in an idle period. Then one whose backend is too old gets another one.
func (s *session) rests() {
	b := s.backend
	if b == nil || !s.kept() {
		return
	}
	s.witness()
	if s.mayReplace() && s.w.shelf.Replaced(&b.shelved, s.w.now()) {
		s.moveAside()
	}
}

// mayReplace reports whether a session may go on on another backend only because that is convenient: it is
// kept, and the server needn't be asked first.
func (s *session) mayReplace() bool {
	k, ok := s.talk.(*relay.Kept)
	return ok && s.state == sessionActive && s.kept() && !k.Unseen()
}

// witness asks the server what an idle session has left there. Until it has answered, the client
// isn't read.
func (s *session) witness() {
	k, ok := s.talk.(*relay.Kept)
	b := s.backend
	if !ok || b.cancel != nil || s.w.passing.on || k.Stand() != relay.Resting {
		return
	}
	if s.w.timers.asks >= asksEach {
		return
	}
	queries := k.Witness()
	if queries == nil {
		return
	}
	s.w.timers.asks++
	known := b.Params.Tracked()
	s.state, b.state = sessionRestoring, backendAdapting
	s.client.Watch()
	sc := &script{down: relay.RowScanner(), want: pgwire.TxIdle}
	sc.done = func(failed []byte) {
		k.Witnessed(sc.row, failed == nil)
		b.state, s.state = backendAttached, sessionActive
		s.client.Send(b.Params.AppendChanges(nil, known)) // the server may have read its configuration again
		s.listen()
		s.boundary(s.talk.Stand())
	}
	b.send(sc, scriptLimit, queries, func() { b.tooLate(queries[0]) })
}
