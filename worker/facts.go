package worker

import (
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// facts is what a worker knows of a pool in addition to its backends. It lives as long as
// the pool.
//
// In the transaction pipeline a login can be answered with the facts, so that it needs no
// backend. The facts are those of the backend that was opened last. If the server's
// parameters have changed since, the client is told so with its first backend. max_connection_age
// bounds how old the facts get. The facts of one primary don't hold for the next one.
type facts struct {
	logins map[loginKey]*login // see share
	base   relay.Params        // parameters after the login of the backend that was opened last
	epoch  uint64              // of that backend, 0 for none
	born   time.Duration       // of that backend
	// trusting says that the server asked for no password.
	trusting bool
	// values has the value that the server reports for a start-up parameter: "German, DMY"
	// for DateStyle = German.
	values map[pgwire.Param]string
}

// factsOf returns the facts of a pool.
func factsOf(p *pool.Pool) *facts {
	f, _ := p.Owner.(*facts)
	if f == nil {
		f = &facts{logins: make(map[loginKey]*login), values: make(map[pgwire.Param]string)}
		p.Owner = f
	}
	return f
}

// learn takes over the facts of a backend, unless newer ones are known: a backend from
// another worker may be old.
func (w *worker) learn(b *backend) {
	f := factsOf(b.Pool)
	if f.epoch == b.Epoch && b.Born < f.born {
		return
	}
	if f.epoch != b.Epoch {
		clear(f.values)
	}
	f.base, f.epoch, f.trusting, f.born = b.Base, b.Epoch, b.Trusting, b.Born
}

// heard stores what the server reports for a client's start-up parameters.
func (f *facts) heard(follow, now *relay.Params) {
	for _, p := range follow.All() {
		if v, ok := now.Get(p.Name); ok && len(f.values) < maxShared {
			f.values[p] = v
		}
	}
}

// answer returns the parameters that answer a login, or false if the login needs a backend.
// unproven says that only the server can tell who the client is.
func (w *worker) answer(l *login, unproven bool) (relay.Params, bool) {
	p := w.shelf.Lookup(pool.Key(l.key))
	if w.cfg.Pipeline != "transaction" || p == nil || !w.servers.Open || w.servers.Graceful || w.draining {
		return relay.Params{}, false
	}
	f := factsOf(p)
	if f.epoch != w.servers.Epoch || unproven && !f.trusting {
		return relay.Params{}, false
	}
	params := f.base.Clone()
	for _, asked := range l.follow.All() {
		v, ok := f.values[asked]
		if !ok && !isPlainName(asked) {
			return relay.Params{}, false
		}
		if !ok {
			v = asked.Value
		}
		params.Set(asked.Name, v)
	}
	return params, true
}

// isPlainName reports whether a parameter is an application_name that the server doesn't
// change.
func isPlainName(p pgwire.Param) bool {
	return strings.EqualFold(p.Name, "application_name") && len(p.Value) <= maxApplication &&
		!strings.ContainsFunc(p.Value, func(r rune) bool { return r < ' ' || r > '~' })
}

// enter completes the login of an authenticated client: with the facts, or with a backend.
func (s *session) enter() {
	if params, ok := s.w.answer(s.login, s.login.unconfirmed()); ok {
		s.enterWith(&params)
		return
	}
	s.seek()
}

// enterWith completes the login of a client of the transaction pipeline without a backend.
func (s *session) enterWith(params *relay.Params) {
	s.talk.(*relay.Pooled).Enter(params)
	s.state = sessionActive
	s.greet(params, 0)
}
