package pool

import (
	"maps"
	"slices"
)

// Resize puts other limits in force. remap gives the new rule index of what was
// counted under an old one; nil keeps the indices. What is in use above a lower
// limit is reclaimed; requests that the new limits never grant are refused.
func (l *Ledger) Resize(limit int, rules []Rule, remap func(key Key, rule int) int) []Effect {
	for _, g := range l.allGates() {
		for len(g.claims) > 0 {
			l.drop(g.claims[len(g.claims)-1])
		}
	}
	move := func(key Key, rule int) int {
		to := rule - 1
		if remap != nil {
			to = remap(key, to)
		}
		if to < NoRule || to >= len(rules) {
			to = NoRule
		}
		return to + 1
	}
	waiting := byArrival(l.order...)
	l.total.max = limit
	l.rules, l.demand = gates(rules), 0
	l.recount(move)
	for _, q := range waiting {
		l.requeue(q, move(q.key, q.rule))
	}
	l.touchAll()
	return l.settle()
}

func (l *Ledger) allGates() []*gate {
	all := []*gate{&l.total}
	for r := range l.rules {
		all = append(all, &l.rules[r])
	}
	return all
}

// byArrival returns the requests of some workers in the order of their arrival.
func byArrival(workers ...*worker) []*waiter {
	var all []*waiter
	for _, w := range workers {
		for _, q := range w.waiting {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, (*waiter).compare)
	return all
}

// recount counts every lease under its new rule, in the order of their grants,
// so that effects don't depend on map order.
func (l *Ledger) recount(move func(Key, int) int) {
	for _, w := range l.order {
		w.rules = make([]holding, len(l.rules))
	}
	for _, id := range slices.Sorted(maps.Keys(l.leases)) {
		held := l.leases[id]
		held.rule = move(held.key, held.rule)
		l.rules[held.rule].used++
		if held.worker == nil {
			l.rules[held.rule].orphans++
			continue
		}
		h := &held.worker.rules[held.rule]
		held.pos = h.n
		h.leases = append(h.leases, held)
		h.n++
		h.newest = held.id
	}
}

// requeue puts a request into the queue of its new rule, or refuses it.
func (l *Ledger) requeue(q *waiter, rule int) {
	q.prev, q.next, q.rule = nil, nil, rule
	if reason := l.refusal(rule - 1); reason != 0 {
		delete(q.worker.waiting, q.id)
		l.emit(Refuse{Worker: q.worker.index, Request: q.id, Reason: reason})
		return
	}
	l.rules[rule].queue.push(q)
}
