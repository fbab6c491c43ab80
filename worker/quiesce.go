package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// onQuiesce prepares for a switchover. Running transactions go on; sessions without a
// transaction give up their backends. In the transaction pipeline they then wait for
// another one, elsewhere they end. No new session gets a backend, since the servers are
// closed.
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

// giveUp ends a session that owns its backend and is not in a transaction, or lets it
// wait for another backend if it has left nothing on this one. It reports whether the
// session no longer prevents the switchover.
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
