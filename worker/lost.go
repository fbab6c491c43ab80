package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// failBlockSQL opens a block and fails it. Its text is the explanation in the
// server's log.
const failBlockSQL = `BEGIN; ROLLBACK TO SAVEPOINT "pgagroal: the connection of this transaction was lost"`

// lostPooled parts a session from a lost backend, and lets the client stay; false
// when it can't be told what has happened.
func (s *session) lostPooled() bool {
	t := s.tx
	if !t.Ready || s.relay.Doubt {
		return false
	}
	out, ok := t.Lose(s.w.scratch[:0])
	if !ok {
		return false
	}
	s.w.stats.count(s.relay)
	s.relay.Trim()
	t.Rest()
	s.giveRelay()
	s.client.Send(out)
	switch {
	case t.Stash != nil:
		s.seek()
	case s.client.Full():
		s.client.Pause()
	default:
		s.client.Resume()
	}
	return true
}

// unserved answers what a client has said while it waited for a backend that it
// doesn't get, and lets it stay.
func (s *session) unserved(f *relay.Failure) {
	t := s.tx
	s.waiter = nil
	s.state = sessionActive
	s.takeRelay()
	data, out := t.Stash, s.w.scratch[:0]
	t.Stash = nil
	for len(data) > 0 {
		t.Relay.Up = pgwire.NewScanner(relay.PooledClient)
		t.Fail = f
		var leaving bool
		var err error
		data, leaving, err = t.Awaken(data, &out)
		if err != nil || leaving {
			s.client.Send(out)
			s.awakened(leaving, err)
			return
		}
	}
	t.Fail = nil
	s.client.Send(out)
	s.client.Resume()
	s.giveRelay()
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

// failBlock opens a block on a new backend and fails it, and then goes on with
// what the client has said.
func (s *session) failBlock(b *backend) {
	s.state, b.state = sessionAdapting, backendAdapting
	s.client.Watch()
	b.runTo(pgwire.TxFailed, []string{failBlockSQL}, func([]byte) {
		s.tx.Block = relay.NoBlock
		s.converse(b, pgwire.TxFailed)
	})
}
