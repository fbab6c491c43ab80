package failover

import (
	"fmt"
	"strings"
	"time"
)

// evalOpen watches the open primary. It suspects a primary that looks dead, and fences one that is a standby now.
func (m *Machine) evalOpen() {
	s := m.servers[m.known.index]
	switch {
	case s.last == SawPrimary:
		m.known.sawWritable()
		m.become(m.known.index, Primary, Plain, m.primaryWhy(s))
	case !m.cfg.Enabled:
		m.evalOpenOff(s)
	case s.last == SawStandby:
		m.demote(s)
		return
	case s.deadRow > 0:
		m.enter(PhaseSuspect, "the primary's probe: "+s.seen())
		return
	case s.starting:
		m.enter(PhaseSuspect, "the primary is starting up or shutting down")
		return
	}
	m.watchOthers(s)
}

func (m *Machine) primaryWhy(s *server) string {
	if s.obs.SyncWaiting {
		return "waiting for a synchronous standby"
	}
	return "writable"
}

// evalOpenOff never fences, because failover is off. It replaces a primary in recovery by a writable server.
func (m *Machine) evalOpenOff(s *server) {
	if s.last != SawStandby {
		return
	}
	m.become(m.known.index, Primary, NotWritable, "in recovery")
	if i := m.adoptable(); i >= 0 {
		m.changePrimary(i, true, fateNotInit, m.nameOf(m.known.index)+" is in recovery and "+m.nameOf(i)+" is writable")
		return
	}
	if own, _ := m.writable(); len(own) == 1 && !m.known.seenWritable {
		m.changePrimary(own[0], true, fateNotInit, "the only writable server")
	}
}

// watchOthers flags another writable server as split brain, but only if the primary has answered after that server.
func (m *Machine) watchOthers(p *server) {
	for i, s := range m.each() {
		if i == m.known.index || s.last != SawPrimary || m.barred(s) || s.qual == SplitBrain || m.alias(i) {
			continue
		}
		if m.foreign(s) {
			continue
		}
		if s.relabel && s.lastStarted < m.known.since {
			s.wanted = true // it may have been demoted since that probe
			continue
		}
		if p.last != SawPrimary && p.last != SawAlive || p.lastStarted < s.lastStarted {
			p.wanted = true
			continue
		}
		m.flagSplit(i)
	}
}

func (m *Machine) flagSplit(i int) {
	s := m.servers[i]
	why := fmt.Sprintf("writable on timeline %d beside %s: never used", s.timeline, m.nameOf(m.known.index))
	if m.known.index < 0 {
		why = fmt.Sprintf("writable on timeline %d, like another server", s.timeline)
	}
	if s.relabel {
		m.become(i, NotInit, SplitBrain, why)
		return
	}
	m.become(i, Failed, SplitBrain, why)
}

// demote fences a recorded primary that is in recovery, and holds. The script never runs for it.
func (m *Machine) demote(s *server) {
	if m.pausing() {
		m.holdPaused("it answers as a standby")
		return
	}
	m.become(m.known.index, Primary, NotWritable, "in recovery")
	h := holdDemoted
	if !m.known.seenWritable {
		h = holdNoPrimary // it was never seen writable: the servers' answers decide again
	}
	m.startFence(purpose{aim: aimHold, hold: h}, s.cfg.Name+" answers as a standby")
}

// evalSuspect confirms or drops the suspicion against the recorded primary.
func (m *Machine) evalSuspect() {
	s := m.servers[m.known.index]
	switch {
	case s.last == SawPrimary:
		m.reopen("the primary answers")
		return
	case s.last == SawStandby:
		m.demoteSuspect(s)
		return
	case s.last == SawAlive:
		m.alive(s)
		return
	case !m.cfg.Enabled:
		m.enter(PhaseOpen, "failover is off")
		return
	}
	why, dead := m.confirmed(m.known.index)
	if !dead && s.deadRow >= m.cfg.ProbeCount && m.adoptable() >= 0 {
		why, dead = "dead, and another server is writable on a higher timeline", true
	}
	m.because(why)
	if !dead {
		m.showVeto()
		return
	}
	if m.pausing() {
		m.holdPaused(why)
		return
	}
	if !m.known.seenWritable {
		m.startFence(purpose{aim: aimHold, hold: holdNoPrimary}, s.cfg.Name+" is dead and was never seen writable: "+why)
		return
	}
	m.become(m.known.index, Failover, Plain, why)
	m.startFence(purpose{aim: aimFailover}, why)
}

// demoteSuspect handles a suspected primary that is in recovery. If its promotion was never verified, the machine waits
// for the promotion; otherwise the primary was demoted.
func (m *Machine) demoteSuspect(s *server) {
	if !m.known.verified {
		m.become(m.known.index, Primary, NotWritable, "in recovery")
		m.enter(PhaseVerifying, "it answers, still in recovery")
		return
	}
	m.demote(s)
}

