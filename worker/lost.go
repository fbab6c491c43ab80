package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// serverGone deals with a session whose backend has closed or failed.
func (s *session) serverGone() {
	s.backend = nil
	switch s.state {
	case sessionAdapting:
		s.seekAgain()
	case sessionActive:
		s.lost()
	default:
		s.drop(s.lossCode())
	}
}

// lost asks what becomes of a client whose backend is lost. One that hasn't asked
// for anything yet gets another backend; one of the transaction pipeline is told
// what it has lost, and stays; all others end.
func (s *session) lost() {
	loss := s.talk.Lose()
	s.flooded = false
	switch loss.Fate {
	case relay.Ends:
		s.drop(s.lossCode())
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

// seekAgain waits for another backend: nothing of the client's was sent yet.
func (s *session) seekAgain() {
	if !s.w.cfg.Failover {
		s.refuse(pgwire.CodeTooManyConnections, "connection refused")
		return
	}
	s.seek()
}

// lossCode returns what a client is told whose backend is lost.
func (s *session) lossCode() (code, message string) {
	if s.uncertain() {
		return pgwire.CodeOutcomeUnknown, "the connection to the server was lost; whether the last statement took effect is unknown"
	}
	return pgwire.CodeAdminShutdown, "terminating connection because the connection to the server was lost"
}

// unserved answers what a client has said while it waited for a backend that it
// doesn't get, and lets it stay; false when it can't.
func (s *session) unserved(f *relay.Failure) bool {
	p, stays, err := s.talk.Refuse(s.stash, f)
	if !stays {
		return false
	}
	s.waiter, s.stash = nil, nil
	s.state = sessionActive
	s.client.Resume()
	s.heard(p, err)
	return true
}

// failureOf is what a client is told whose backend can't be opened.
func (s *session) failureOf(err error) *relay.Failure {
	f := &relay.Failure{Code: pgwire.CodeTooManyConnections, Message: "connection refused"}
	if msg := auth.AppendRefusal(nil, s.login.user, err); msg != nil {
		e := pgwire.ParseError(msg[5:])
		f.Code, f.Message, f.Detail = e.Code, e.Message, e.Detail
	}
	return f
}
