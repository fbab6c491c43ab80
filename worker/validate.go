package worker

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// validation tests whether the server still answers on an idle backend. The loop itself notices
// a server that closes the connection. Only a test shows that a firewall has forgotten the
// connection, or that the server's process hangs.
//
//   - foreground: before a client gets a backend that has been idle for staleAfter (attach).
//   - background: every background_interval, one backend after the other.
//
// After a sign that a server is dead, a backend that has been idle since before is tested for a client in any case:
// its server's processes don't die at the same moment, and the client may have lost a statement
// to the first of them already.
//
// A backend that doesn't answer is closed together with the other idle ones of its server, because
// the same thing has most likely happened to them, and each would make a client wait.

const (
	// validationQuery does nothing. The comment explains it in the server's log and views.
	validationQuery = "/* pgagroal validates an idle connection */"
	// validationLimit is how long a server may take to answer it.
	validationLimit = 2 * time.Second
	// staleAfter is how long a backend must have been idle to be tested for a client, so that
	// busy pools aren't slowed down.
	staleAfter = time.Second
	// validationPace is the pause between two backends of a round, so that clients always find the
	// others on the shelf.
	validationPace = 20 * time.Millisecond
)

// round is a test of the idle backends.
type round struct {
	left []*shelved
	now  *backend // the backend that is being tested, or was last
}

// stale reports whether a backend must be tested before a client gets it.
func (w *worker) stale(b *backend) bool {
	switch {
	case b.since.IsZero():
		return false
	case !b.since.After(w.doubted[b.server]):
		return true
	}
	return w.cfg.Timers.ValidateFirst && w.loop.Now().Sub(b.since) >= staleAfter
}

// validate tests the backend for a session, which gets another backend if the test fails.
func (s *session) validate(b *backend) {
	s.prepares(b)
	s.validating = true
	b.test(func() {
		s.validating = false
		s.cleanse(b)
	})
}

// test calls valid if the server answers in time. Otherwise it closes the backend, and the
// session, if there is one, gets another.
func (b *backend) test(valid func()) {
	w := b.w
	done := func(failed []byte) {
		if failed == nil {
			valid()
			return
		}
		w.stats.broken++
		w.log.Warn("idle connection is broken, closed", "server", w.serverName(b.server), "backend", b.pid,
			"error", pgwire.ParseError(failed).Message)
		b.scriptBroken()
	}
	b.send(&script{down: relay.ScriptScanner(), want: pgwire.TxIdle, done: done}, validationLimit, []string{validationQuery}, func() {
		w.log.Warn("idle connection is broken, closed with the other idle ones: the server didn't answer in time",
			"server", w.serverName(b.server), "backend", b.pid)
		w.stats.broken++
		w.hintOf(b.server, b.Epoch, unix.ETIMEDOUT)
		w.closeIdleOf(b.server)
		b.scriptBroken()
	})
}

// closeIdleOf closes the idle backends of a server that probably doesn't know them any more.
func (w *worker) closeIdleOf(server int) {
	w.shelf.CloseIdle(pool.EvictServer, func(idle *shelved) bool { return idle.Of.(*backend).server == server })
	w.carryOut()
}

// beginRound tests the backends that have been idle since the last round.
func (w *worker) beginRound() {
	every := ms(w.cfg.Timers.ValidateEveryMS)
	w.timers.validation = w.loop.After(every, w.beginRound)
	if len(w.timers.round.left) == 0 {
		w.timers.round.left = w.shelf.IdleSince(w.now() - every)
		w.continueRound()
	}
}

// continueRound tests the next backend of a round, once the test before it is over.
func (w *worker) continueRound() {
	if b := w.timers.round.now; b == nil || b.script == nil {
		w.testNext()
	}
	if len(w.timers.round.left) > 0 {
		w.loop.After(validationPace, w.continueRound)
	}
}

func (w *worker) testNext() {
	r := &w.timers.round
	for r.now = nil; r.now == nil && len(r.left) > 0; r.left = r.left[1:] {
		if x := r.left[0]; x.Idle() {
			r.now = x.Of.(*backend)
		}
	}
	b := r.now
	if b == nil {
		return
	}
	w.shelf.Unshelve(&b.shelved)
	b.state = backendAdapting
	b.test(func() {
		b.state = backendIdle
		w.shelf.PutBack(&b.shelved, w.now())
		w.placed(b)
	})
}
