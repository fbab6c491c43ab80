package failover

import "time"

// fence is the order to abort every backend of the epoch, and what follows once all workers have acknowledged.
type fence struct {
	seq     uint64
	epoch   uint64
	sent    time.Duration
	acked   bool
	hold    hold     // not holdNone: hold with this cause
	target  int      // >= 0: switch to this server
	by      *command // the command to answer then
	order   *trigger // the failover by command that it is for
	planned bool     // for the planned switchover under way
}

// startFence closes the door and has every worker abort its backends; nothing reaches the old primary from here on.
func (m *Machine) startFence(f fence, why string) {
	if f.by == nil && m.fence.by != nil && m.phase == PhaseFencing {
		m.answer(m.fence.by, errOvertaken)
	}
	f.seq, f.epoch, f.sent = m.fence.seq+1, m.epoch, m.now
	m.fence, m.trigger = f, f.order
	m.cut = m.cut && f.order == nil // an order begins anew
	m.setOpen(false)
	m.enter(PhaseFencing, why)
	m.reason = why
	m.later(Fence{Epoch: f.epoch, Seq: f.seq})
}

func (m *Machine) onFenced(ev Fenced) {
	if ev.Seq == m.fence.seq && ev.Epoch == m.fence.epoch && !m.fence.acked {
		m.fence.acked = true
		m.changes++
	}
}

// evalFencing waits for the acknowledgement; a primary that answers meanwhile cancels a failover.
func (m *Machine) evalFencing() {
	if m.fence.target < 0 && m.primary >= 0 {
		s := m.servers[m.primary]
		switch {
		case m.fence.planned && s.last != SawStandby: // judged after the fence
		case m.trigger != nil && m.trigger.overrules(s.last):
		case m.trigger != nil && m.last != nil:
			m.dropTrigger("the old primary answers: " + s.seen())
			return
		case s.last == SawPrimary:
			m.reopen("the primary answered again before anything was run")
			return
		case s.last == SawStandby && m.fence.hold == holdNone:
			m.fence.hold = holdDemoted
		}
	}
	if m.fence.acked {
		m.afterFence()
		return
	}
	if m.now >= m.fence.sent+fenceRepeat {
		m.fence.sent = m.now
		m.later(Fence{Epoch: m.fence.epoch, Seq: m.fence.seq})
	}
}

func (m *Machine) afterFence() {
	f := m.fence
	switch {
	case f.target >= 0:
		m.finishSwitch(f)
	case f.planned && f.hold == holdNone:
		m.afterPlanFence()
	case f.hold == holdDemoted && !m.verified && m.primary >= 0:
		m.enter(PhaseVerifying, "it answers, still in recovery")
	case f.hold == holdDemoted && m.adoptable() >= 0:
		i := m.adoptable()
		m.adopt(i, "writable on a higher timeline while "+m.nameOf(m.primary)+" is in recovery")
	case f.hold != holdNone:
		why := m.why
		if f.hold == holdNoPrimary {
			m.forgetPrimary()
		}
		m.holdOn(f.hold, why)
	default:
		m.enter(PhaseChoosing, m.why)
	}
}
