package failover

import "time"

// startProbes starts every probe that is due, at most one per server at a time.
func (m *Machine) startProbes() {
	if m.phase == PhaseNew {
		return
	}
	for i, s := range m.each() {
		if s.inflight != 0 {
			continue
		}
		if at, ok := m.probeDue(i); !ok || at > m.now {
			continue
		}
		m.probeID++
		s.inflight, s.asked, s.wanted = m.probeID, m.now, false
		m.first = append(m.first, Probe{Server: i, ID: m.probeID, Timeout: m.cfg.ProbeTimeout})
	}
}

// probeDue returns when the next probe of a server is due, or when the probe in progress is given up.
func (m *Machine) probeDue(i int) (time.Duration, bool) {
	s := m.servers[i]
	if s.inflight != 0 {
		return s.asked + m.cfg.ProbeTimeout + answerSlack, true
	}
	every, ok := m.probeEvery(i)
	if (s.wanted || m.commandWants(i)) && (!ok || every > m.cfg.ProbeInterval) {
		every, ok = m.cfg.ProbeInterval, true // hints are coalesced to one probe per interval
	}
	if !ok {
		return 0, false
	}
	if s.lastEnded == 0 {
		return m.now, true
	}
	if s.back && m.cfg.Failback == FailbackStandby { // a probe ends its quarantine
		every = min(every, max(s.backSince+m.cfg.Quarantine-s.lastEnded, m.cfg.ProbeInterval))
	}
	return s.lastEnded + every, true
}

// With failover_mode = follow nobody tells the machine of a promotion, and clients wait until it sees one. So it looks
// more often than it needs for a decision of its own, but not for ever: a server may stay dead for days.
const (
	successorInterval = 100 * time.Millisecond
	successorTime     = time.Minute
)

// awaitsSuccessor reports whether server i may have been promoted by somebody else just now.
func (m *Machine) awaitsSuccessor(i int) bool {
	if !m.cfg.Follow || i == m.known.index || m.foreign(m.servers[i]) {
		return false
	}
	switch m.phase {
	case PhaseSuspect, PhaseFencing, PhaseHeld:
		return m.now < m.since+successorTime
	default:
		return false
	}
}

// probeEvery returns the pause between two probes of a server in this phase; false means no regular probes.
func (m *Machine) probeEvery(i int) (time.Duration, bool) {
	every, ok := m.usualInterval(i)
	if m.awaitsSuccessor(i) {
		every = min(every, successorInterval)
	}
	return every, ok
}

func (m *Machine) usualInterval(i int) (time.Duration, bool) {
	switch m.phase {
	case PhaseNew:
		return 0, false
	case PhaseStarting, PhaseSuspect, PhaseFencing:
		return m.cfg.ProbeInterval, true
	case PhaseChoosing, PhaseSwitching:
		return min(sampleInterval, m.cfg.ProbeInterval), true
	case PhaseVerifying:
		if i == m.verifying() {
			return m.cfg.ProbeInterval, true
		}
		return m.cfg.HeldInterval, true
	case PhaseRunning, PhaseHeld:
		return m.cfg.HeldInterval, true
	case PhaseOpen:
	}
	every, ok := m.cfg.HealthCheckPeriod, m.cfg.HealthCheck
	if m.watched(i) && (!ok || every > m.cfg.WatchInterval) {
		every, ok = m.cfg.WatchInterval, true
	}
	return every, ok
}

// watched reports whether a server is probed regularly while the primary is open, because its state may improve or get
// worse.
func (m *Machine) watched(i int) bool {
	s := m.servers[i]
	if s.noAddress || m.servers[m.known.index].qual == NotWritable {
		return true
	}
	if s.last == SawAlive && s.code != tooManyConnections {
		return false // probes can't log in, so they would show nothing new
	}
	if i == m.known.index {
		return s.last != SawPrimary
	}
	if m.foreign(s) && s.state != Failed {
		return false
	}
	return s.state == Failed || s.state == NotInit || s.state == NotInitPrimary || s.qual != Plain || s.recheck
}

// forgetLostProbes gives up probes that were not answered. They count neither for nor against the server.
func (m *Machine) forgetLostProbes() {
	for _, s := range m.each() {
		if s.inflight != 0 && m.now >= s.asked+m.cfg.ProbeTimeout+answerSlack {
			s.inflight, s.lastEnded = 0, m.now
			m.log(Warn, "a probe was never answered", Attr{"server", s.cfg.Name})
		}
	}
}
