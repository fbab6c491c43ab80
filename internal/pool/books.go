package pool

import (
	"maps"
	"slices"
	"time"
)

// Books are what one Ledger passes on to another one that takes its place: all leases and all
// requests that wait. Reclaims aren't among them. So the Ledger must be closed when the
// books are made, which withdraws every Reclaim, and the next Ledger makes its own.
type Books struct {
	Leases                 []BookedLease // the oldest first
	Requests               []BookedRequest
	LastLease, LastReclaim uint64
	// AheadEpoch is the epoch for which backends were last opened ahead.
	AheadEpoch uint64
}

// BookedLease is a lease in the books.
type BookedLease struct {
	Lease
	// Ahead says that the lease was given ahead, and that its backend isn't open yet.
	Ahead bool
}

// BookedRequest is a request that waits.
type BookedRequest struct {
	Worker   int
	ID       uint64
	Key      Key
	Rule     int
	Since    time.Duration
	Unproven bool
}

// Books returns the books of a Ledger that is closed.
func (l *Ledger) Books() Books {
	b := Books{LastLease: l.lastLease, LastReclaim: l.lastReclaim, AheadEpoch: l.ahead.epoch}
	for _, held := range l.byAge() {
		b.Leases = append(b.Leases, BookedLease{held.info(), held.ahead != nil})
	}
	var waiting []*waiter
	for _, w := range l.order {
		waiting = slices.AppendSeq(waiting, maps.Values(w.waiting))
	}
	slices.SortFunc(waiting, (*waiter).compare)
	for _, q := range waiting {
		b.Requests = append(b.Requests, BookedRequest{q.worker.index, q.id, q.key, q.rule - 1, q.since, q.unproven})
	}
	return b
}

// Reopened returns a closed Ledger with these books. ruleOf returns the rule of a lease or
// request as for Relimit.
func Reopened(limit int, rules []Rule, b Books, ruleOf func(key Key, rule int) int) *Ledger {
	l := NewLedger(limit, rules)
	l.lastLease, l.lastReclaim, l.ahead.epoch = b.LastLease, b.LastReclaim, b.AheadEpoch
	for _, r := range l.ahead.rules {
		r.goal = r.Min
	}
	for _, x := range b.Leases {
		l.enter(x, ruleOf(x.Key, x.Rule)+1)
	}
	for _, x := range b.Requests {
		l.lastSeq++
		w := l.worker(x.Worker)
		q := &waiter{id: x.ID, key: x.Key, rule: ruleOf(x.Key, x.Rule) + 1, since: x.Since, seq: l.lastSeq, worker: w, unproven: x.Unproven}
		w.waiting[q.id] = q
		l.rules[q.rule].queueOf(q).push(q)
	}
	l.touchAll()
	return l
}

// enter adds a lease that there is already.
func (l *Ledger) enter(x BookedLease, rule int) {
	held := &lease{
		id: x.ID, key: x.Key, rule: rule, server: x.Server, epoch: x.Epoch, pid: x.PID, cancel: x.Cancel, unproven: x.Unproven,
	}
	if x.Ahead {
		held.ahead = &aheadRule{} // of no rule, unless place finds one
	}
	l.leases[held.id] = held
	l.total.used++
	if held.unproven {
		l.total.unproven++
	}
	if x.Worker < 0 {
		l.total.orphans++
		l.place(held)
		return
	}
	held.worker = l.worker(x.Worker)
	held.worker.total.n++
	held.worker.keys[held.key]++
	l.place(held)
}
