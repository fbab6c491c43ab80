package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// witnessAfter is how long a kept session must have been idle before the server is asked what it
// has left there. It is asked once in an idle period.
const witnessAfter = time.Second

// witness asks the server what an idle session has left there. Until it has answered, the client
// isn't read. If it can't be asked, nothing is concluded from that.
func (s *session) witness() {
	k, ok := s.talk.(*relay.Kept)
	b := s.backend
	if !ok || b == nil || b.cancel != nil || s.w.passing.on || k.Stand() != relay.Resting {
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
