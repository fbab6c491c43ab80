package pool

// shareOf returns how many leases of a gate may be held by logins that have proven
// nothing: a quarter, at least one.
func shareOf(limit int) int { return max(1, limit/4) }

// eligible returns how many of the unproven requests of a rule may be granted now, as
// far as the shares go.
func (l *Ledger) eligible(g *gate) int { return min(g.unknown.n, g.shareRoom(), l.total.shareRoom()) }

func (g *gate) shareRoom() int { return max(0, shareOf(g.max)-g.unproven) }

// demand returns how many requests only wait for the total.
func (l *Ledger) demand() int {
	proven, unproven := 0, 0
	for r := range l.rules {
		g := &l.rules[r]
		n := min(g.queue.n, max(0, g.max-g.used))
		proven += n
		unproven += g.demand - n
	}
	return proven + min(unproven, l.total.shareRoom())
}

// shareHasRoom reports whether another claim of a gate may be for an unproven request:
// no more are made than could be granted.
func (l *Ledger) shareHasRoom(g *gate, q *waiter) bool {
	all, ofRule := 0, 0
	for _, c := range g.claims {
		if c.waiter.unproven {
			all++
			if c.waiter.rule == q.rule {
				ofRule++
			}
		}
	}
	return all < l.total.shareRoom() && ofRule < l.eligible(&l.rules[q.rule])
}

// dropBeyondShare ends the youngest claims of a gate that the shares have no room for
// any more.
func (l *Ledger) dropBeyondShare(g *gate) {
	all, ofRule := 0, map[int]int{}
	for i := 0; i < len(g.claims); {
		c := g.claims[i]
		r := c.waiter.rule
		switch {
		case !c.waiter.unproven:
			i++
		case all < l.total.shareRoom() && ofRule[r] < l.eligible(&l.rules[r]):
			all++
			ofRule[r]++
			i++
		default:
			l.drop(c)
		}
	}
}

// queueOf returns the queue of a rule that a request belongs in.
func (g *gate) queueOf(q *waiter) *queue {
	if q.unproven {
		return &g.unknown
	}
	return &g.queue
}

// first returns the older of the requests that pick finds from the heads of a rule's
// queues, that of unproven ones as far as their share has room.
func (l *Ledger) first(g *gate, pick func(*waiter) *waiter) *waiter {
	q := pick(g.queue.head)
	if l.eligible(g) > 0 {
		if u := pick(g.unknown.head); u != nil && (q == nil || u.before(q)) {
			return u
		}
	}
	return q
}

// countUnproven counts leases against the shares. What the total has room for concerns
// all rules.
func (l *Ledger) countUnproven(rule, n int) {
	l.rules[rule].unproven += n
	l.total.unproven += n
	l.touchAll()
}
