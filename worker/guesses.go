package worker

import (
	"errors"
	"net/netip"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// With auth_failure_delay guessing passwords takes long:
//
//  1. mayProve refuses a client before it can prove a password, while too many clients of
//     its address are proving theirs or wait for the answer of step 2.
//  2. answerLate keeps a client whose password was wrong waiting for the answer. The next one
//     of the same address waits longer.
//  3. A client that doesn't wait for the answer still counts until the answer is due.

const (
	// maxDoublings is how often the delay of an address doubles.
	maxDoublings = 3
	// rowEnds is how long an address must be without failures before its delay is the
	// shortest again. A right password doesn't shorten the delay, because whoever guesses
	// may have one.
	rowEnds = time.Minute
	// maxOpenGuesses is how many clients of an address that has failed may prove a password
	// or wait at a time.
	maxOpenGuesses = 16
	// maxLateAnswers is how many clients may wait at a time, of all addresses. They are a
	// part of maxSetups, so that they leave room for others.
	maxLateAnswers = maxSetups / 8
	// maxGuessers is how many addresses each of the two generations has.
	maxGuessers = 4096
)

// guesses has the addresses of clients that prove passwords. It belongs to the loop.
type guesses struct {
	// young has the addresses that came most recently, old those that came before. When young
	// is full, it becomes old, and old is forgotten.
	young, old map[netip.Prefix]*guesser
	late       map[*lateAnswer]struct{}
}

// guesser is one address, or one network of IPv6.
type guesser struct {
	failures int       // in a row
	until    time.Time // when the last answer is due
	open     int       // clients that are proving a password, or wait
}

// lateAnswer is an answer that waits until it is due.
type lateAnswer struct{ due func() }

func newGuesses() guesses {
	return guesses{young: map[netip.Prefix]*guesser{}, late: map[*lateAnswer]struct{}{}}
}

// origin returns what counts as one address. Clients on Unix sockets are one address, and so
// is a network of IPv6, because whoever has one address of it usually has all.
func origin(addr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// of returns the guesser of an address, and makes one if there is none.
func (x *guesses) of(p netip.Prefix, now time.Time) *guesser {
	g := x.young[p]
	if g == nil {
		g = x.old[p]
		if g == nil {
			g = &guesser{}
		}
		if len(x.young) >= maxGuessers {
			x.young, x.old = map[netip.Prefix]*guesser{}, x.young
		}
		x.young[p] = g
	}
	if now.Sub(g.until) >= rowEnds {
		g.failures = 0
	}
	return g
}

// crowded reports whether an address must wait before it may guess again.
func (x *guesses) crowded(g *guesser) bool {
	return g.failures > 0 && (g.open >= maxOpenGuesses || len(x.late) >= maxLateAnswers)
}

// fail counts a failure and returns the delay of its answer.
func (g *guesser) fail(shortest time.Duration, now time.Time) time.Duration {
	delay := shortest << min(g.failures, maxDoublings)
	g.failures++
	if due := now.Add(delay); due.After(g.until) {
		g.until = due
	}
	return delay
}

// mayProve counts a client that is about to prove a password, or returns its refusal.
func (w *worker) mayProve(c *client) (*guesser, error) {
	g := w.guesses.of(origin(c.addr), w.loop.Now())
	if w.guesses.crowded(g) {
		return nil, pgwire.RefusalManyFailures.With()
	}
	g.open++
	return g, nil
}

// answerLate calls due when a client whose password was wrong may get its answer: at once if
// the process ends or too many clients wait.
func (w *worker) answerLate(g *guesser, due func()) {
	delay := g.fail(ms(w.cfg.Timers.AuthFailureMS), w.loop.Now())
	if w.draining || len(w.guesses.late) >= maxLateAnswers {
		g.open--
		due()
		return
	}
	a := &lateAnswer{due: due}
	w.guesses.late[a] = struct{}{}
	w.loop.After(delay, func() {
		g.open--
		delete(w.guesses.late, a)
		a.due()
	})
}

// hurry ends all waits, because the process ends.
func (x *guesses) hurry() {
	for a := range x.late {
		due := a.due
		a.due = func() {}
		due()
	}
}

// prove is authenticate with auth_failure_delay.
func (s *setup) prove(l *login, method auth.Method) error {
	if s.cfg.Timers.AuthFailureMS == 0 || method == auth.Trust {
		return s.authenticate(l, method)
	}
	g, err := s.w.mayProve(s.c)
	if err != nil {
		return err
	}
	failed := false
	defer func() {
		if !failed {
			g.open-- // otherwise when the answer is due
		}
	}()
	if err = s.authenticate(l, method); badPassword(err) {
		failed = true
		s.d.awaitUnlessGone(func(done func()) { s.w.answerLate(g, done) })
	}
	return err
}

// mayPass is mayProve for a client that the server authenticates. Such a client doesn't count
// while it proves its password: the connections to servers bound how many do.
func (s *setup) mayPass() error {
	if s.cfg.Timers.AuthFailureMS == 0 {
		return nil
	}
	g, err := s.w.mayProve(s.c)
	if err == nil {
		g.open--
	}
	return err
}

// waitPassed is answerLate for a client whose password was wrong at the server. The set-up
// runs in a goroutine.
func (s *setup) waitPassed(err error) {
	se, ok := errors.AsType[*auth.ServerError](err)
	if s.cfg.Timers.AuthFailureMS == 0 || !ok || se.Fields.Code != pgwire.CodeInvalidPassword {
		return
	}
	due := make(chan struct{})
	s.w.loop.Post(func() {
		g := s.w.guesses.of(origin(s.c.addr), s.w.loop.Now())
		g.open++
		s.w.answerLate(g, func() { close(due) })
	})
	<-due
}
