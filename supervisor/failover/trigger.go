package failover

import (
	"errors"
	"fmt"
	"strings"
)

func (m *Machine) refuseTrigger(ev Trigger) { m.reply(ev.Tag, m.refusal()) }

func (m *Machine) onTrigger(ev Trigger) {
	m.queueFor(command{verb: verbTrigger, tag: ev.Tag, name: ev.To, force: ev.Force})
}

// triggerNow starts the failover that an operator has ordered, as if the primary's death had just been confirmed.
func (m *Machine) triggerNow(c command) {
	if err := m.triggerRefused(c); err != nil {
		m.answer(&c, err)
		return
	}
	to := c.name
	if c.index < 0 {
		to = "the best standby"
	}
	why := "triggered by command"
	if c.force {
		why += ", by force"
	}
	m.verdicts = nil
	m.become(m.known.index, Failover, Plain, why)
	m.startFence(purpose{aim: aimOrdered, command: c}, why)
	m.answerNext(&c, nil, fmt.Sprintf("%s is fenced, then failover_script promotes %s: pgagroal-cli failover status shows it", m.nameOf(m.known.index), to))
}

// triggerRefused returns why a failover can't be ordered now.
func (m *Machine) triggerRefused(c command) error {
	switch {
	case !m.cfg.Enabled:
		return errOff
	case m.pausing():
		return m.errPaused()
	case m.phase == PhaseFencing || m.phase == PhaseChoosing:
		return errors.New("a failover is under way already")
	case m.runs.pending >= 0:
		return errors.New(m.nameOf(m.runs.pending) + " is being verified: try again in a moment")
	case m.lockReached():
		return errors.New(m.lockText() + ": pgagroal-cli failover reset")
	case m.known.index < 0 || !m.known.seenWritable:
		return errors.New("no server was seen writable yet, so there is nothing to fail over from")
	}
	if blocked := m.runBlocked(); blocked != "" {
		return errors.New(blocked)
	}
	if err := m.primaryInTheWay(c); err != nil && !c.force {
		return err
	}
	if m.adoptable() >= 0 && c.index < 0 {
		return nil
	}
	return m.noneEligible(c)
}

// primaryInTheWay returns an error if the primary may still take writes.
func (m *Machine) primaryInTheWay(c command) error {
	old := m.servers[m.known.index]
	switch {
	case old.last == SawPrimary && old.fresh(c.at):
		return fmt.Errorf("%s is writable: switch-to moves to another server in order; --force promotes one all the same", old.cfg.Name)
	case old.last == SawAlive || !old.fresh(c.at):
		return fmt.Errorf("whether %s is writable is unknown (%s); --force promotes another one all the same", old.cfg.Name, m.seenSince(old, c.at))
	}
	return nil
}

// noneEligible returns why the named server, or each server, can't be promoted.
func (m *Machine) noneEligible(c command) error {
	entrants := m.entrants()
	for i := range entrants {
		entrants[i].fresh = m.servers[entrants[i].index].fresh(c.at)
	}
	order, verdicts := rank(m.terms(), entrants)
	switch {
	case c.index < 0 && len(order) > 0, indexIn(order, c.index) >= 0:
		return nil
	}
	return m.notEligible(c, verdicts)
}

// notEligible is the error that says why the named server, or every server, can't be promoted.
func (m *Machine) notEligible(c command, verdicts []Verdict) error {
	if c.index < 0 {
		return errors.New("no server can be promoted: " + verdictText(verdicts))
	}
	if c.index == m.known.index {
		return fmt.Errorf("%s is the primary already", c.name)
	}
	for _, v := range verdicts {
		if v.Name == c.name {
			return fmt.Errorf("%s can't be promoted: %s", v.Name, v.Verdict)
		}
	}
	return fmt.Errorf("%s can't be promoted", c.name)
}

func verdictText(verdicts []Verdict) string {
	var out []string
	for _, v := range verdicts {
		out = append(out, v.Name+": "+v.Verdict)
	}
	return strings.Join(out, "; ")
}

// indexIn returns the place of a server in a ranking, -1 if it isn't in it.
func indexIn(order []entrant, server int) int {
	for i, e := range order {
		if e.index == server {
			return i
		}
	}
	return -1
}

// runOrder promotes the server that the operator wants, or drops the order if that is no longer possible.
func (m *Machine) runOrder(order []entrant) {
	c := m.fence.command
	next := c.index
	if next < 0 && len(order) > 0 {
		next = order[0].index
	}
	blocked := m.runBlocked()
	switch {
	case indexIn(order, next) < 0:
		m.dropOrder(m.notEligible(c, m.verdicts).Error())
	case blocked != "" && m.now >= m.since+m.cfg.RunnerWait:
		m.dropOrder(blocked)
	default:
		for i := range m.verdicts {
			if m.verdicts[i].Name == m.nameOf(next) {
				m.verdicts[i].Verdict = "chosen"
			} else if m.verdicts[i].Verdict == "chosen" {
				m.verdicts[i].Verdict = "eligible"
			}
		}
		m.tryRun(next)
	}
}

// dropOrder goes back to the hold that the order has interrupted, or lets the servers' answers decide.
func (m *Machine) dropOrder(why string) {
	m.log(Error, "the failover by command was dropped", Attr{"why", why})
	m.remember(HistoryEntry{Kind: "cancelled", Reason: m.why, Result: why, Old: m.nameOf(m.known.index)})
	if l := m.runs.last; l != nil {
		m.become(m.known.index, Failed, Plain, l.why)
		m.holdOn(l.hold, l.why)
		return
	}
	m.enter(PhaseSuspect, "the failover by command was dropped: "+why)
}
