package failover

import "fmt"

// waitForOthers holds instead of promoting: with failover_mode = follow somebody else promotes a server, and settle
// follows that server once its probes show the promotion.
func (m *Machine) waitForOthers() {
	old := m.known.index
	m.verdicts = nil // nobody was chosen
	why := fmt.Sprintf("%s is dead, and with failover_mode = follow somebody else promotes", m.nameOf(old))
	m.remember(HistoryEntry{Kind: "no_candidate", Reason: m.why, Result: why, Old: m.nameOf(old)})
	m.giveUpOn(holdFollow, why)
}

// barred reports whether a server is never used, because another one has replaced it. With failover_mode = follow a
// higher timeline shows that somebody else has promoted it since.
func (m *Machine) barred(s *server) bool {
	return s.excluded && !(m.cfg.Follow && m.known.timeline != 0 && s.timeline > m.known.timeline)
}
