package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// restAfter is how long a kept session must have been idle before rests is called.
const restAfter = time.Second

// rests is called every second or so while a session is idle. A kept session whose backend is too
// old gets another one, and the server is asked what it has left on its backend, once in an idle period.
func (s *session) rests() {
	b := s.backend
	if b == nil || !s.kept() {
		return
	}
	if s.w.shelf.Replaced(&b.shelved, s.w.now()) {
		if moved, _ := s.moveAside(); moved {
			return
		}
	}
	s.witness()
}

// witness asks the server what an idle session has left there. Until it has answered, the client
// isn't read. If it can't be asked, nothing is concluded from that.
func (s *session) witness() {
	k, ok := s.talk.(*relay.Kept)
	b := s.backend
	if !ok || b.cancel != nil || s.w.passing.on || k.Stand() != relay.Resting {
		return
	}
	queries := k.Witness()
	if queries == nil {
		return
	}
	s.state, b.state = sessionRestoring, backendAdapting
	s.client.Watch()
	sc := &script{down: relay.RowScanner(), want: pgwire.TxIdle}
	sc.done = func(failed []byte) {
		if failed == nil {
			k.Witnessed(sc.row)
		}
		b.state, s.state = backendAttached, sessionActive
		s.listen()
		s.boundary(s.talk.Stand())
	}
	b.send(sc, scriptLimit, queries, func() { b.tooLate(queries[0]) })
}
