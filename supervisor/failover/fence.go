package failover

import "time"

// aim is what happens after a fence is acknowledged.
type aim uint8

const (
	aimNone     aim = iota
	aimFailover     // the primary is dead: choose a candidate
	aimOrdered      // a failover by command: the same, even if the primary answers
	aimPlanned      // the planned switchover in progress goes on
	aimSwitch       // the server that a command names becomes the primary
	aimHold         // stay without an open primary
)

// purpose is what a fence is for. It outlives the fence: the choice of a candidate and the runs need it until the
// promotion has ended.
type purpose struct {
	aim     aim
	hold    hold    // of aimHold: its cause
	command command // of aimOrdered and aimSwitch; its index is the server to promote, -1 for the best one
}

// overrules reports whether an ordered failover goes on although the old primary has answered with o. An answer of a
// server that takes no writes never cancels the failover. Any other answer does, unless the order has --force.
func (p *purpose) overrules(o Outcome) bool {
	switch o {
	case SawPrimary, SawAlive:
		return p.command.force
	case SawStandby, SawStarting, SawShutdown, SawRefused, SawTimeout, SawSilent, SawUnreachable, SawNoAddress:
	}
	return true
}

// fence is the order to abort every backend of the epoch, with its purpose. Only its own methods write it.
type fence struct {
	*counter
	purpose
	seq   uint64
	epoch uint64
	sent  time.Duration
	acked bool
}

// begin makes a new fence.
func (f *fence) begin(p purpose, epoch uint64, now time.Duration) {
	f.purpose, f.epoch, f.sent, f.acked = p, epoch, now, false
	f.seq++
	f.changed()
}

func (f *fence) resent(now time.Duration) { f.sent = now }

func (f *fence) acknowledge() { assign(f.counter, &f.acked, true) }

// onlyHold changes the purpose of a fence: a hold follows, and nothing else.
func (f *fence) onlyHold(h hold) {
	f.purpose = purpose{aim: aimHold, hold: h}
	f.changed()
}

// done deletes the purpose of the latest fence.
func (f *fence) done() {
	if f.aim != aimNone {
		f.purpose = purpose{}
		f.changed()
	}
}

// startFence lets no client in and has every worker abort its backends. From here on pgagroal sends the old primary
// nothing.
func (m *Machine) startFence(p purpose, why string) {
	m.assert(p.aim != aimNone && (p.aim == aimHold) == (p.hold != holdNone), "a fence for %d, hold %v", p.aim, p.hold)
	m.assert(p.aim == aimSwitch || m.known.index >= 0, "a fence for %d without a recorded primary", p.aim)
	if m.phase == PhaseFencing && m.fence.aim == aimSwitch && p.aim != aimSwitch {
		m.answer(&m.fence.command, errOvertaken)
	}
	m.fence.begin(p, m.epoch, m.now)
	if p.aim == aimOrdered {
		m.runs.uncut() // an ordered failover cuts the primary off again
	}
	m.setOpen(false)
	m.enter(PhaseFencing, why)
	m.waitFor(why)
	m.later(Fence{Epoch: m.fence.epoch, Seq: m.fence.seq})
}

func (m *Machine) onFenced(ev Fenced) {
	if ev.Seq == m.fence.seq && ev.Epoch == m.fence.epoch {
		m.fence.acknowledge()
	}
}

// evalFencing waits for the acknowledgement. If the primary answers meanwhile, a failover is cancelled.
func (m *Machine) evalFencing() {
	if m.fence.aim != aimSwitch && m.cancelsFence(m.servers[m.known.index]) {
		return
	}
	if m.fence.acked {
		m.afterFence()
		return
	}
	if m.now >= m.fence.sent+fenceRepeat {
		m.fence.resent(m.now)
		m.later(Fence{Epoch: m.fence.epoch, Seq: m.fence.seq})
	}
}

// cancelsFence handles an answer of the fenced primary, and reports whether the fence is over.
func (m *Machine) cancelsFence(s *server) bool {
	switch {
	case m.fence.aim == aimPlanned && s.last != SawStandby: // judged after the fence
	case m.fence.aim == aimOrdered && m.fence.overrules(s.last):
	case m.fence.aim == aimOrdered && m.runs.last != nil:
		m.dropOrder("the old primary answers: " + s.seen())
		return true
	case s.last == SawPrimary:
		m.reopen("the primary answered again before anything was run")
		return true
	case s.last == SawStandby && m.fence.aim != aimHold:
		m.fence.onlyHold(holdDemoted)
	}
	return false
}

func (m *Machine) afterFence() {
	switch m.fence.aim {
	case aimSwitch:
		m.finishSwitch(m.fence.command)
	case aimPlanned:
		m.afterPlanFence()
	case aimHold:
		m.holdFenced(m.fence.hold)
	case aimFailover, aimOrdered:
		m.enter(PhaseChoosing, m.why)
	case aimNone:
		m.assert(false, "a fence without a purpose")
	}
}

// holdFenced holds once the fence is acknowledged, unless the servers' answers allow more.
func (m *Machine) holdFenced(h hold) {
	if h == holdDemoted && !m.known.verified {
		m.enter(PhaseVerifying, "it answers, still in recovery")
		return
	}
	if i := m.adoptable(); h == holdDemoted && i >= 0 {
		m.adopt(i, "writable on a higher timeline while "+m.nameOf(m.known.index)+" is in recovery")
		return
	}
	why := m.why
	if h == holdNoPrimary {
		m.forgetPrimary()
	}
	m.holdOn(h, why)
}
