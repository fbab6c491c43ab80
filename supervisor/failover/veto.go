package failover

import (
	"fmt"
	"strings"
)

// veto returns why server i, which is silent, must not be given up yet, "" if nothing speaks against it. A standby vetoes
// if it has received something from the server after the server's latest failed probe began. So each failed probe asks
// the standbys anew, and veto waits for a probe of each. A silent stream proves nothing, because an idle primary sends
// only every 30 s. A standby whose receiver can't be seen vetoes nothing.
func (m *Machine) veto(i int) (why string, vetoed bool) {
	s := m.servers[i]
	if !m.cfg.Veto || s.deadRow == 0 || s.refusedRow >= m.cfg.ProbeCount || m.now >= s.firstDead+m.cfg.VetoMax {
		return "", false
	}
	var by []string
	for j, w := range m.each() {
		if j == i || w.state == Failed || m.foreign(w) || m.alias(j) || !m.streamsFrom(w, s) {
			continue
		}
		if w.lastStarted < s.lastEnded {
			return "silent; waiting for a look at " + w.cfg.Name, false
		}
		if w.obs.LastMsgKnown && w.lastEnded-w.obs.LastMsgAge > s.lastStarted {
			by = append(by, w.cfg.Name)
		}
	}
	if len(by) == 0 {
		return "", false
	}
	return fmt.Sprintf("silent, but %s received from it a moment ago: vetoed, for failover_veto_max (%s) at most", strings.Join(by, ", "), m.cfg.VetoMax), true
}

// streamsFrom reports whether w streams from s or an unknown sender. A standby of another configured server goes on
// streaming whatever happens to s.
func (m *Machine) streamsFrom(w, s *server) bool {
	if w.last != SawStandby || w.obs.Receiver != ReceiverStreaming {
		return false
	}
	return w.obs.SenderServer == "" || w.obs.SenderServer == s.cfg.Name
}

// lockedUp reports whether a server still serves its old connections but has let nobody log in for failover_veto_max,
// for instance because its postmaster is stopped. Neither bytes on pooled connections nor streaming standbys may hide
// that forever. To tell this from a cut network, something must show that its host works: bytes on a pooled connection,
// or, if failover_fence_script will cut the server off anyway, connections that it accepts.
func (m *Machine) lockedUp(s *server) bool {
	if m.cfg.Follow || m.now < s.firstDead+m.cfg.VetoMax {
		return false
	}
	accepts := s.last == SawSilent && s.code == "" && m.cfg.FenceScript
	return accepts || (s.byteKnown && s.byteAt > s.lastStarted)
}

// showVeto marks a suspected primary that would have been given up if no standby had vetoed.
func (m *Machine) showVeto() {
	s := m.servers[m.known.index]
	if s.state != Primary || (s.qual != Plain && s.qual != Vetoed) {
		return
	}
	why, vetoed := m.veto(m.known.index)
	switch {
	case vetoed && s.deadRow >= m.cfg.ProbeCount:
		m.become(m.known.index, Primary, Vetoed, why)
	case s.qual == Vetoed && why == "":
		m.become(m.known.index, Primary, Plain, m.why)
	}
}

// keptSilent reports whether the suspected primary has been silent for so long that something must prevent its
// failover; m.why says what. It allows one round of probes more than failover_silence_time, since the last probe
// decides.
func (m *Machine) keptSilent() bool {
	if m.phase != PhaseSuspect || m.known.index < 0 || m.isolated() {
		return false
	}
	s := m.servers[m.known.index]
	mostly := s.silent() || s.last == SawRefused && s.refusedRow < m.cfg.ProbeCount
	return mostly && s.deadRow >= m.cfg.ProbeCount && m.now >= s.firstDead+m.cfg.SilenceTime+m.cfg.ProbeTimeout+m.cfg.ProbeInterval
}

// showSilence raises the alarm, but only once the workers have answered: before that, m.why says only what the machine
// waits for.
func (m *Machine) showSilence() {
	if !m.keptSilent() {
		m.clear("silent")
		return
	}
	if s := m.servers[m.known.index]; s.activityKnown && s.activityAt >= s.lastStarted {
		m.raise("silent", m.nameOf(m.known.index)+" lets nobody log in: "+m.why)
	}
}
