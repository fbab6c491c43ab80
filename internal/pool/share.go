package pool

// shareOf returns how many leases of a gate unproven logins may hold: a quarter, at
// least one.
func shareOf(limit int) int { return max(1, limit/4) }

// eligible returns how many unproven requests of a rule the shares would admit now.
func (l *Ledger) eligible(g *gate) int { return min(g.unknown.n, g.shareRoom(), l.total.shareRoom()) }

func (g *gate) shareRoom() int { return max(0, shareOf(g.max)-g.unproven) }

// demand returns how many requests wait for the gate of the total alone.
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

// shareHasRoom reports whether a gate may have another claim for an unproven request. There
// must not be more such claims than the shares would admit.
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

// dropBeyondShare drops the claims of the latest clients if the shares no longer have
// room for them.
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

// queueOf returns the queue of a rule for a request.
func (g *gate) queueOf(q *waiter) *queue {
	if q.unproven {
		return &g.unknown
	}
	return &g.queue
}

// first returns the older of the requests that pick selects from the heads of a rule's
// two queues. It considers unproven requests only if their share has room.
func (l *Ledger) first(g *gate, pick func(*waiter) *waiter) *waiter {
	q := pick(g.queue.head)
	if l.eligible(g) > 0 {
		if u := pick(g.unknown.head); u != nil && (q == nil || u.before(q)) {
			return u
		}
	}
	return q
}

// countUnproven changes the count of leases in the shares. It touches all rules,
// because the total's share concerns them all.
func (l *Ledger) countUnproven(rule, n int) {
	l.rules[rule].unproven += n
	l.total.unproven += n
	l.touchAll()
}
