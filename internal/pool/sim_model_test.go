package pool

import "slices"

// The model of the simulation: what must hold of each effect and after each step.

func (s *sim) granted(g Grant, moved bool) {
	w := s.waiterOf(g)
	q := s.queues[w.key]
	if !q[0].is(g.Worker, g.Request) {
		s.t.Fatalf("grant %+v, but the oldest of %v is %v", g, w.key, q[0])
	}
	for _, k := range simKeys {
		older := len(s.queues[k.key]) > 0 && s.queues[k.key][0].arrived < q[0].arrived
		if older && s.hasRoom(k.rule) && s.mayHold(k) {
			s.t.Fatalf("grant %+v of %v, but %v is older", g, w.key, k.key)
		}
	}
	s.queues[w.key] = q[1:]
	s.waiting--
	k := simKeys[slices.IndexFunc(simKeys, func(k simKey) bool { return k.key == w.key })]
	if !moved && !s.mayHold(k) {
		s.t.Fatalf("grant %+v of %v beyond the share of unproven logins", g, w.key)
	}
	s.held[g.Lease] = simLease{id: g.Lease, rule: w.rule, key: w.key, unproven: k.unproven && !moved}
	s.grants++
	if n := len(s.held); !s.open || n > s.max {
		s.t.Fatalf("granted the lease number %d of %d (open %v)", n, s.max, s.open)
	}
	if w.rule != NoRule && s.used(w.rule) > s.rules[w.rule].Max {
		s.t.Fatalf("granted beyond rule %d", w.rule)
	}
}

// moved checks that a backend goes to the client that would get its lease, or back.
func (s *sim) moved(m Move) {
	if !m.Back {
		g := Grant{Worker: m.Worker, Request: m.Request, Lease: m.Lease}
		if w := s.waiterOf(g); w.key != s.handed.key {
			s.t.Fatalf("%v got a backend of %v", w.key, s.handed.key)
		}
		s.granted(g, true)
		s.moves++
		return
	}
	s.held[m.Lease] = simLease{id: m.Lease, rule: s.handed.rule, key: s.handed.key}
	if !s.open || len(s.held) > s.max {
		return
	}
	first, arrived := Key{}, -1
	for _, k := range simKeys {
		q := s.queues[k.key]
		room := s.hasRoom(k.rule) || k.rule == s.handed.rule && s.used(k.rule) == s.rules[k.rule].Max
		if len(q) > 0 && room && s.mayHold(k) && (arrived < 0 || q[0].arrived < arrived) {
			first, arrived = k.key, q[0].arrived
		}
	}
	if arrived >= 0 && first == s.handed.key {
		s.t.Fatalf("a backend of %v went back although %v waits", s.handed.key, s.queues[first][0])
	}
}

func (s *sim) waiterOf(g Grant) simWaiter {
	for _, k := range simKeys {
		for _, r := range s.queues[k.key] {
			if r.is(g.Worker, g.Request) {
				return simWaiter{k.key, k.rule}
			}
		}
	}
	s.t.Fatalf("grant %+v to nobody", g)
	return simWaiter{}
}

// hasRoom considers the rule alone.
func (s *sim) hasRoom(rule int) bool {
	return rule == NoRule || s.used(rule) < s.rules[rule].Max
}

// mayHold considers the shares of unproven logins alone.
func (s *sim) mayHold(k simKey) bool {
	if !k.unproven {
		return true
	}
	all, ofRule := 0, 0
	for _, held := range s.held {
		if held.unproven {
			all++
			if held.rule == k.rule {
				ofRule++
			}
		}
	}
	return all < max(1, s.max/4) && (k.rule == NoRule || ofRule < max(1, s.rules[k.rule].Max/4))
}

func (s *sim) used(rule int) int {
	n := 0
	for _, held := range s.held {
		if held.rule == rule {
			n++
		}
	}
	return n
}

// check holds after every step.
func (s *sim) check() {
	excess := max(0, len(s.held)-s.max)
	for r := range s.rules {
		excess += max(0, s.used(r)-s.rules[r].Max)
	}
	if s.open && len(s.held) < s.max {
		for _, k := range simKeys {
			if len(s.queues[k.key]) > 0 && s.hasRoom(k.rule) && s.mayHold(k) {
				s.t.Fatalf("%v waits while there is room", k.key)
			}
		}
	}
	perWorker := map[int]int{}
	for _, w := range s.outstanding {
		perWorker[w]++
		if !s.open || perWorker[w] > s.waiting+excess {
			s.t.Fatalf("worker %d has %d reclaims or more, %d wait, %d are too many (open %v)",
				w, perWorker[w], s.waiting, excess, s.open)
		}
	}
}

// checkCounts compares the totals of the ledger with the model's.
func (s *sim) checkCounts() {
	c := s.ledger.Counts()
	if c.Total != len(s.held) || c.Waiting != s.waiting || c.Orphans != len(s.orphans) {
		s.t.Fatalf("ledger counts %d leases, %d orphans, %d waiting; model %d, %d, %d",
			c.Total, c.Orphans, c.Waiting, len(s.held), len(s.orphans), s.waiting)
	}
	for r := range s.rules {
		if c.Rules[r].Used != s.used(r) {
			s.t.Fatalf("ledger counts %d for rule %d, model %d", c.Rules[r].Used, r, s.used(r))
		}
	}
}

// givenAhead checks a lease that nobody has asked for: there is room, and nobody waits who could use it.
func (s *sim) givenAhead(e Ahead) {
	for _, k := range simKeys {
		if len(s.queues[k.key]) > 0 && s.hasRoom(k.rule) && s.mayHold(k) && len(s.held) < s.max {
			s.t.Fatalf("a lease is given ahead while %v waits", k.key)
		}
	}
	s.held[e.Lease] = simLease{id: e.Lease, rule: 0, key: e.Key}
	s.opening[e.Lease] = e.Worker
	if r := s.rules[0]; !s.open || len(s.held) > s.max || s.used(0) > max(r.Initial, r.Min) || e.Key != r.Key || len(s.opening) > maxAhead {
		s.t.Fatalf("given ahead: lease %d of %d, %d of the rule, %d are being opened (open %v)", len(s.held), s.max, s.used(0), len(s.opening), s.open)
	}
	if len(s.paused) > 0 {
		s.t.Fatalf("given ahead during the pause after a failure")
	}
}

// openAhead opens a backend ahead, or fails to.
func (s *sim) openAhead(i int, w *simWorker, e Ahead) {
	w.leases = append(w.leases, &simLease{id: e.Lease, rule: 0, key: e.Key})
	if !s.calm && s.rnd.IntN(3) == 0 {
		w.letGo(len(w.leases) - 1)
		w.up = append(w.up, func() {
			delete(s.held, e.Lease)
			delete(s.opening, e.Lease)
			effects, rule, pause, err := s.ledger.AheadFailed(i, e.Lease)
			if err != nil || rule != 0 {
				s.t.Fatal(rule, err)
			}
			if pause.For > 0 {
				s.paused = append(s.paused, pause)
			}
			s.apply(effects)
		})
		return
	}
	w.up = append(w.up, func() {
		delete(s.opening, e.Lease)
		s.aheads++
		effects, err := s.ledger.Opened(i, e.Lease, 1, "")
		if err != nil {
			s.t.Fatal(err)
		}
		s.apply(effects)
	})
	s.honour(i, w)
}

// resume ends a pause after a failure.
func (s *sim) resume() {
	pause := s.paused[0]
	s.paused = s.paused[1:]
	s.apply(s.ledger.ResumeAhead(pause))
}
