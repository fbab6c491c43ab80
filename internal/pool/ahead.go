package pool

import (
	"fmt"
	"time"
)

// Backends that are opened ahead of clients: each rule with a pool of its own has as many
// leases as it should have, or as the limits allow. On each new primary that is Initial,
// afterwards Min. The Ledger gives such leases to workers unasked, a few at a time, and
// after a failure of a rule it waits before the rule's next attempt.

const (
	// maxAhead is how many backends are opened ahead at a time, so that a server that has
	// just started isn't flooded. After a failure a rule opens one at a time.
	maxAhead = 4
	// firstPause is the pause after a rule's first failure. It doubles with each failure,
	// up to maxPause.
	firstPause = time.Second
	maxPause   = time.Minute
)

// Ahead gives a worker a lease unasked: it opens a backend of the pool Key and keeps it
// for clients.
type Ahead struct {
	Worker int
	Key    Key
	Lease  uint64
	Server int
	Epoch  uint64
}

// Target returns the worker that gets the lease.
func (e Ahead) Target() int { return e.Worker }

// ahead is what the Ledger knows of leases given ahead.
type ahead struct {
	// rules has the rules with Initial or Min; few have them.
	rules   []*aheadRule
	epoch   uint64 // that the goals belong to
	opening int    // leases whose backend isn't open yet, all rules together
}

type aheadRule struct {
	Rule
	at   int // as an index of Ledger.rules
	goal int // how many leases the rule should have now
	// opening counts the leases whose backend isn't open yet, failures the attempts in a
	// row that have failed.
	opening, failures int
	paused            bool
	pauses            uint64 // how many there have been
}

// Pause is how long a rule opens nothing ahead after a failure. The caller calls
// ResumeAhead after that time. The zero Pause needs no call.
type Pause struct {
	For  time.Duration
	rule *aheadRule
	at   uint64 // of the rule's pauses
}

func newAhead(rules []Rule) (a ahead) {
	for i, r := range rules {
		if r.Initial > 0 || r.Min > 0 {
			a.rules = append(a.rules, &aheadRule{Rule: r, at: i + 1})
		}
	}
	return a
}

// WorkerReady adds a worker, so that it may be given leases ahead.
func (l *Ledger) WorkerReady(worker int) []Effect {
	l.worker(worker)
	return l.settle()
}

// WorkerRetires says that a worker keeps what it has, and is given nothing ahead any more.
func (l *Ledger) WorkerRetires(worker int) []Effect {
	l.worker(worker).retired = true
	return l.settle()
}

// AheadFailed returns a lease that was given ahead, because its backend couldn't be
// opened, and the rule and its pause. The error says that the worker holds no such lease,
// which is a bug of the worker.
func (l *Ledger) AheadFailed(worker int, lease uint64) (effects []Effect, rule int, pause Pause, err error) {
	held, err := l.held(worker, lease)
	if err == nil && held.ahead == nil {
		err = fmt.Errorf("lease %d was not given ahead", lease)
	}
	if err != nil {
		return nil, 0, Pause{}, fmt.Errorf("return lease: %w", err)
	}
	r := held.ahead
	if held.epoch == l.epoch && !r.paused {
		r.paused = true
		r.pauses++
		pause = Pause{min(firstPause<<min(r.failures, 10), maxPause), r, r.pauses}
		r.failures++
	}
	effects, err = l.Return(worker, lease)
	return effects, r.at - 1, pause, err
}

// ResumeAhead ends a pause. It does nothing to a later pause of the rule, or to the rules of
// a later Relimit.
func (l *Ledger) ResumeAhead(p Pause) []Effect {
	if p.rule.pauses == p.at {
		p.rule.paused = false
	}
	return l.settle()
}

// aim sets the goals for a new primary.
func (l *Ledger) aim() {
	if !l.open || l.ahead.epoch == l.epoch {
		return
	}
	l.ahead.epoch = l.epoch
	for _, r := range l.ahead.rules {
		r.goal, r.failures, r.paused = max(r.Initial, r.Min), 0, false
	}
}

// opened records that the backend of a lease given ahead is open, or, with ok false, that
// there will be none.
func (l *Ledger) openedAhead(held *lease, ok bool) {
	r := held.ahead
	if r == nil {
		return
	}
	held.ahead = nil
	r.opening--
	l.ahead.opening--
	if ok {
		r.failures = 0
	}
}

// giveAhead gives leases ahead while rules lack some.
func (l *Ledger) giveAhead() {
	if !l.open {
		return
	}
	for _, r := range l.ahead.rules {
		for l.lacks(r) && l.ahead.opening < maxAhead && !r.paused && (r.failures == 0 || r.opening == 0) {
			w := l.poorest(r.Key)
			if w == nil {
				return
			}
			held := l.lend(w, &lease{key: r.Key, rule: r.at, server: l.server, epoch: l.epoch, ahead: r})
			r.opening++
			l.ahead.opening++
			l.emit(Ahead{Worker: w.index, Key: r.Key, Lease: held.id, Server: held.server, Epoch: held.epoch})
		}
	}
}

// lacks reports whether a rule should have a further lease and may. Once it has been where
// it should be, or the limits leave no room, Min is enough.
func (l *Ledger) lacks(r *aheadRule) bool {
	g := &l.rules[r.at]
	if l.holds != nil && l.holds(r.Key) {
		return false
	}
	room := g.used < g.max && l.total.used < l.total.max
	if g.used >= r.goal || !room {
		r.goal = r.Min
	}
	return room && g.used < r.goal
}

// poorest returns the worker with the fewest leases of a pool, and of these the one with the fewest at
// all; nil if all of them retire.
func (l *Ledger) poorest(key Key) *worker {
	var best *worker
	for _, w := range l.order {
		switch {
		case w.retired:
		case best == nil || w.keys[key] < best.keys[key] || w.keys[key] == best.keys[key] && w.total.n < best.total.n:
			best = w
		}
	}
	return best
}
