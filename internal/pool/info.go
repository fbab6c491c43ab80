package pool

import (
	"cmp"
	"slices"
)

// Lease returns one lease.
func (l *Ledger) Lease(id uint64) (Lease, bool) {
	held := l.leases[id]
	if held == nil {
		return Lease{}, false
	}
	return held.info(), true
}

func (held *lease) info() Lease {
	info := Lease{
		ID: held.id, Worker: -1, Key: held.key, Rule: held.rule - 1,
		Server: held.server, Epoch: held.epoch, PID: held.pid, Cancel: held.cancel, Unproven: held.unproven,
	}
	if held.worker != nil {
		info.Worker = held.worker.index
	}
	return info
}

// Waiting returns how many requests of a worker wait.
func (l *Ledger) Waiting(worker int) int {
	if w := l.workers[worker]; w != nil {
		return len(w.waiting)
	}
	return 0
}

// Asked reports whether a worker's request with this id waits.
func (l *Ledger) Asked(worker int, id uint64) bool {
	w := l.workers[worker]
	return w != nil && w.waiting[id] != nil
}

// Used returns how many leases the pools have that which selects, those of dead workers included.
func (l *Ledger) Used(which func(Key) bool) (n int) {
	for _, held := range l.leases {
		if which(held.key) {
			n++
		}
	}
	return n
}

// On returns how many leases are for a server, those of dead workers included.
func (l *Ledger) On(server int) (n int) {
	for _, held := range l.leases {
		if held.server == server {
			n++
		}
	}
	return n
}

// Held returns how many leases a worker has.
func (l *Ledger) Held(worker int) int {
	if w := l.workers[worker]; w != nil {
		return w.total.n
	}
	return 0
}

// UpTo returns the leases of this epoch and all earlier ones, orphans included, oldest
// first. These are the leases that a fence of the epoch concerns.
func (l *Ledger) UpTo(epoch uint64) []Lease {
	var old []Lease
	for _, held := range l.leases {
		if held.epoch <= epoch {
			old = append(old, held.info())
		}
	}
	slices.SortFunc(old, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return old
}

// Counts returns a snapshot. It walks over all leases.
func (l *Ledger) Counts() Counts {
	c := Counts{
		Max: l.total.max, Total: l.total.used, Orphans: l.total.orphans,
		Reclaims: len(l.total.claims), Unproven: l.total.unproven,
		Rules: make([]RuleCount, len(l.rules)-1), Workers: map[int]int{},
	}
	c.Waiting = l.parked.n
	for r := range l.rules {
		g := &l.rules[r]
		waiting := g.queue.n + g.unknown.n
		c.Waiting += waiting
		c.Reclaims += len(g.claims)
		if r > 0 {
			c.Rules[r-1] = RuleCount{Max: g.max, Used: g.used, Waiting: waiting}
		}
	}
	for _, held := range l.leases {
		if held.worker != nil {
			c.Workers[held.worker.index]++
		}
	}
	return c
}

// Holders returns the holders of the leases, the largest pool first, to be logged with
// a refusal. It walks over all leases.
func (l *Ledger) Holders() []Holder {
	at := map[Key]int{}
	var holders []Holder
	for _, held := range l.leases {
		i, ok := at[held.key]
		if !ok {
			i = len(holders)
			at[held.key] = i
			holders = append(holders, Holder{Key: held.key, Workers: map[int]int{}})
		}
		holders[i].Total++
		holders[i].Workers[held.info().Worker]++
	}
	slices.SortFunc(holders, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Key.Database, b.Key.Database),
			cmp.Compare(a.Key.User, b.Key.User), cmp.Compare(a.Key.Params, b.Key.Params))
	})
	return holders
}
