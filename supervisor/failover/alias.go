package failover

import "cmp"

// findTwins compares server i, which has just been probed, with the others. Two names are one server if system
// identifier, start of the postmaster and position of the latest checkpoint are the same. Start and checkpoint only
// grow. So if the later probe shows less than the earlier probe of the other name, these are two servers; if it shows
// more, the other name must be probed again.
func (m *Machine) findTwins(i int) {
	s := m.servers[i]
	for j, o := range m.each() {
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
			o.wanted = true // the server may have been restarted or made a checkpoint since the other name was probed
		}
	}
}

// twinsOf returns the two servers in the order of the configuration.
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
	for _, k := range []int{i, j} { // the server that was probed first still has a state of its own
		if m.alias(k) {
			m.classify(k)
		}
	}
}

// sameAs returns the server of which i is another name, -1 for none. The main name is the recorded primary, else the
// hinted primary, else the first in the configuration.
func (m *Machine) sameAs(i int) int {
	best := i
	for j := range m.each() {
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
	return m.place(a) < m.place(b)
}

// alias reports whether a section is a second name of a server that another section names already. Such a name doesn't
// count and can't be promoted.
func (m *Machine) alias(i int) bool { return m.sameAs(i) >= 0 }

// aliasText says of which server i is another name.
func (m *Machine) aliasText(i int) string { return "the same server as " + m.nameOf(m.sameAs(i)) }
