package worker

import (
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// facts are what a worker knows of a pool's server connections beside the connections.
// They are forgotten with the pool.
//
// In the transaction pipeline they answer logins, so that a login needs no backend. They
// are those of the backend that was opened last; no backend on the shelf knows better. A
// client hears of what has changed since with its first backend. The facts of one primary
// are nothing for the next one.
type facts struct {
	logins map[loginKey]*login // for sharing
	base   relay.Params        // after the login of the backend opened last
	epoch  uint64              // of that backend, 0 for none
	born   time.Duration       // of that backend
	// trusting: the server asked for no password.
	trusting bool
	// values are what the server makes of start-up parameters: "German, DMY" of German.
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

// learn takes the facts of a backend. Backends come here in no particular order: one that
// another worker has opened may be older than what is known already.
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

// heard notes what the server has made of a client's start-up parameters.
func (f *facts) heard(follow, now *relay.Params) {
	for _, p := range follow.All() {
		if v, ok := now.Get(p.Name); ok && len(f.values) < maxShared {
			f.values[p] = v
		}
	}
}

// answer returns the parameters that a login is answered with, and false if that takes a
// backend. unproven: only the server can tell who the client is.
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

// isPlainName reports whether a parameter is an application_name that the server takes as
// it is.
func isPlainName(p pgwire.Param) bool {
	return strings.EqualFold(p.Name, "application_name") && len(p.Value) <= maxApplication &&
		!strings.ContainsFunc(p.Value, func(r rune) bool { return r < ' ' || r > '~' })
}

// enter lets a client in who has proven who it is: with what is known, or with a backend.
func (s *session) enter() {
	if params, ok := s.w.answer(s.login, false); ok {
		s.enterWith(&params)
		return
	}
	s.seek()
}

// enterWith lets a client of the transaction pipeline in without a backend.
func (s *session) enterWith(params *relay.Params) {
	s.talk.(*relay.Pooled).Enter(params)
	s.state = sessionActive
	s.greet(params, 0)
}
