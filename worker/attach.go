package worker

import (
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// How a session gets a backend and gives it back:
//
//  1. attach prepares the backend: it tests whether the server still answers (validate),
//     removes what another client has left there (cleanse), sets this client's parameters (adapt), and opens a failed transaction
//     block if the client believes that it is in one (begin).
//  2. start completes the client's login, or continues with what the client has sent
//     meanwhile.
//  3. restore runs between two statements. If the client has reset parameters, the server
//     went back to those of the backend's own login; restore sets the client's again.
//  4. part gives the backend back once the client doesn't need it any more.

// failBlockSQL opens a transaction block and makes it fail. The name of the savepoint
// explains the error in the server's log.
const failBlockSQL = `BEGIN; ROLLBACK TO SAVEPOINT "pgagroal: the connection of this transaction was lost"`

// attachOpened gives a client whose login was passed through the backend that the login has
// opened. s is nil if the client was lost meanwhile.
func (w *worker) attachOpened(o *opening, b *backend, s *session) {
	err := w.settleOpening(o, b, nil)
	switch {
	case s == nil && err == nil:
		w.closeBackend(b)
	case s == nil:
	case err != nil:
		s.refuse(pgwire.RefusalPrimaryLost.With())
	default:
		s.client.Watch()
		s.attach(b)
	}
}

// attach joins the session to a backend.
func (s *session) attach(b *backend) {
	s.waited(b)
	s.waiter = nil
	s.backend, b.session = b, s
	s.c.stood = stood{since: uint32(s.w.now() / tick)} // what was seen on another backend doesn't count
	if b.Private {                                     // it can serve no other client
		s.talk = s.w.shared.Direct(s.c.id, false)
	}
	if s.w.stale(b) {
		s.validate(b)
		return
	}
	s.cleanse(b)
}

// cleanse removes what another client has left on the backend, and continues with adapt.
func (s *session) cleanse(b *backend) {
	switch queries := s.w.cfg.reset; {
	case !b.Sequences && !b.Dirty || b.DirtyBy == s.c.id || len(queries) == 0:
		s.adapt(b)
	case !b.Dirty: // only sequences: a lighter reset, which keeps the prepared statements
		s.runReset(b, []string{"DISCARD SEQUENCES"}, b.CleanSequences)
	default:
		s.runReset(b, queries, b.Clean)
	}
}

// runReset makes the backend run reset queries, calls clean, and continues with adapt.
func (s *session) runReset(b *backend, queries []string, clean func()) {
	s.prepares(b)
	b.run(queries, func(failed []byte) {
		if failed != nil {
			s.w.resetFailed(b, failed)
			s.detach()
			s.w.closeBackend(b)
			s.seek()
			return
		}
		clean()
		s.adapt(b)
	})
}

// prepares records that the worker itself uses the backend, to prepare it for the session.
func (s *session) prepares(b *backend) {
	s.state, b.state = sessionAdapting, backendAdapting
	s.client.Watch()
}

// adapt sets the client's parameters on the backend, and continues with begin.
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
		msg := s.unadapted(failed)
		s.detach()
		s.w.reset(b, true)
		s.say(msg)
	})
}

const refusedSetting = "a setting that the server refused"

// unadapted returns the error for a client whose parameters the server has refused.
func (s *session) unadapted(failed []byte) []byte {
	if !s.welcomed || !s.kept() {
		return pgwire.AppendServersError(nil, pgwire.SeverityFatal, failed)
	}
	f := pgwire.ParseError(failed)
	s.logStuck(refusedSetting + " (" + f.Code + ")") // the message may quote the value
	return stuckOn(pgwire.RefusalServerLost.With(), fmt.Sprintf("%s (%s: %s)", refusedSetting, f.Code, f.Message)).Append(nil)
}

// begin opens a failed transaction block if the client believes that it is in one, and
// continues with start.
func (s *session) begin(b *backend) {
	if !s.talk.InFailedBlock() {
		s.start(b, pgwire.TxIdle)
		return
	}
	s.prepares(b)
	b.runTo(pgwire.TxFailed, []string{failBlockSQL}, func([]byte) { s.start(b, pgwire.TxFailed) })
}

// start completes the client's login, or continues with what the client has sent while it
// had no backend. status is the server's transaction status.
func (s *session) start(b *backend, status byte) {
	if s.cancelled {
		s.detach()
		s.w.reset(b, s.kept()) // what adapt has set there is its own
		s.cancelStash()
		return
	}
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

// restore runs sql, which sets the parameters again that the client began with, and
// continues at the boundary.
func (s *session) restore(sql string) {
	b := s.backend
	known := b.Params.Tracked()
	s.state, b.state = sessionRestoring, backendAdapting
	s.client.Watch()
	b.run([]string{sql}, func([]byte) {
		b.state, s.state = backendAttached, sessionActive
		s.client.Send(b.Params.AppendChanges(nil, known))
		s.listen()
		s.boundary(s.talk.Stand())
	})
}

// welcome tells the client that its login has succeeded.
func (s *session) welcome() {
	b := s.backend
	s.w.learn(b)
	factsOf(b.Pool).heard(&s.login.follow, &b.Params)
	s.greet(&b.Params, b.pid)
	b.conn.Resume()
}

// greet sends the last messages of a login. pid is the backend's process id, 0 without a
// backend.
func (s *session) greet(params *relay.Params, pid uint32) {
	s.welcomed = true
	s.w.stats.authOK++
	s.w.stats.logins.observe(s.w.loop.Now().Sub(s.c.start))
	s.c.since = uint32(time.Now().Unix())
	s.newKey(pid)
	msg := pgwire.AppendAuthenticationOK(nil)
	msg = params.AppendTo(msg)
	msg = pgwire.AppendBackendKeyData(msg, s.key.pid, s.key.secret())
	s.client.Send(pgwire.AppendReadyForQuery(msg, pgwire.TxIdle))
	s.client.Resume()
	s.login = s.w.share(s.login)
	if s.w.cfg.LogConnections {
		logline.Unlimited(s.w.log).Info("connection authorized", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
			"database", s.login.requested, "application", s.login.application(), "backend", pid)
	}
}

// part gives the backend back.
func (s *session) part() {
	b := s.backend
	s.client.Send(s.talk.Part())
	b.Spoiled = b.Spoiled || b.Indelible
	s.c.leaves = s.c.leaves || b.soiled()
	s.w.stats.returned++
	s.detach()
	if s.client.Full() {
		s.client.Pause() // until Flushed; otherwise the queue of answers would grow without bound
	} else {
		s.client.Resume()
	}
	if s.w.cfg.ResetAlways {
		s.w.reset(b, true)
		return
	}
	s.w.shelve(b)
}

// detach separates the session from its backend, which the caller must close or shelve.
func (s *session) detach() *backend {
	b := s.backend
	s.backend = nil
	if b != nil && b.session == s {
		b.session = nil
	}
	return b
}