// alive drops the suspicion, because the server answers, though its role is unknown.
func (m *Machine) alive(s *server) {
	why := "the primary is alive: " + s.seen()
	if s.qual == Vetoed {
		m.become(m.known.index, Primary, Plain, why)
	}
	if m.open {
		m.enter(PhaseOpen, why)
		return
	}
	m.openStart(decision{open: m.known.index, why: why})
}

// reopen lets clients use the recorded primary again, under the same epoch.
func (m *Machine) reopen(why string) {
	if m.phase != PhaseSuspect && m.phase != PhaseVerifying {
		m.remember(HistoryEntry{Kind: "cancelled", Reason: m.why, Result: why, Old: m.nameOf(m.known.index)})
	}
	s := m.servers[m.known.index]
	m.known.sawWritable()
	m.runs.forget()
	m.adoptIdentity(s)
	m.become(m.known.index, Primary, Plain, why)
	m.enter(PhaseOpen, why)
}

// confirmed reports whether a server is dead by chapter 2 of doc/FAILOVER.md, with the reason either way.
func (m *Machine) confirmed(i int) (string, bool) {
	s := m.servers[i]
	if s.starting && s.deadRow == 0 {
		return "starting up or shutting down since " + short(m.now-s.startingSince), false
	}
	if s.deadRow < m.cfg.ProbeCount {
		return fmt.Sprintf("%d of %d probes failed: %s", s.deadRow, m.cfg.ProbeCount, s.seen()), false
	}
	if s.announced && s.announcedAt+announceWindow >= s.firstDead && m.now < s.firstDead+m.cfg.RestartGrace {
		return "its shutdown was announced: time to restart until failover_restart_grace", false
	}
	if s.refusedRow >= m.cfg.ProbeCount {
		return fmt.Sprintf("%d probes in a row: %s", s.refusedRow, s.seen()), true
	}
	return m.confirmedSilent(i)
}

// confirmedSilent reports whether a silent server is dead. For this, failed probes are not enough: no connection may
// have received a byte from it, and its standbys must not receive anything either.
func (m *Machine) confirmedSilent(i int) (string, bool) {
	s := m.servers[i]
	if m.isolated() {
		return "isolated: no server answers", false
	}
	if !s.activityKnown || s.activityAt < s.firstDead || s.activityAt < s.lastStarted {
		return "silent; waiting for the workers to say when they last heard from it", false
	}
	if why, _ := m.veto(i); why != "" {
		return why, false
	}
	if m.lockedUp(s) {
		return "it has let nobody log in for " + short(m.now-s.firstDead) + ", though it still serves its connections", true
	}
	quiet := m.silentSince(i)
	if m.now < quiet+m.cfg.SilenceTime {
		return "silent since " + short(m.now-quiet), false
	}
	agree, need, missing := m.witnesses(i)
	if agree < need {
		return fmt.Sprintf("silent, but only %d of %d standbys are reachable and don't receive: %s", agree, need, strings.Join(missing, ", ")), false
	}
	return fmt.Sprintf("silent for %s, and %d standbys don't receive", short(m.now-quiet), agree), true
}

// witnesses counts the reachable standbys that don't receive from server i any more. A standby that receives from
// another configured server is no witness.
func (m *Machine) witnesses(i int) (agree, need int, missing []string) {
	s := m.servers[i]
	for j, w := range m.each() {
		if j == i || w.state == Failed || m.foreign(w) || m.alias(j) {
			continue
		}
		cascade := w.last == SawStandby && w.obs.Receiver == ReceiverStreaming && !m.streamsFrom(w, s)
		if cascade {
			continue
		}
		need++
		if w.last == SawStandby && w.lastStarted >= s.firstDead && (w.obs.Receiver == ReceiverGone || m.ceased(w, s)) {
			agree++
		} else {
			missing = append(missing, w.cfg.Name)
		}
	}
	if m.cfg.MinStandbys > 0 {
		need = m.cfg.MinStandbys
	}
	return agree, max(need, 1), missing
}

// answerTime is how long the answer to a receiver's question may take. This is far more than a round trip, because lost
// packets are sent again. TestPacketLossIsNoDeath needs this much.
const answerTime = 5 * time.Second

// isolated reports whether every server is silent and none refuses connections.
func (m *Machine) isolated() bool {
	for _, s := range m.each() {
		if !s.silent() {
			return false
		}
	}
	return m.count() > 1
}

// adoptable returns another server of the primary's system that is writable on a higher timeline; -1 if there is none,
// or if two of them share the highest timeline.
func (m *Machine) adoptable() int {
	best := -1
	for i, s := range m.each() {
		if i == m.known.index || s.last != SawPrimary || m.barred(s) || m.alias(i) || m.foreign(s) || m.known.timeline == 0 || s.timeline <= m.known.timeline {
			continue
		}
		if best >= 0 && m.servers[best].timeline == s.timeline {
			return -1
		}
		if best < 0 || s.timeline > m.servers[best].timeline {
			best = i
		}
	}
	return best
}

func short(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
