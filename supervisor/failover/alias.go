package failover

import "cmp"

// findTwins compares server i, which has just been looked at, with the others. Two names are one server when system
// identifier, start of the postmaster and control data are the same. Start and checkpoint only grow, so a later look that
// shows less than an earlier one at the other name tells two servers apart; one that shows more decides nothing.
func (m *Machine) findTwins(i int) {
	s := m.servers[i]
	for j, o := range m.servers {
		if j == i || s.obs.PostmasterStart == 0 || o.obs.PostmasterStart == 0 {
			continue
		}
		order := cmp.Or(cmp.Compare(s.obs.PostmasterStart, o.obs.PostmasterStart), cmp.Compare(s.obs.Checkpoint, o.obs.Checkpoint))
		switch {
		case s.system != o.system || order < 0:
			m.setTwins(i, j, false)
		case order == 0:
			m.setTwins(i, j, true)
		case m.twins[twinsOf(i, j)]:
			o.wanted = true // it has been restarted, or has made a checkpoint, since the other name was looked at
		}
	}
}

// twinsOf is two servers in the order of the configuration.
func twinsOf(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

func (m *Machine) setTwins(i, j int, same bool) {
	if m.twins[twinsOf(i, j)] == same {
		return
	}
	m.twins[twinsOf(i, j)] = same
	m.changed()
	if !same {
		return
	}
	m.log(Warn, "two sections are one server: delete one of them", Attr{"server", m.nameOf(i)}, Attr{"other", m.nameOf(j)})
	for _, k := range []int{i, j} { // the one that was looked at first doesn't know yet
		if m.alias(k) {
			m.classify(k)
		}
	}
}

// sameAs is the server that i is another name of, -1 for none. The recorded primary is nobody's other name, then comes
// the hint, then the configuration's order.
func (m *Machine) sameAs(i int) int {
	best := i
	for j := range m.servers {
		if m.twins[twinsOf(i, j)] && m.namedBefore(j, best) {
			best = j
		}
	}
	if best == i {
		return -1
	}
	return best
}

func (m *Machine) namedBefore(a, b int) bool {
	switch {
	case a == m.known.index || b == m.known.index:
		return a == m.known.index
	case m.servers[a].cfg.PrimaryHint != m.servers[b].cfg.PrimaryHint:
		return m.servers[a].cfg.PrimaryHint
	}
	return a < b
}

// alias reports whether a server is another one's second name, which neither counts nor is chosen.
func (m *Machine) alias(i int) bool { return m.sameAs(i) >= 0 }

// aliasText says so.
func (m *Machine) aliasText(i int) string { return "the same server as " + m.nameOf(m.sameAs(i)) }
