package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// query_timeout, idle_in_transaction_timeout and disconnect_client limit how long a session may
// stand still: run one statement, be idle in a transaction, or be idle. A statement sets no timer
// and reads no clock. Instead the worker looks at its sessions from time to time (lookAround),
// and compares each with what it found the last time (stood). So a limit takes effect up to two
// looks late.

const (
	// tick is the unit of time of stood. The clock overflows after thirteen years.
	tick = 100 * time.Millisecond
	// cancelGrace is how long a statement may go on after query_timeout has cancelled it, before
	// the session ends.
	cancelGrace = 5 * time.Second
	// keenest and laziest bound the time between two looks. If only disconnect_client is set, it
	// may be longer, up to idlest, because then every client has to be looked at.
	keenest = tick
	laziest = time.Second
	idlest  = 10 * time.Second
)

// stood is how a session stands, and since when at least, in ticks since the worker's start.
type stood struct {
	since uint32
	steps uint32 // of the backend
	load  relay.Load
	// cancelled says that query_timeout has cancelled the statement.
	cancelled bool
}

// timers are the timers that the configuration needs, and the round of validation in progress.
type timers struct {
	sweep, look, validation *reactor.Timer
	round                   round
	keeps                   bool // there are, or were, kept sessions
	asks                    int  // witnesses since the last look
}

// setTimers starts the timers of a new configuration.
func (w *worker) setTimers() {
	t := &w.timers
	t.sweep.Stop()
	t.look.Stop()
	t.validation.Stop()
	*t = timers{round: t.round, keeps: t.keeps}
	w.sweepLater()
	w.lookLater()
	if every := ms(w.cfg.Timers.ValidateEveryMS); every > 0 {
		t.validation = w.loop.After(every, w.beginRound)
	}
}

// lookEvery returns the time between two looks, 0 for never.
func (c *config) lookEvery() (every time.Duration) {
	add := func(limit, most time.Duration) {
		if d := min(max(limit/16, keenest), most); limit > 0 && (every == 0 || d < every) {
			every = d
		}
	}
	add(ms(c.Timers.QueryMS), laziest)
	add(c.limits.shortest, laziest)
	add(ms(c.Timers.IdleInTransactionMS), laziest)
	add(ms(c.Timers.DisconnectMS), idlest)
	return every
}

func (w *worker) lookLater() {
	every := w.cfg.lookEvery()
	if w.timers.keeps && (every == 0 || every > restAfter) {
		every = restAfter
	}
	if every > 0 {
		w.timers.look = w.loop.After(every, w.lookAround)
	}
}

// keeps notes that there are kept sessions, which are looked at whatever the configuration says by now.
func (w *worker) keeps() {
	if !w.timers.keeps {
		w.timers.keeps = true
		w.timers.look.Stop()
		w.lookLater()
	}
}

// lookAround looks at every session that a limit applies to. Only disconnect_client applies to
// sessions without a backend.
func (w *worker) lookAround() {
	now := uint32(w.now() / tick)
	w.timers.asks = 0
	if w.cfg.Timers.DisconnectMS > 0 {
		for _, c := range w.clients {
			if c.session != nil {
				c.session.look(now)
			}
		}
	} else {
		for _, b := range w.backends {
			if b.session != nil {
				b.session.look(now)
			}
		}
	}
	w.lookLater()
}

// look compares the session with the last look, and ends what takes too long.
func (s *session) look(now uint32) {
	if s.state != sessionActive {
		s.c.stood = stood{since: now}
		return
	}
	found := stood{since: now, load: relay.Nothing}
	if b := s.backend; b != nil {
		found.load, found.steps = s.talk.Load(), b.Steps
	}
	last := &s.c.stood
	moved := s.heard && found.load != relay.Statement || found.load != last.load || found.steps != last.steps
	s.heard = false
	if moved {
		*last = found
		return
	}
	s.standsStill(time.Duration(now-last.since)*tick - tick) // a tick less, so that no limit comes early
}

// standsStill ends what has taken too long.
func (s *session) standsStill(d time.Duration) {
	over := func(limitMS int64) bool { return limitMS > 0 && d >= ms(limitMS) }
	t := &s.w.cfg.Timers
	switch load := s.c.stood.load; {
	case load == relay.Statement && s.overtime(d):
	case load == relay.Transaction && over(t.IdleInTransactionMS):
		s.expel(d, "idle_in_transaction_timeout", pgwire.RefusalIdleTransaction.With())
	case load == relay.Nothing && over(t.DisconnectMS):
		s.expel(d, "disconnect_client", pgwire.RefusalIdleSession.With())
	case t.DisconnectForce && over(t.DisconnectMS):
		s.expel(d, "disconnect_client", pgwire.RefusalForced.With())
	case load == relay.Nothing && d >= restAfter:
		s.rests()
	}
}

// overtime cancels a statement that has run longer than query_timeout, and ends the session if
// that doesn't help. It reports whether the statement has run too long.
func (s *session) overtime(d time.Duration) bool {
	cfg := s.w.cfg
	limit := cfg.limits.queryTimeout(s.login, ms(cfg.Timers.QueryMS))
	switch last := &s.c.stood; {
	case limit == 0 || d < limit:
		return false
	case !last.cancelled:
		last.cancelled = true
		s.w.log.Warn("statement cancelled", append(s.facts(d), "reason", "query_timeout")...)
		if !s.talk.MidMessage() {
			s.client.Send(pgwire.RefusalOvertime.With(limit).Append(nil))
		}
		s.halt()
	case d >= limit+cancelGrace:
		s.expel(d, "query_timeout", pgwire.RefusalOverran.With())
	}
	return true
}

// halt cancels the session's statement. Until that is done it doesn't read from the client.
func (s *session) halt() {
	s.halted = true
	s.client.Watch()
	s.w.cancelBackend(s.backend, func() {
		s.halted = false
		if s.state == sessionActive {
			s.listen()
		}
	})
}

// expel ends a session that has stood still for d. The server rolls its transaction back.
func (s *session) expel(d time.Duration, key string, why *pgwire.Refused) {
	s.w.log.Warn("client disconnected", append(s.facts(d), "reason", key)...)
	if s.c.stood.load == relay.Statement {
		s.drop(why)
		return
	}
	mid := s.talk.MidMessage()
	s.giveBack()
	if mid {
		s.closeClient()
		s.finish()
		return
	}
	s.say(why.Append(nil))
}

// facts describes the session in a log line.
func (s *session) facts(d time.Duration) []any {
	facts := []any{"client", s.c.id, "address", s.c.addr, "user", s.login.user, "database", s.login.requested, "after", d.String()}
	if b := s.backend; b != nil {
		facts = append(facts, "server", s.w.serverName(b.server), "backend", b.pid)
	}
	return facts
}
