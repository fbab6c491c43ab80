package failover

import "fmt"

// waitForOthers holds in place of a promotion: with failover_mode = follow somebody else makes it, and what that
// server shows of itself is followed by settle.
func (m *Machine) waitForOthers() {
	old := m.known.index
	m.verdicts = nil // nobody was chosen
	why := fmt.Sprintf("%s is dead, and with failover_mode = follow somebody else promotes", m.nameOf(old))
	m.remember(HistoryEntry{Kind: "no_candidate", Reason: m.why, Result: why, Old: m.nameOf(old)})
	m.giveUpOn(holdFollow, why)
}
