package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// How a session and a backend come together, and part:
//
//  1. attach: what another client has left on the backend goes first (cleanse),
//     then come this client's parameters (adapt), and a failed transaction block if
//     the client believes that it is in one (failBlock).
//  2. start: the client is let in, or goes on with what it has said meanwhile.
//  3. part: where the conversation is at an end, the backend is free again.

// failBlockSQL opens a block and fails it. Its text is the explanation in the
// server's log.
const failBlockSQL = `BEGIN; ROLLBACK TO SAVEPOINT "pgagroal: the connection of this transaction was lost"`

// attachOpened joins a client whose login was passed through to the backend that
// it opened. s is nil when the client was lost on the way.
func (w *worker) attachOpened(o *opening, b *backend, s *session) {
	err := w.settleOpening(o, b, nil)
	switch {
	case s == nil && err == nil:
		w.closeBackend(b)
	case s == nil:
	case err != nil:
		s.refuse(pgwire.CodeCannotConnectNow, "the primary was lost during the login")
	default:
		s.client.Watch()
		s.attach(b)
	}
}

// attach joins the session to a backend.
func (s *session) attach(b *backend) {
	s.waiter = nil
	s.backend, b.session = b, s
	s.w.stats.attached++
	if b.private { // nobody else can use it
		s.talk = s.w.shared.Direct(s.c.id, false)
	}
	s.cleanse(b)
}

// cleanse removes what another client has left on a backend, and goes on.
func (s *session) cleanse(b *backend) {
	query := s.w.cfg.ResetQuery
	if !b.Dirty || b.DirtyBy == s.c.id || query == "" {
		s.adapt(b)
		return
	}
	s.prepares(b)
	b.run([]string{query}, func(failed []byte) {
		if failed != nil {
			s.detach()
			s.w.closeBackend(b)
			s.seek()
			return
		}
		b.Clean()
		s.adapt(b)
	})
}

// prepares notes that the backend is being made ready for the client.
func (s *session) prepares(b *backend) {
	s.state, b.state = sessionAdapting, backendAdapting
	s.client.Watch()
}

// adapt gives a backend the client's parameters, and goes on.
func (s *session) adapt(b *backend) {
	sql := s.talk.Adapt(&b.Backend, &s.login.follow)
	if sql == "" {
		s.begin(b)
		return
	}
	s.prepares(b)
	b.run([]string{sql}, func(failed []byte) {
		if failed == nil {
			s.begin(b)
			return
		}
		f := pgwire.ParseError(failed)
		s.detach()
		s.w.reset(b, true)
		s.say(pgwire.AppendError(nil, pgwire.SeverityFatal, f.Code, f.Message))
	})
}

// begin lets the client talk to its backend, in the state that it expects.
func (s *session) begin(b *backend) {
	if !s.talk.InFailedBlock() {
		s.start(b, pgwire.TxIdle)
		return
	}
	s.prepares(b)
	b.runTo(pgwire.TxFailed, []string{failBlockSQL}, func([]byte) { s.start(b, pgwire.TxFailed) })
}

// start lets the client in, or goes on with what it has said while it had no
// backend. status is the server's.
func (s *session) start(b *backend, status byte) {
	b.state, s.state = backendAttached, sessionActive
	told := s.talk.Start(&b.Backend, status)
	if !s.welcomed {
		s.welcome()
		s.boundary(s.talk.Stand())
		return
	}
	s.client.Send(told)
	s.client.Resume()
	b.conn.Resume()
	if said := s.stash; said != nil {
		s.stash = nil
		s.fromClient(said)
	}
}

// welcome ends the login: from here on client and server talk to each other.
func (s *session) welcome() {
	b := s.backend
	s.welcomed = true
	s.since = time.Now().Unix()
	s.newKey(b.pid)
	msg := pgwire.AppendAuthenticationOK(nil)
	msg = b.Params.AppendTo(msg)
	msg = pgwire.AppendBackendKeyData(msg, s.key.pid, s.key.secret())
	s.client.Send(pgwire.AppendReadyForQuery(msg, pgwire.TxIdle))
	s.client.Resume()
	b.conn.Resume()
	s.login = s.w.share(s.login)
	if s.w.cfg.LogConnections {
		s.w.log.Info("connection authorized", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
			"database", s.login.requested, "application", s.login.application(), "backend", b.pid)
	}
}

// part gives a backend back that the client needs no more.
func (s *session) part() {
	b := s.backend
	s.client.Send(s.talk.Part())
	s.detach()
	if s.client.Full() {
		s.client.Pause() // until Flushed: one who doesn't read isn't listened to
	} else {
		s.client.Resume()
	}
	if s.w.cfg.ResetAlways {
		s.w.reset(b, true)
		return
	}
	s.w.shelve(b)
}

// detach parts the session from its backend, which is the caller's to care for.
func (s *session) detach() *backend {
	b := s.backend
	s.backend = nil
	if b != nil && b.session == s {
		b.session = nil
	}
	return b
}
