package failover

import (
	"fmt"
	"time"
)

// alarmLocked is raised when failover_max forbids a failover, until Reset.
const alarmLocked = "locked"

// wallNow returns the time of day, computed from the start with the monotonic clock.
func (m *Machine) wallNow() time.Time { return m.started.wall.Add(m.now - m.started.at) }

// countAttempt records that the scripts of a failover start. It uses times of day because the window outlives the
// process.
func (m *Machine) countAttempt() {
	if m.cfg.MaxRuns <= 0 {
		return
	}
	m.forgetOldRuns()
	m.runs.attempt(m.wallNow().UnixMilli())
}

// forgetOldRuns drops the failovers that are no longer in the window. A failover in the future, which there is after the
// clock was set back, still counts.
func (m *Machine) forgetOldRuns() {
	m.runs.forgetBefore(m.wallNow().Add(-m.cfg.Window).UnixMilli())
}

// lockedOut reports whether failover_max forbids another failover, and then starts a hold that only Reset ends.
func (m *Machine) lockedOut() bool {
	if !m.lockReached() {
		return false
	}
	m.runs.lock()
	old, why := m.known.index, m.lockText()
	m.remember(HistoryEntry{Kind: "locked", Reason: m.why, Result: why, Old: m.nameOf(old)})
	m.giveUpOn(holdLocked, why)
	return true
}

// lockReached reports whether the next failover would be forbidden.
func (m *Machine) lockReached() bool {
	m.forgetOldRuns()
	return m.cfg.MaxRuns > 0 && (m.runs.locked || len(m.runs.times) >= m.cfg.MaxRuns)
}

func (m *Machine) lockText() string {
	return fmt.Sprintf("no failover until it is reset: failover_max = %d within %s was reached", m.cfg.MaxRuns, m.cfg.Window)
}

// onReset forgets past failovers. A failover that was forbidden begins again with probes of the primary.
func (m *Machine) onReset(ev Reset) {
	m.runs.reset()
	m.clear(alarmNotify)
	m.remember(HistoryEntry{Kind: "reset", Reason: "by command", Result: "failovers are counted anew"})
	if m.phase != PhaseHeld || m.hold != holdLocked {
		m.later(Reply{Tag: ev.Tag, Next: "failovers are counted anew"})
		return
	}
	m.later(Reply{Tag: ev.Tag, Next: m.nameOf(m.known.index) + " is probed again: if it is dead, a failover follows"})
	m.runs.forget()
	m.become(m.known.index, NotInit, Plain, "reset by command")
	m.suspectAnew("reset by command: the primary is probed again")
}

func (m *Machine) refuseReset(ev Reset) { m.reply(ev.Tag, m.refusal()) }
