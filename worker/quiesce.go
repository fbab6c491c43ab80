package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// onQuiesce prepares for a switchover. Running transactions continue. Sessions without a
// transaction give up their backends: those that lose nothing with it wait for another one,
// the others end. No new session gets a backend, because the servers are closed.
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

// giveUp takes the backend from a session that isn't in a transaction. The session then
// waits for another backend if it loses nothing with this one; otherwise it ends. giveUp
// returns false if the session still prevents the switchover.
func (s *session) giveUp() bool {
	if s.state != sessionActive || s.talk.Stand() != relay.Resting {
		return false
	}
	moved, why := s.moveAside()
	if !moved {
		s.drop(s.cannotMove(pgwire.RefusalSwitchover.With(), why))
	}
	return true
}
