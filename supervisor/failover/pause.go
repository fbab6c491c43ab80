package failover

import (
	"errors"
	"fmt"
)

var errOff = errors.New("failover is off in the configuration")

const alarmPaused = "paused"

func (m *Machine) refusePause(ev Pause)   { m.reply(ev.Tag, m.refusal()) }
func (m *Machine) refuseResume(ev Resume) { m.reply(ev.Tag, m.refusal()) }

// pausing reports whether failover or all clients are paused: the machine then holds clients where it would fence, and
// starts no script, neither on its own nor by command.
func (m *Machine) pausing() bool { return (m.paused || m.clients.All) && m.cfg.Enabled }

// whatPauses says what is paused, and which command ends that.
func (m *Machine) whatPauses() (what, command string) {
	if m.clients.All && !m.paused {
		return "clients are paused", "pgagroal-cli resume"
	}
	return "failover is paused", "pgagroal-cli failover resume"
}

// errPaused is why a command that needs a fence or a script is refused during a pause.
func (m *Machine) errPaused() error {
	what, command := m.whatPauses()
	return fmt.Errorf("%s: %s ends that", what, command)
}

// onClientsPaused notes which clients an operator holds. A primary that is held as dead is first probed once more when
// they go on.
func (m *Machine) onClientsPaused(ev ClientsPaused) {
	m.clients = ev
	m.changed()
	if m.phase == PhaseHeld && m.hold == holdPaused && !m.pausing() {
		m.suspectAnew("clients go on: the primary is probed again")
	}
}

// onPause stops the machine from fencing and running scripts on its own until Resume, even across restarts.
func (m *Machine) onPause(ev Pause) {
	switch {
	case !m.cfg.Enabled:
		m.reply(ev.Tag, errOff)
		return
	case m.plan != nil:
		m.reply(ev.Tag, errPlanned)
		return
	case !m.paused:
		m.setPaused(true)
	}
	next := "a dead primary is shown and clients wait, but nothing is fenced and no script runs until pgagroal-cli failover resume"
	m.later(Reply{Tag: ev.Tag, Next: next})
}

// onResume lets failover go on. A primary that is held as dead is first probed once more.
func (m *Machine) onResume(ev Resume) {
	if !m.paused {
		m.later(Reply{Tag: ev.Tag, Next: "failover was not paused"})
		return
	}
	m.setPaused(false)
	next := "failover acts by itself again"
	if m.phase == PhaseHeld && m.hold == holdPaused && !m.pausing() {
		next = m.nameOf(m.known.index) + " is probed again: if it is dead, a failover follows"
		m.suspectAnew("resumed by command: the primary is probed again")
	}
	m.later(Reply{Tag: ev.Tag, Next: next})
}

func (m *Machine) setPaused(on bool) {
	kind, result := "resume", "failover acts by itself"
	if on {
		kind, result = "pause", "nothing is fenced and no script runs"
	}
	m.paused = on
	m.changed()
	m.log(Warn, "failover "+kind, Attr{"why", "by command"}, Attr{"result", result})
	m.remember(HistoryEntry{Kind: kind, Reason: "by command", Result: result, Old: m.nameOf(m.known.index)})
}

// holdPaused holds the clients of a primary that would be fenced now if failover weren't paused.
func (m *Machine) holdPaused(why string) {
	m.become(m.known.index, Primary, NotWritable, why)
	what, _ := m.whatPauses()
	m.holdOn(holdPaused, what+", and "+m.nameOf(m.known.index)+" can't be used: "+why)
}

// evalPaused lets service resume on the same primary. Any other way out needs a fence, and a fence needs Resume.
func (m *Machine) evalPaused() {
	if m.known.index < 0 {
		m.holdOn(holdNoPrimary, "the recorded primary is gone")
		return
	}
	s := m.servers[m.known.index]
	switch {
	case !s.fresh(m.since):
	case s.last == SawPrimary:
		m.reopen("the primary answers again")
	case s.last == SawAlive:
		m.alive(s)
	case s.last == SawStandby && !m.known.verified:
		m.enter(PhaseVerifying, "it answers, still in recovery")
	}
}

// suspectAnew suspects the recorded primary without what earlier probes have shown: it may have come back a moment ago.
func (m *Machine) suspectAnew(why string) {
	s := m.servers[m.known.index]
	s.deadRow, s.refusedRow = 0, 0
	m.enter(PhaseSuspect, why)
}
