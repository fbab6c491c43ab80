package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// serverGone handles the loss of the session's backend, which is already closed.
func (s *session) serverGone() {
	s.backend = nil
	switch s.state {
	case sessionAdapting:
		s.seekAgain()
	case sessionActive, sessionRestoring:
		s.state = sessionActive
		s.lost()
	default:
		s.drop(s.lossCode())
	}
}

// lost decides what happens to a client that has lost its backend. If nothing is lost with
// it, the client gets another backend. In the transaction pipeline the client is told what
// it has lost, and stays. All other sessions end.
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

// seekAgain seeks another backend. The lost one got nothing from the client.
func (s *session) seekAgain() {
	tested := s.validating
	s.validating = false
	if !s.w.cfg.Failover && !tested {
		s.refuse(pgwire.CodeTooManyConnections, "connection refused")
		return
	}
	s.seek()
}

// lossCode returns the error that ends a session whose backend is lost.
func (s *session) lossCode() (code, message string) {
	if s.uncertain() {
		return pgwire.CodeOutcomeUnknown, "the connection to the server was lost; whether the last statement took effect is unknown"
	}
	return pgwire.CodeAdminShutdown, "terminating connection because the connection to the server was lost"
}

// unserved lets the client's statement fail, because there is no backend for it. It returns
// false if the client can't stay.
func (s *session) unserved(f *relay.Failure) bool {
	p, stays, err := s.talk.Refuse(s.stash, f)
	if !stays {
		return false
	}
	s.waiter, s.stash, s.cancelled = nil, nil, false
	s.state = sessionActive
	s.client.Resume()
	s.hear(p, err)
	return true
}

// failureOf returns the error for a client whose backend can't be opened.
func (s *session) failureOf(err error) *relay.Failure {
	f := &relay.Failure{Code: pgwire.CodeTooManyConnections, Message: "connection refused"}
	if msg := auth.AppendRefusal(nil, s.login.user, err); msg != nil {
		e := pgwire.ParseError(msg[5:])
		f.Code, f.Message, f.Detail = e.Code, e.Message, e.Detail
	}
	return f
}
