package pool

import (
	"cmp"
	"maps"
	"slices"
)

// Relimit changes the limits. Leases and requests get the rule that ruleOf returns for
// their pool and their present rule: an index of rules, or NoRule. Leases above the new
// limits stay until their workers return them; nothing more is granted before that. The
// requests keep their order.
func (l *Ledger) Relimit(limit int, rules []Rule, ruleOf func(key Key, rule int) int) []Effect {
	for len(l.total.claims) > 0 {
		l.drop(l.total.claims[0])
	}
	for r := range l.rules {
		for g := &l.rules[r]; len(g.claims) > 0; {
			l.drop(g.claims[0])
		}
	}
	l.total.max = limit
	l.rules, l.parked = gates(rules), queue{}
	for _, w := range l.order {
		w.rules = make([]holding, len(l.rules))
		w.total.stale = 0
		for _, q := range byArrival(w) {
			q.rule = ruleOf(q.key, q.rule-1) + 1
			q.prev, q.next = nil, nil
			l.enqueue(q)
		}
	}
	epoch := l.ahead.epoch
	l.ahead = newAhead(rules)
	l.ahead.epoch = epoch
	for _, r := range l.ahead.rules {
		r.goal = r.Min
	}
	for _, held := range l.byAge() {
		held.rule = ruleOf(held.key, held.rule-1) + 1
		l.place(held)
	}
	l.touchAll()
	return l.settle()
}

// byAge returns all leases, the oldest first.
func (l *Ledger) byAge() []*lease {
	return slices.SortedFunc(maps.Values(l.leases), func(a, b *lease) int { return cmp.Compare(a.id, b.id) })
}

// place counts a lease that there is already at the gate of its rule.
func (l *Ledger) place(held *lease) {
	g := &l.rules[held.rule]
	g.used++
	if held.unproven {
		g.unproven++
	}
	if held.ahead != nil {
		l.ahead.opening++
		// If the rule opens nothing ahead any more, the lease ends with its old one.
		for _, r := range l.ahead.rules {
			if r.at == held.rule && r.Key == held.key {
				held.ahead = r
				r.opening++
			}
		}
	}
	if held.worker == nil {
		g.orphans++
		return
	}
	h := &held.worker.rules[held.rule]
	held.pos = h.n
	h.leases = append(h.leases, held)
	h.n++
	h.newest = held.id
}
