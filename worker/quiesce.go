package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// onQuiesce prepares for a switchover: transactions go on, sessions between two
// of them give their backend up. In the transaction pipeline they wait for
// another one, elsewhere they are ended. New ones aren't let in, since the
// servers are closed.
func (w *worker) onQuiesce(m *ipc.Quiesce) {
	w.quiescing = m.Epoch
	busy := 0
	for _, b := range w.backends {
		if b.Epoch <= m.Epoch && b.session != nil && !b.session.giveUp() {
			busy++
		}
	}
	w.send(&ipc.Quiesced{ID: m.ID, Busy: busy})
}

// giveUp ends a session that is idle outside of a transaction on a backend of
// its own, or has it wait for another one when it has left nothing on this one.
// It reports whether nothing of it keeps the server from being switched.
func (s *session) giveUp() bool {
	if s.state != sessionActive || s.talk.Stand() != relay.Resting {
		return false
	}
	if s.talk.Lose().Fate == relay.Waits {
		s.w.closeBackend(s.backend)
		s.detach()
		s.seek()
		return true
	}
	s.drop(pgwire.CodeAdminShutdown, "terminating connection due to a planned switchover")
	return true
}
