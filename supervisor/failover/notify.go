package failover

import (
	"fmt"
	"time"
)

// The pause before a failed notify script is run again. It doubles each time, so that a short problem delays little and
// a long one costs few runs.
const (
	notifyPause    = 5 * time.Second
	notifyPauseMax = 5 * time.Minute
)

// notify says whether the notify script has to run, so that the other standbys follow the new primary. Only its own
// methods write it.
type notify struct {
	*counter
	owed     bool
	old      int           // the primary that was replaced
	due      time.Duration // when the next attempt is due
	attempts int           // failed attempts since the primary changed
}

func (n *notify) owe(old int, now time.Duration) {
	n.owed, n.old, n.due, n.attempts = true, old, now, 0
	n.changed()
}

// drop records that the script is no longer owed, or has just been started.
func (n *notify) drop() { assign(n.counter, &n.owed, false) }

// failed counts a failed attempt.
func (n *notify) failed() {
	n.owed = false
	n.attempts++
	n.changed()
}

func (n *notify) again(at time.Duration) {
	n.owed, n.due = true, at
	n.changed()
}

func (n *notify) restore(r *Record, old int, now time.Duration) {
	n.owed, n.old, n.due, n.attempts = r.Notify && old >= 0, old, now, r.Attempts
	n.changed()
}

// oweNotify has the notify script run as soon as that is allowed.
func (m *Machine) oweNotify(old int) {
	m.notify.owe(old, m.now)
	m.clear("notify")
	if !m.cfg.NotifyConfigured || !m.cfg.Enabled || old < 0 {
		m.notify.drop()
		m.recheckStandbys()
	}
}

// mayNotify reports whether the script may run: once the primary is verified, or at failover_verify_timeout.
func (m *Machine) mayNotify() bool {
	if m.paused {
		return false
	}
	switch m.phase {
	case PhaseOpen:
		return true
	case PhaseVerifying:
		return m.runs.pending < 0 && (m.cfg.Verify == VerifyOff || m.now >= m.since+m.cfg.VerifyTimeout)
	case PhaseNew, PhaseStarting, PhaseSuspect, PhaseSwitching, PhaseFencing, PhaseChoosing, PhaseRunning, PhaseHeld:
	}
	return false
}

// notifyUntried reports whether the script still has to end for the first time. Until then no standby is expected to
// follow the new primary.
func (m *Machine) notifyUntried() bool {
	return m.notify.attempts == 0 && (m.notify.owed || (m.runs.current != nil && m.runs.current.hook == HookNotify))
}

func (m *Machine) notifyDeadline(d *deadline) {
	switch {
	case !m.notify.owed || m.runs.current != nil || !m.mayNotify():
	case m.now < m.notify.due:
		d.at(m.notify.due)
	default:
		d.at(m.notify.due + m.cfg.RunnerWait)
	}
}

func (m *Machine) evaluateNotify() {
	if !m.notify.owed || m.runs.current != nil || !m.mayNotify() || m.now < m.notify.due {
		return
	}
	if blocked := m.runBlocked(); blocked != "" {
		if m.now >= m.notify.due+m.cfg.RunnerWait {
			m.notifyFailed("the notify script was not run", blocked)
		}
		return
	}
	m.notify.drop()
	args := m.notifyArgs(m.notify.old, m.known.index)
	reason := "the primary changed"
	if m.notify.attempts > 0 {
		reason = fmt.Sprintf("the primary changed; retry %d of %d", m.notify.attempts, m.cfg.NotifyRetries)
	}
	m.startRun(HookNotify, m.notify.old, m.known.index, args, m.cfg.NotifyTimeout, reason)
}

// notifyArgs returns both primaries, then every other server that isn't Failed.
func (m *Machine) notifyArgs(old, next int) []string {
	args := m.hostPorts(old, next)
	for i, s := range m.servers {
		if i != old && i != next && s.state != Failed && !m.alias(i) {
			args = append(args, s.cfg.Host, s.cfg.Port)
		}
	}
	return args
}

// notifyEnded logs and shows a failure, which changes no state. Then every standby is probed.
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

// notifyFailed has the script run again after a pause, up to failover_notify_retries times. Meanwhile a standby that
// doesn't follow is no candidate.
func (m *Machine) notifyFailed(what, why string) {
	m.notify.failed()
	m.log(Error, what, Attr{"why", why}, Attr{"attempt", fmt.Sprint(m.notify.attempts)}, Attr{"retries", fmt.Sprint(m.cfg.NotifyRetries)})
	text := what + ": " + why
	if n := m.notify.attempts; n <= m.cfg.NotifyRetries {
		pause := min(notifyPause<<min(n-1, 16), notifyPauseMax)
		m.notify.again(m.now + pause)
		text += fmt.Sprintf("; retry %d of %d comes %s later", n, m.cfg.NotifyRetries, short(pause))
	}
	m.raise("notify", text)
	m.recheckStandbys()
}
