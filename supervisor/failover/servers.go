package failover

import (
	"fmt"
	"iter"
	"slices"
)

// A reload may add, remove, move (to another host or port), rename and re-order servers. The slot of a server, its index,
// stays; a slot whose server was removed or moved begins anew.

// each returns the servers in the order of the configuration, each with its slot.
func (m *Machine) each() iter.Seq2[int, *server] {
	return func(yield func(int, *server) bool) {
		for n := range m.servers {
			i := n
			if order := m.cfg.Order; order != nil {
				if n == len(order) {
					return
				}
				i = order[n]
			}
			if s := m.servers[i]; s != nil && !yield(i, s) {
				return
			}
		}
	}
}

// count returns how many servers there are.
func (m *Machine) count() int {
	n := 0
	for range m.each() {
		n++
	}
	return n
}

// place returns the place of a server in the configuration.
func (m *Machine) place(i int) int {
	if m.cfg.Order == nil {
		return i
	}
	return slices.Index(m.cfg.Order, i)
}

// moved reports whether a slot has another server in c than now; in particular whether its server is gone.
func (m *Machine) moved(i int, c ServerConfig) bool {
	was := m.servers[i].cfg
	return c.Name == "" || c.Host != was.Host || c.Port != was.Port
}

// Refuses returns why the servers of a configuration can't take the place of the present ones now, or "".
func (m *Machine) Refuses(c Config) string {
	var lost []int
	added := false
	for i, sc := range c.Servers {
		switch {
		case !m.valid(i):
			added = added || sc.Name != ""
		case m.moved(i, sc):
			lost = append(lost, i)
		}
	}
	switch {
	case !added && len(lost) == 0:
		return ""
	case m.phase != PhaseOpen && m.phase != PhaseHeld:
		return "servers can't be added, removed or moved in the phase " + m.phase.String()
	case m.runs.current != nil, m.runs.blocker != "", m.plan != nil, len(m.commands) > 0:
		return "servers can't be added, removed or moved while a script or a command has not ended"
	}
	for _, i := range lost {
		if why := m.holdsOnTo(i); why != "" {
			return why
		}
	}
	return ""
}

// holdsOnTo returns why a server can be neither removed nor moved now, or "".
func (m *Machine) holdsOnTo(i int) string {
	s, last := m.servers[i], m.runs.last
	name := s.cfg.Name
	switch {
	case i == m.known.index:
		return fmt.Sprintf("%s is the primary, which can be neither removed nor moved; add the other server as a section of its own, "+
			"make it the primary with pgagroal-cli switch-to, and then remove %s", name, name)
	case m.notify.owed:
		return fmt.Sprintf("failover_notify_script has still to run, so %s can be neither removed nor moved", name)
	case s.back:
		return fmt.Sprintf("%s is in quarantine (failback_quarantine), so it can be neither removed nor moved", name)
	case m.phase == PhaseHeld && last != nil && (last.old == i || last.next == i):
		return fmt.Sprintf("the hold is about %s, which can be neither removed nor moved: %s", name, m.why)
	}
	return ""
}

// takeServers takes over the servers of the configuration. If they are others than before, the primary is looked at, because
// it names its synchronous standbys, of which only configured ones count.
func (m *Machine) takeServers() {
	others := false
	for i, c := range m.cfg.Servers {
		if i == len(m.servers) {
			m.servers = append(m.servers, nil)
		}
		if s := m.servers[i]; s != nil && m.moved(i, c) {
			m.assert(i != m.known.index, "the primary %s is removed", s.cfg.Name)
			m.drop(i)
			others = true
		}
		switch s := m.servers[i]; {
		case c.Name == "":
		case s == nil:
			m.servers[i] = &server{cfg: c}
			m.changed()
			others = true
		default:
			if s.cfg.Name != c.Name {
				m.clearOf(s)
				m.known.renamed(s.cfg.Name, c.Name)
				others = true
			}
			s.cfg = c
		}
	}
	if others && m.valid(m.known.index) {
		m.servers[m.known.index].wanted = true
	}
}

// drop forgets a server.
func (m *Machine) drop(i int) {
	s := m.servers[i]
	m.clearOf(s)
	if s.noAddress {
		m.clear("address")
	}
	for pair := range m.twins {
		if pair[0] == i || pair[1] == i {
			delete(m.twins, pair)
		}
	}
	m.known.renamed(s.cfg.Name, "")
	m.runs.without(i)
	m.servers[i] = nil
	m.changed()
}

// clearOf ends the alarms that a server's name is part of.
func (m *Machine) clearOf(s *server) {
	m.clear("probe " + s.cfg.Name)
	m.clear("unseen " + s.cfg.Name)
}
