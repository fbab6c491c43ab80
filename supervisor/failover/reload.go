package failover

import "errors"

// onReload takes new settings over at once; another list of servers only while no failover is under way.
func (m *Machine) onReload(ev Reload) {
	if m.run != nil && m.run.hook != HookNotify {
		m.reply(ev.Tag, errRunning)
		return
	}
	if sameServers(m.cfg.Servers, ev.Config.Servers) {
		m.cfg = withDefaults(ev.Config)
		for i, s := range m.servers {
			s.cfg = m.cfg.Servers[i]
		}
		m.changes++
		m.letGo()
		m.reply(ev.Tag, nil)
		return
	}
	if m.run != nil || (m.phase != PhaseOpen && m.phase != PhaseHeld && m.phase != PhaseStarting) {
		m.reply(ev.Tag, errors.New("the servers can't be changed during a failover: try again when it has ended"))
		return
	}
	m.replaceServers(ev.Config)
	m.reply(ev.Tag, nil)
}

// letGo drops a failover that has not come to its run when failover was switched off.
func (m *Machine) letGo() {
	busy := m.phase == PhaseSuspect || m.phase == PhaseChoosing || (m.phase == PhaseFencing && m.fence.target < 0)
	if m.cfg.Enabled || !busy || m.primary < 0 {
		return
	}
	m.become(m.primary, Primary, Plain, "failover was switched off")
	m.enter(PhaseOpen, "failover was switched off")
}

func sameServers(a, b []ServerConfig) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Host != b[i].Host || a[i].Port != b[i].Port {
			return false
		}
	}
	return true
}

// replaceServers keeps what is known of servers whose name, host and port are unchanged. Without the recorded
// primary the servers' own answers decide again, as at a start.
func (m *Machine) replaceServers(c Config) {
	known := map[[3]string]*server{}
	for _, s := range m.servers {
		known[[3]string{s.cfg.Name, s.cfg.Host, s.cfg.Port}] = s
	}
	var primary *server
	if m.primary >= 0 {
		primary = m.servers[m.primary]
	}
	for i := range m.commands {
		m.reply(m.commands[i].tag, errOvertaken)
	}
	if m.plan != nil {
		m.answer(&m.plan.command, errOvertaken)
		m.plan = nil
	}
	last := m.last
	old, next := "", ""
	if last != nil {
		old, next = m.nameOf(last.old), m.nameOf(last.next)
	}
	m.commands, m.servers, m.cfg = nil, nil, withDefaults(c)
	m.primary, m.last, m.notifyOwed, m.verdicts = -1, nil, false, nil
	for i, sc := range m.cfg.Servers {
		s := known[[3]string{sc.Name, sc.Host, sc.Port}]
		if s == nil {
			s = &server{}
		}
		s.cfg = sc
		m.servers = append(m.servers, s)
		if s == primary {
			m.primary = i
		}
	}
	m.changes++
	if m.primary >= 0 && m.phase == PhaseOpen {
		return
	}
	if m.primary >= 0 && last != nil && m.nameOf(m.primary) == old { // a failed run is not forgotten
		m.last = &ended{hold: last.hold, id: last.id, old: m.primary, next: m.indexOf(next), why: last.why}
	}
	if m.primary < 0 {
		m.system, m.timeline, m.verified, m.seenWritable, m.lsn = 0, 0, false, false, 0
	}
	m.setOpen(false)
	m.enter(PhaseStarting, "the servers were changed by a reload")
}
