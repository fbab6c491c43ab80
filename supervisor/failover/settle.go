package failover

import "fmt"

// hold is why no primary is open.
type hold uint8

const (
	holdNone        hold = iota
	holdNoPrimary        // no server is writable, and none is recorded
	holdNewer            // the state file records a higher timeline than any writable server has
	holdSplit            // several servers are writable on one timeline
	holdDemoted          // the recorded primary is in recovery
	holdNoCandidate      // no server could be promoted
	holdFailed           // the script failed, or its success could not be verified in time
	holdLost             // the outcome of a run is unknown
	holdRefused          // the runner refused the run: nothing was executed
	holdLocked           // failover_max forbids a run
	holdFence            // failover_fence_script failed, or its outcome is unknown: nothing was promoted
	holdFollow           // failover_mode = follow: somebody else promotes
	holdPaused           // the primary is dead or in recovery, and failover or all clients are paused
	holdDamaged          // the state file could not be read: only a person knows which server was the primary
)

var holdNames = [...]string{
	"", "no_primary", "newer_timeline", "split_brain", "demoted", "no_candidate", "failed_run", "lost_run", "refused_run",
	"locked", "fence_failed", "follow", "paused", "damaged_record",
}

func (h hold) String() string { return name(holdNames[:], int(h)) }

func holdOf(s string) hold {
	for i, n := range holdNames {
		if n == s {
			return hold(i)
		}
	}
	return holdNone
}

// holdFacts says what each hold needs, because evalHeld and holdCommand use it: a recorded primary, a run.
var holdFacts = [...]struct{ primary, run bool }{
	holdNone:        {},
	holdNoPrimary:   {},
	holdNewer:       {primary: true},
	holdSplit:       {},
	holdDemoted:     {primary: true},
	holdNoCandidate: {primary: true, run: true},
	holdFailed:      {primary: true, run: true},
	holdLost:        {primary: true, run: true},
	holdRefused:     {primary: true, run: true},
	holdLocked:      {primary: true, run: true},
	holdFence:       {primary: true, run: true},
	holdFollow:      {primary: true, run: true},
	holdPaused:      {primary: true},
	holdDamaged:     {},
}

// lacks returns which of a hold's facts is missing, "" if none is.
func (m *Machine) lacks(h hold) string {
	switch f := holdFacts[h]; {
	case f.primary && m.known.index < 0:
		return "the recorded primary"
	case f.run && m.runs.last == nil:
		return "the run that it is about"
	case f.run && m.runs.last.old != m.known.index:
		return "a run for the recorded primary"
	}
	return ""
}

// holdOn starts a hold, with its reason.
func (m *Machine) holdOn(h hold, why string) {
	lack := m.lacks(h)
	m.assert(lack == "", "the hold %v lacks %s", h, lack)
	m.setOpen(false)
	m.enter(PhaseHeld, why)
	m.keep(h, why)
	m.log(Error, "logins are held", Attr{"why", why}, Attr{"command", m.holdCommand()})
}

// giveUpOn holds because nothing was promoted and no server replaces the recorded primary.
func (m *Machine) giveUpOn(h hold, why string) {
	old := m.known.index
	m.become(old, Failed, Plain, why)
	m.runs.conclude(ended{hold: h, old: old, next: -1, why: why})
	m.holdOn(h, why)
}

// holdCommand is the command that ends a hold.
func (m *Machine) holdCommand() string {
	const cli = "pgagroal-cli "
	old := m.nameOf(m.known.index)
	switch m.hold {
	case holdNone:
		return ""
	case holdPaused:
		_, command := m.whatPauses()
		return command
	case holdDamaged:
		return cli + "clear server NAME, with the server that is the primary"
	case holdNewer, holdNoCandidate, holdRefused, holdFence:
		return cli + "clear server " + old
	case holdFailed, holdLost:
		if m.runs.last != nil && m.runs.last.next >= 0 {
			return cli + "switch-to " + m.nameOf(m.runs.last.next) + ", or " + cli + "clear server --force " + old
		}
		return cli + "clear server --force " + old
	case holdLocked:
		return cli + "failover reset"
	case holdFollow:
		return cli + "switch-to NAME"
	case holdNoPrimary:
		return m.firstMend("start or promote one, or correct its host and port; it is used as soon as it is writable")
	case holdSplit:
		return m.firstMend("stop all but one of them")
	case holdDemoted:
	}
	return m.firstMend("promote one by hand")
}

// firstMend adds the command that believes a person and not the servers, as the last resort and only if a server could
// serve clients then.
func (m *Machine) firstMend(what string) string {
	if !m.anyAlive() {
		return what
	}
	return what + "; as the last resort pgagroal-cli switch-to --force NAME"
}

