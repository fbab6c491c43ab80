package failover

import (
	"fmt"
)

// fate is what a change of primary means for the old one.
type fate uint8

const (
	fateExcluded fate = iota // Failed, until a command or failback = standby lets it be used again
	fateNotInit              // Not init, because it is healthy
)

// changePrimary replaces the recorded primary after a failover, a switchover or an adoption. It starts a new epoch,
// retires the old primary, and requires every standby to show that it follows. Only openStart, which decides by the
// servers' first answers, records a primary without it.
func (m *Machine) changePrimary(next int, verified bool, f fate, why string) {
	old := m.known.index
	n := m.servers[next]
	m.epoch++
	m.known.replace(next, n, verified, m.now)
	m.runs.forget()
	if verified && n.last == SawPrimary {
		m.known.note(n.obs, m.now)
	}
	n.excluded, n.relabel, n.recheck = false, false, false
	q := NotWritable
	if verified {
		q = Plain
	}
	m.become(next, Primary, q, why)
	m.recheckAll()
	if old >= 0 && old != next {
		m.retire(old, f)
	}
}

// recheckAll requires every standby to show that it follows the primary.
func (m *Machine) recheckAll() {
	for i, s := range m.each() {
		s.recheck = s.recheck || (i != m.known.index && s.state != Failed)
	}
}

// retire sets the state of the old primary.
func (m *Machine) retire(old int, f fate) {
	s := m.servers[old]
	if f == fateNotInit {
		s.relabel = true
		m.become(old, NotInit, Plain, "replaced by "+m.nameOf(m.known.index))
		return
	}
	s.excluded = true
	if s.last == SawPrimary {
		m.become(old, Failed, SplitBrain, "writable although "+m.nameOf(m.known.index)+" replaced it: never used")
		return
	}
	m.become(old, Failed, Plain, "replaced by "+m.nameOf(m.known.index))
}

// adopt makes a server that somebody else has promoted the primary. No failover script runs, but the standbys are
// notified.
func (m *Machine) adopt(next int, why string) {
	old := m.known.index
	f := fateExcluded
	if m.servers[old].last == SawStandby {
		f = fateNotInit
	}
	m.remember(HistoryEntry{Kind: "adopted", Reason: why, Result: "new epoch", Old: m.nameOf(old), New: m.nameOf(next), Timeline: m.servers[next].timeline})
	m.changePrimary(next, true, f, why)
	m.oweNotify(old)
	m.enter(PhaseOpen, m.nameOf(next)+" adopted: "+why)
}

// runSucceeded records the new primary after exit 0. With strict verification it must be seen writable first.
func (m *Machine) runSucceeded(r *run) {
	if m.cfg.Verify == VerifyStrict {
		m.runs.verify(r)
		m.enter(PhaseVerifying, "exit 0; waiting for "+m.nameOf(r.next)+" to be writable")
		return
	}
	m.runs.settled()
	m.changePrimary(r.next, false, m.oldFate(), "the script ended with exit code 0")
	m.oweNotify(r.old)
	if m.cfg.Verify == VerifyOff {
		m.setOpen(true)
	}
	m.enter(PhaseVerifying, "exit 0; waiting for "+m.nameOf(r.next)+" to be writable")
}

// verifying returns the server whose promotion is being verified.
func (m *Machine) verifying() int {
	if m.runs.pending >= 0 {
		return m.runs.pending
	}
	return m.known.index
}

func (m *Machine) evalVerifying() {
	i := m.verifying()
	s := m.servers[i]
	if s.last == SawPrimary && s.lastStarted >= m.since {
		m.verifiedNow(i)
		return
	}
	if m.runs.pending < 0 && s.last == SawStandby {
		m.become(i, Primary, NotWritable, "in recovery")
	}
	if m.runs.pending < 0 && s.fresh(m.since) {
		if why, dead := m.confirmed(i); dead {
			m.log(Error, "the new primary died", Attr{"server", s.cfg.Name}, Attr{"why", why})
			if m.pausing() {
				m.holdPaused(why)
				return
			}
			m.become(i, Failover, Plain, why)
			m.startFence(purpose{aim: aimFailover}, "the new primary died: "+why)
			return
		}
	}
	if m.now >= m.since+m.cfg.VerifyTimeout {
		m.verifyLate(i)
	}
}

func (m *Machine) verifiedNow(i int) {
	s := m.servers[i]
	if m.runs.pending >= 0 {
		old := m.known.index
		m.runs.settled()
		m.changePrimary(i, true, m.oldFate(), "out of recovery")
		m.oweNotify(old)
	}
	m.known.sawWritable()
	m.runs.forget()
	m.adoptIdentity(s)
	m.become(i, Primary, Plain, "out of recovery")
	m.log(Info, "failover complete", Attr{"primary", s.cfg.Name}, Attr{"timeline", fmt.Sprint(m.known.timeline)}, Attr{"epoch", fmt.Sprint(m.epoch)})
	m.remember(HistoryEntry{Kind: "verified", Reason: m.why, Result: "out of recovery", New: s.cfg.Name, Timeline: m.known.timeline})
	m.enter(PhaseOpen, s.cfg.Name+" is out of recovery")
}

// verifyLate handles a new primary that is not seen out of recovery within failover_verify_timeout.
func (m *Machine) verifyLate(i int) {
	name := m.nameOf(i)
	why := name + " is not out of recovery after " + short(m.cfg.VerifyTimeout)
	if m.runs.pending >= 0 {
		l := m.runs.last
		m.runs.settled()
		m.runFailed(&run{id: l.id, hook: HookFailover, old: l.old, next: l.next}, holdFailed, why)
		return
	}
	m.logOnce(fmt.Sprintf("late %d", m.epoch), Error, "the script ended with exit code 0, but the new primary is not writable", Attr{"server", name})
	if m.cfg.Verify == VerifyOff {
		m.known.trust()
		m.enter(PhaseOpen, "failover_verify is off: the script is trusted")
		return
	}
	m.because(why)
	if j := m.adoptable(); j >= 0 && m.servers[i].last == SawStandby {
		m.adopt(j, "writable on a higher timeline while "+name+" is in recovery")
	}
}

// recheckStandbys probes every standby that hasn't yet shown that it follows the new primary; after a failed notify script
// all others, too.
func (m *Machine) recheckStandbys() {
	for i, s := range m.each() {
		s.wanted = s.wanted || s.recheck || (i != m.known.index && m.raised(alarmNotify))
	}
	m.changed()
}

func endText(ev RunEnded) string {
	switch {
	case ev.Refused != "":
		return "refused: " + ev.Refused
	case ev.TimedOut:
		return "timed out" + leftText(ev)
	case ev.Signal != 0:
		return fmt.Sprintf("signal %d", ev.Signal)
	}
	return fmt.Sprintf("exit code %d", ev.Exit)
}
