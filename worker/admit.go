package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// enter asks the supervisor whether a client may come in, before the client is
// authenticated. The supervisor has said whether it must be asked: it must if max_clients
// is nearly reached, or if a database is disabled.
func (s *setup) enter(l *login) error {
	if !s.c.ask {
		return nil
	}
	return s.askAdmission(l, false)
}

// countIn counts a client against the limits of its user and its database. A client that
// only the server can authenticate counts before it has proven anything.
func (s *setup) countIn(l *login) error {
	if !s.cfg.CountClients {
		return nil
	}
	return s.askAdmission(l, true)
}

// askAdmission asks the supervisor and waits for the answer, which the supervisor gives
// within a fraction of a second.
func (s *setup) askAdmission(l *login, count bool) error {
	var answer *ipc.AdmitAnswer
	s.d.await(func(done func()) {
		s.w.admissions[s.c.id] = func(a *ipc.AdmitAnswer) {
			answer = a
			done()
		}
		s.w.send(&ipc.AdmitRequest{Client: s.c.id, User: l.user, Database: l.database, Count: count})
	})
	if answer.Refusal == 0 {
		return nil
	}
	return pgwire.Refusal(answer.Refusal).WithWords(answer.Words)
}

func (w *worker) onAdmitAnswer(m *ipc.AdmitAnswer) {
	told := w.admissions[m.Client]
	delete(w.admissions, m.Client)
	if told != nil {
		told(m)
	}
}