// evalHeld ends a hold where chapter 0 or 8 of doc/FAILOVER.md allows it.
func (m *Machine) evalHeld() {
	switch m.hold {
	case holdNone:
	case holdNoPrimary, holdNewer, holdSplit, holdDamaged:
		if d := m.decideStart(true); d.open >= 0 || d.suspect || d.hold != m.hold {
			m.actOnStart(d)
		} else {
			m.refreshAnswers(d)
		}
	case holdDemoted:
		m.settleDemoted()
	case holdNoCandidate, holdRefused, holdFailed, holdLost, holdLocked, holdFence:
		if m.cfg.Settle == SettleAuto || m.runs.last.planned {
			m.settle()
		}
	case holdPaused:
		m.evalPaused()
	case holdFollow: // following a promotion is always allowed, even with failover_settle = manual
		m.settle()
	}
}

// settleDemoted handles a recorded primary in recovery: it opens again when it is writable, or another server is
// followed.
func (m *Machine) settleDemoted() {
	if m.known.index < 0 {
		m.holdOn(holdNoPrimary, "the recorded primary is gone")
		return
	}
	s := m.servers[m.known.index]
	if s.last == SawPrimary {
		m.reopen(s.cfg.Name + " is writable again")
		return
	}
	if i := m.adoptable(); i >= 0 && s.last != SawAlive {
		m.adopt(i, "writable on a higher timeline while "+s.cfg.Name+" is not writable")
		return
	}
	if s.last == SawAlive && s.code != tooManyConnections && m.now >= m.since+m.cfg.RestartGrace {
		m.openStart(decision{open: m.known.index, why: "only a client's login can tell whether it is writable now"})
	}
}

// settle applies rule 8 (a) and (b) of doc/FAILOVER.md after a run that failed or whose outcome is unknown, or if no run
// was started.
func (m *Machine) settle() {
	old := m.servers[m.known.index]
	oldBack := old.last == SawPrimary && old.fresh(m.since)
	if oldBack && m.runs.last != nil && m.runs.last.left {
		// The remaining processes of the script may still promote another server: only a person can tell.
		oldBack = false
	}
	next := -1
	if m.runs.last != nil {
		next = m.runs.last.next
	}
	if next >= 0 {
		n := m.servers[next]
		if m.outOfRecovery(n) {
			m.settleOn(next, "the candidate is out of recovery on a higher timeline")
			return
		}
		if oldBack && m.onRecorded(old) && m.runs.blocker == "" && n.last == SawStandby && n.fresh(max(m.since, old.lastStarted)) {
			m.settleBack("writable on its recorded timeline, and the candidate is still in recovery")
			return
		}
	} else if oldBack && !m.foreign(old) && (m.hold != holdFence || m.runs.blocker == "") && (old.obs.Timeline == 0 || old.obs.Timeline >= m.known.timeline) {
		why := "writable again, and nothing was run"
		if m.hold == holdFence {
			why = "writable again, and nothing was promoted"
		}
		m.settleBack(why)
		return
	}
	if i := m.adoptable(); i >= 0 && !oldBack && m.deadOrStandby(old) {
		m.settleOn(i, "writable on a higher timeline while "+old.cfg.Name+" is not")
	}
}

func (m *Machine) outOfRecovery(n *server) bool {
	return n.last == SawPrimary && n.fresh(m.since) && !m.foreign(n) && !n.excluded && m.known.timeline != 0 && n.timeline > m.known.timeline
}

func (m *Machine) onRecorded(s *server) bool {
	return !m.foreign(s) && (m.known.timeline == 0 || s.obs.Timeline == 0 || s.obs.Timeline == m.known.timeline)
}

func (m *Machine) deadOrStandby(s *server) bool {
	return s.last == SawStandby || s.deadRow >= m.cfg.ProbeCount
}

func (m *Machine) settleOn(i int, why string) {
	m.remember(HistoryEntry{Kind: "settled", Reason: m.reason, Result: "adopted " + m.nameOf(i), Old: m.nameOf(m.known.index), New: m.nameOf(i)})
	m.adopt(i, why)
}

func (m *Machine) settleBack(why string) {
	next := -1
	if m.runs.last != nil {
		next = m.runs.last.next
	}
	m.remember(HistoryEntry{Kind: "settled", Reason: m.reason, Result: fmt.Sprintf("%s is the primary again, same epoch", m.nameOf(m.known.index)), Old: m.nameOf(m.known.index)})
	m.reopen(why)
	if next >= 0 && m.servers[next].state == Failed && !m.servers[next].excluded {
		m.servers[next].spared = true
		m.classify(next)
	}
}
