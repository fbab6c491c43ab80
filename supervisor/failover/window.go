package failover

import (
	"fmt"
	"time"
)

// alarmLocked is shown from the failover that failover_max forbade until Reset.
const alarmLocked = "locked"

// wallNow is the time of day as the clock that can't be set tells it since the start.
func (m *Machine) wallNow() time.Time { return m.started.wall.Add(m.now - m.started.at) }

// countAttempt notes that the scripts of a failover begin. Times of day, because the window outlives the process.
func (m *Machine) countAttempt() {
	if m.cfg.MaxRuns <= 0 {
		return
	}
	m.forgetOldRuns()
	m.runs.attempt(m.wallNow().UnixMilli())
}

// forgetOldRuns drops what the window doesn't reach any more. A run in the future, after the clock was set back, counts.
func (m *Machine) forgetOldRuns() {
	m.runs.forgetBefore(m.wallNow().Add(-m.cfg.Window).UnixMilli())
}

// lockedOut says that failover_max forbids another failover, and holds then. Once it has, only Reset ends that.
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

// lockReached says that the next failover would be forbidden.
func (m *Machine) lockReached() bool {
	m.forgetOldRuns()
	return m.cfg.MaxRuns > 0 && (m.runs.locked || len(m.runs.times) >= m.cfg.MaxRuns)
}

func (m *Machine) lockText() string {
	return fmt.Sprintf("no failover until it is reset: failover_max = %d within %s was reached", m.cfg.MaxRuns, m.cfg.Window)
}

// onReset forgets the failovers so far. One that was forbidden begins again with probes of the primary.
func (m *Machine) onReset(ev Reset) {
	m.runs.reset()
	m.clear("notify")
	m.remember(HistoryEntry{Kind: "reset", Reason: "by command", Result: "failovers are counted anew"})
	if m.phase != PhaseHeld || m.hold != holdLocked {
		m.later(Reply{Tag: ev.Tag, Next: "failovers are counted anew"})
		return
	}
	m.later(Reply{Tag: ev.Tag, Next: m.nameOf(m.known.index) + " is looked at again: while it is dead a failover follows"})
	s := m.servers[m.known.index]
	s.deadRow, s.refusedRow = 0, 0
	m.runs.forget()
	m.become(m.known.index, NotInit, Plain, "reset by command")
	m.enter(PhaseSuspect, "reset by command: the primary is probed again")
}

func (m *Machine) refuseReset(ev Reset) { m.reply(ev.Tag, m.refusal()) }
