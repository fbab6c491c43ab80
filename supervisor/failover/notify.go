package failover

import (
	"fmt"
	"strings"
	"time"
)

// The pause before a failed notify script is run again. It doubles each time, so that a short problem delays little and
// a long one costs few runs.
const (
	notifyPause    = 5 * time.Second
	notifyPauseMax = 5 * time.Minute
)

// followTime is how long a standby may take to follow the new primary after the notify script has first ended, or, without
// a script, after the change of primary. A standby tries to connect every wal_retrieve_retry_interval, 5 s by default.
const followTime = 30 * time.Second

// notify says whether the notify script has to run, so that the other standbys follow the new primary. Only its own
// methods write it.
type notify struct {
	*counter
	owed     bool
	old      int           // the primary that was replaced
	due      time.Duration // when the next attempt is due
	attempts int           // failed attempts since the primary changed
	planned  bool          // the old primary was replaced by a planned switchover
	endedAt  time.Duration // when it last ended, or the primary changed
	since    time.Duration // when it first ended; from then on standbys are expected to follow
}

func (n *notify) owe(old int, planned bool, now time.Duration) {
	n.owed, n.old, n.planned, n.due, n.attempts, n.endedAt, n.since = true, old, planned, now, 0, now, now
	n.changed()
}

// ended records the end of an attempt.
func (n *notify) ended(now time.Duration) {
	n.endedAt = now
	if n.attempts == 0 {
		n.since = now
	}
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
	n.owed, n.old, n.planned, n.due, n.attempts, n.endedAt, n.since = r.Notify && old >= 0, old, r.Planned, now, r.Attempts, now, now
	n.changed()
}

// oweNotify has the notify script run as soon as that is allowed.
func (m *Machine) oweNotify(old int) {
	m.notify.owe(old, m.oldFate() == fateNotInit, m.now)
	m.clear(alarmNotify)
	if !m.cfg.NotifyConfigured || !m.cfg.Enabled || old < 0 {
		m.notify.drop()
		m.recheckStandbys()
	}
}

// mayNotify reports whether the script may run: once the primary is verified, or at failover_verify_timeout.
func (m *Machine) mayNotify() bool {
	if m.pausing() {
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
	if at := m.notify.since + followTime; at > m.now && m.phase == PhaseOpen && m.strays() != "" {
		d.at(at)
	}
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
	for i, s := range m.each() {
		if i != old && i != next && s.state != Failed && !m.alias(i) {
			args = append(args, s.cfg.Host, s.cfg.Port)
		}
	}
	return args
}

// shouldFollow reports whether a server is to follow the primary: each standby that is used, and the old primary after a
// planned switchover.
func (m *Machine) shouldFollow(i int) bool {
	s := m.servers[i]
	return i != m.known.index && s.state != Failed && !m.foreign(s) && !m.alias(i)
}

// strays names the servers that should follow the new primary and haven't shown yet that they do, with what was seen of
// them. Where probes can't log in, nobody can tell.
func (m *Machine) strays() string {
	var out []string
	for i, s := range m.each() {
		if !s.recheck || !m.shouldFollow(i) || s.last == SawAlive {
			continue
		}
		seen := "never seen"
		switch {
		case s.last == SawStandby:
			seen = fmt.Sprintf("in recovery, not streaming on timeline %d", m.known.timeline)
		case s.last == SawPrimary:
			seen = "writable"
		case s.last != 0:
			seen = s.seen()
		}
		out = append(out, fmt.Sprintf("%s (%s)", s.cfg.Name, seen))
	}
	return strings.Join(out, ", ")
}

// allFollow reports whether each server that should follow the primary has been seen to do so since a time. If no server
// should, because the only other one is the Failed old primary, that one counts.
func (m *Machine) allFollow(since time.Duration) bool {
	used, failed, n := true, true, 0
	for i, s := range m.each() {
		if i == m.known.index || m.alias(i) {
			continue
		}
		follows := m.follows(s) && s.fresh(since)
		if m.shouldFollow(i) {
			used = used && follows
			n++
		} else {
			failed = failed && follows
		}
	}
	return used && (n > 0 || failed)
}

// showFollowers raises an alarm for servers that don't follow the new primary, whatever the notify script has said. The
// alarm of that script ends when all follow, also if somebody has repaired that by hand.
func (m *Machine) showFollowers() {
	if m.phase != PhaseOpen {
		return
	}
	strays := ""
	if !m.notifyUntried() && m.now >= m.notify.since+followTime {
		strays = m.strays()
	}
	m.set(strays != "", alarmStrays, "not following "+m.nameOf(m.known.index)+": "+strays)
	running := m.runs.current != nil && m.runs.current.hook == HookNotify
	if !m.notify.owed && !running && m.allFollow(m.notify.endedAt) {
		m.clear(alarmNotify)
	}
}

// notifyEnded logs and shows a failure, which changes no state. Then every standby is probed.
func (m *Machine) notifyEnded(r *run, ev RunEnded) {
	m.notify.ended(m.now)
	switch {
	case r.stop:
		m.log(Warn, "the notify script was stopped", Attr{"run", r.id}, Attr{"why", "its new primary is dead"})
		m.recheckStandbys()
	case ev.Exit != 0 || ev.Signal != 0 || ev.TimedOut || ev.Refused != "":
		m.notifyFailed("the notify script failed", endText(ev))
	default:
		m.clear(alarmNotify)
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
	m.raise(alarmNotify, text)
	m.recheckStandbys()
}
