package failover

import (
	"fmt"
	"time"
)

// The pause before a failed notify script is run again: doubled each time, so that neither a moment's trouble nor a
// night's costs much.
const (
	notifyPause    = 5 * time.Second
	notifyPauseMax = 5 * time.Minute
)

// oweNotify has the notify script run as soon as it may.
func (m *Machine) oweNotify(old int) {
	m.notifyOwed, m.notifyOld, m.notifyDue, m.notifyDone = true, old, m.now, 0
	m.clear("notify")
	if !m.cfg.NotifyConfigured || !m.cfg.Enabled || old < 0 {
		m.notifyOwed = false
		m.recheckStandbys()
	}
}

// mayNotify: once the primary is verified, at failover_verify_timeout at the latest.
func (m *Machine) mayNotify() bool {
	if m.paused {
		return false
	}
	switch m.phase {
	case PhaseOpen:
		return true
	case PhaseVerifying:
		return m.pending < 0 && (m.cfg.Verify == VerifyOff || m.now >= m.since+m.cfg.VerifyTimeout)
	case PhaseNew, PhaseStarting, PhaseSuspect, PhaseSwitching, PhaseFencing, PhaseChoosing, PhaseRunning, PhaseHeld:
	}
	return false
}

// notifyUntried says that the script has still to end for the first time: no standby is expected to follow before.
func (m *Machine) notifyUntried() bool {
	return m.notifyDone == 0 && (m.notifyOwed || (m.run != nil && m.run.hook == HookNotify))
}

func (m *Machine) notifyDeadline(d *deadline) {
	switch {
	case !m.notifyOwed || m.run != nil || !m.mayNotify():
	case m.now < m.notifyDue:
		d.at(m.notifyDue)
	default:
		d.at(m.notifyDue + m.cfg.RunnerWait)
	}
}

func (m *Machine) evaluateNotify() {
	if !m.notifyOwed || m.run != nil || !m.mayNotify() || m.now < m.notifyDue {
		return
	}
	if blocked := m.runBlocked(); blocked != "" {
		if m.now >= m.notifyDue+m.cfg.RunnerWait {
			m.notifyFailed("the notify script was not run", blocked)
		}
		return
	}
	m.notifyOwed = false
	args := m.notifyArgs(m.notifyOld, m.primary)
	reason := "the primary changed"
	if m.notifyDone > 0 {
		reason = fmt.Sprintf("the primary changed; retry %d of %d", m.notifyDone, m.cfg.NotifyRetries)
	}
	m.startRun(HookNotify, m.notifyOld, m.primary, args, m.cfg.NotifyTimeout, reason)
}

// notifyArgs are both primaries, then every other server that isn't Failed.
func (m *Machine) notifyArgs(old, next int) []string {
	args := m.hostPorts(old, next)
	for i, s := range m.servers {
		if i != old && i != next && s.state != Failed {
			args = append(args, s.cfg.Host, s.cfg.Port)
		}
	}
	return args
}

// notifyEnded logs and shows a failure, which changes nothing; then each standby is looked at.
func (m *Machine) notifyEnded(r *run, ev RunEnded) {
	switch {
	case r.stop:
		m.log(Warn, "the notify script was stopped", Attr{"run", r.id}, Attr{"why", "its new primary is dead"})
		m.recheckStandbys()
	case ev.Exit != 0 || ev.Signal != 0 || ev.TimedOut || ev.Refused != "":
		m.notifyFailed("the notify script failed", endText(ev))
	default:
		m.clear("notify")
		m.recheckStandbys()
	}
}

// notifyFailed has the script run again after a pause, failover_notify_retries times. Whichever standby doesn't follow
// by now is no candidate meanwhile.
func (m *Machine) notifyFailed(what, why string) {
	m.notifyOwed = false
	m.notifyDone++
	m.log(Error, what, Attr{"why", why}, Attr{"attempt", fmt.Sprint(m.notifyDone)}, Attr{"retries", fmt.Sprint(m.cfg.NotifyRetries)})
	text := what + ": " + why
	if n := m.notifyDone; n <= m.cfg.NotifyRetries {
		pause := min(notifyPause<<min(n-1, 16), notifyPauseMax)
		m.notifyOwed, m.notifyDue = true, m.now+pause
		text += fmt.Sprintf("; retry %d of %d comes %s later", n, m.cfg.NotifyRetries, short(pause))
	}
	m.raise("notify", text)
	m.recheckStandbys()
}
