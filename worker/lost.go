package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// serverGone handles the loss of the session's backend, which is already closed.
func (s *session) serverGone() {
	s.backend = nil
	if s.interrupted(true, s.serverGone) {
		return
	}
	switch s.state {
	case sessionAdapting:
		s.seekAgain()
	case sessionActive, sessionRestoring:
		s.state = sessionActive
		s.lost()
	default:
		s.drop(s.loss())
	}
}

// lost decides what happens to a client that has lost its backend. If nothing is lost with
// it, the client gets another backend. In the transaction pipeline, and in a kept session, the client
// is told what it has lost, and stays. All other sessions end.
func (s *session) lost() {
	loss := s.talk.Lose()
	s.flooded = false
	switch loss.Fate {
	case relay.Ends:
		s.drop(s.cannotMove(s.loss(), loss.Why))
		return
	case relay.Told:
		s.say(nil)
		return
	case relay.Waits:
		s.client.Send(loss.ToClient)
		s.stash = loss.Rest
		s.seek()
		return
	}
	s.client.Send(loss.ToClient)
	if s.client.Full() {
		s.client.Pause()
	} else {
		s.client.Resume()
	}
}

// kept reports whether this is a kept session: it has its backend until it leaves, and can go on
// with another one.
func (s *session) kept() bool { return s.talk.Keeps() && s.talk.Answers() }

// cannotMove logs and tells the client of a kept session that ends why it can't go on with another
// backend. An empty why is that of any other session.
func (s *session) cannotMove(r *pgwire.Refused, why string) *pgwire.Refused {
	if why == "" {
		return r
	}
	s.logStuck(why)
	return stuckOn(r, why)
}

func (s *session) logStuck(why string) {
	s.w.log.Info("session can't move to another connection", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
		"database", s.login.requested, "reason", why)
}

// stuckOn adds to the error that ends a kept session why it can't go on with another backend.
func stuckOn(r *pgwire.Refused, why string) *pgwire.Refused {
	return r.Detail("The session can't move to another connection because of " + why + ".")
}

// seekAgain seeks another backend. The lost one got nothing from the client.
func (s *session) seekAgain() {
	tested := s.validating
	s.validating = false
	if !s.w.cfg.Failover && !tested {
		s.refuse(pgwire.RefusalNoConnection.With())
		return
	}
	s.seek()
}

// loss returns the error that ends a session whose backend is lost.
func (s *session) loss() *pgwire.Refused {
	if s.uncertain() {
		return pgwire.RefusalOutcomeUnknown.With()
	}
	return pgwire.RefusalServerLost.With()
}

// unserved lets the client's statement fail with an ErrorResponse, because there is no
// backend for it. It returns false if the client can't stay.
func (s *session) unserved(answer []byte) bool {
	p, stays, err := s.talk.Refuse(s.stash, answer)
	if !stays {
		return false
	}
	s.waiter, s.stash, s.cancelled = nil, nil, false
	s.state = sessionActive
	s.client.Resume()
	s.hear(p, err)
	return true
}
