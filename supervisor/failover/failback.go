package failover

// backAsStandby handles an old primary that was replaced and is in recovery now. With failback = standby it becomes a
// Replica once every probe for failback_quarantine has seen it follow the new primary.
func (m *Machine) backAsStandby(i int) {
	s := m.servers[i]
	if m.cfg.Failback != FailbackStandby {
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
	if m.now < s.backSince+m.cfg.Quarantine {
		m.become(i, Failed, Plain, "back as a standby, in quarantine for "+short(m.cfg.Quarantine))
		return
	}
	s.back, s.excluded, s.recheck = false, false, false
	why := "followed " + m.nameOf(m.known.index) + " for " + short(m.cfg.Quarantine)
	m.remember(HistoryEntry{Kind: "failback", Reason: why, Result: "Replica again", Old: s.cfg.Name, New: m.nameOf(m.known.index)})
	m.become(i, Replica, Plain, why)
}
