package failover

import (
	"fmt"
	"strings"
)

// veto says why a server i that isn't dead by refusals must not be given up, "" for nothing: vetoed by standbys that
// have received something from it since its latest failed probe began, or because a look at one, made after the end of
// that probe, is still awaited. So each failed probe asks anew. A silent stream says nothing, since an idle primary
// sends every 30 s only; a standby that may not show its receiver is unknown and vetoes nothing.
func (m *Machine) veto(i int) (why string, vetoed bool) {
	s := m.servers[i]
	if !m.cfg.Veto || s.deadRow == 0 || s.refusedRow >= m.cfg.ProbeCount || m.now >= s.firstDead+m.cfg.VetoMax {
		return "", false
	}
	var by []string
	for j, w := range m.servers {
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

// streamsFrom says that w streams, and not from another configured server than s: such a one goes on streaming
// whatever becomes of s.
func (m *Machine) streamsFrom(w, s *server) bool {
	if w.last != SawStandby || w.obs.Receiver != ReceiverStreaming {
		return false
	}
	return w.obs.SenderServer == "" || w.obs.SenderServer == s.cfg.Name
}

// lockedUp says that a server works for those who are connected and has let nobody log in for failover_veto_max, such
// as one whose postmaster is stopped: neither bytes on pooled connections nor standbys that receive may hide that for
// ever. That its host can be reached has to be seen, since it is what tells this from a cut network: by bytes on a
// pooled connection, or, if failover_fence_script is going to make sure, by connections that it accepts.
func (m *Machine) lockedUp(s *server) bool {
	if m.cfg.Follow || m.now < s.firstDead+m.cfg.VetoMax {
		return false
	}
	accepts := s.last == SawSilent && s.code == "" && m.cfg.FenceScript
	return accepts || (s.byteKnown && s.byteAt > s.lastStarted)
}

// showVeto shows on the suspected primary that it would be given up without the standbys' word.
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

// keptSilent says that the suspected primary has been silent for so long that something must be in the way of giving it
// up: m.why says what. One round of probes more than failover_silence_time, since the last look decides.
func (m *Machine) keptSilent() bool {
	if m.phase != PhaseSuspect || m.known.index < 0 || m.isolated() {
		return false
	}
	s := m.servers[m.known.index]
	mostly := s.silent() || s.last == SawRefused && s.refusedRow < m.cfg.ProbeCount
	return mostly && s.deadRow >= m.cfg.ProbeCount && m.now >= s.firstDead+m.cfg.SilenceTime+m.cfg.ProbeTimeout+m.cfg.ProbeInterval
}

// showSilence raises the alarm once the workers' word is there, too: without it m.why only says what is awaited.
func (m *Machine) showSilence() {
	if !m.keptSilent() {
		m.clear("silent")
		return
	}
	if s := m.servers[m.known.index]; s.activityKnown && s.activityAt >= s.lastStarted {
		m.raise("silent", m.nameOf(m.known.index)+" lets nobody log in: "+m.why)
	}
}

// withoutLogin names the servers that probes can't log in to, with the reason.
func (m *Machine) withoutLogin() string {
	var names []string
	for _, s := range m.servers {
		if (s.last == SawAlive && s.code != tooManyConnections) || s.code == seenByLogin {
			names = append(names, s.cfg.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	text := "probes can't log in at " + strings.Join(names, ", ") + ": roles come from clients' logins, positions and receivers are unknown"
	if m.cfg.CredentialHint != "" {
		text += "; " + m.cfg.CredentialHint
	}
	return text
}
