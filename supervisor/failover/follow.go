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
