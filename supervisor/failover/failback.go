package failover

// backAsStandby handles an old primary that was replaced and is in recovery now. With failback = standby it becomes a
// Replica once every probe for failback_quarantine has seen it follow the new primary, and with failover_mode = follow at
// once, because somebody else has made it a standby.
func (m *Machine) backAsStandby(i int) {
	s, quarantine := m.servers[i], m.cfg.Quarantine
	switch {
	case m.cfg.Follow:
		quarantine = 0
	case m.cfg.Failback != FailbackStandby:
		m.become(i, Failed, Plain, "back as a standby")
		return
	}
	if m.phase != PhaseOpen || !m.known.verified || !m.follows(s) {
		s.back = false
		m.become(i, Failed, Plain, "back as a standby, but not seen to follow "+m.nameOf(m.known.index))
		return
	}
	if !s.back {
		s.back, s.backSince = true, m.now
	}
	if m.now < s.backSince+quarantine {
		m.become(i, Failed, Plain, "back as a standby, in quarantine for "+short(quarantine))
		return
	}
	s.back, s.excluded, s.recheck = false, false, false
	why := "followed " + m.nameOf(m.known.index) + " for " + short(quarantine)
	if m.cfg.Follow {
		why = "follows " + m.nameOf(m.known.index)
	}
	m.remember(HistoryEntry{Kind: "failback", Reason: why, Result: "Replica again", Old: s.cfg.Name, New: m.nameOf(m.known.index)})
	m.become(i, Replica, Plain, why)
}
