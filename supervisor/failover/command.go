package failover

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// verb is what a command asks for.
type verb uint8

const (
	verbClear verb = iota
	verbSwitch
	verbTrigger
	verbRehearse
)

var verbNames = [...]string{"clear server", "switch-to", "failover trigger", "failover rehearse"}

// command is an operator's command that waits for fresh probes of the servers that it concerns.
type command struct {
	verb  verb
	tag   uint64
	name  string
	index int // of name, -1 for none
	force bool
	at    time.Duration // when it came; only later probes count
	// timeout of a switch-to: how long to wait for running transactions, 0 for planTimeout.
	timeout time.Duration
}

// ofAll reports whether the command waits for probes of every server.
func (c *command) ofAll() bool { return c.verb == verbTrigger || c.verb == verbRehearse }

var (
	errRunning   = errors.New("a failover script is running: try again when it has ended")
	errNew       = errors.New("not started yet")
	errOvertaken = errors.New("overtaken by another decision: see status, then try again")
)

func (m *Machine) refusal() error {
	if m.phase == PhaseNew {
		return errNew
	}
	return errRunning
}

func (m *Machine) refuseClear(ev ClearServer) { m.reply(ev.Tag, m.refusal()) }
func (m *Machine) refuseSwitch(ev SwitchTo)   { m.reply(ev.Tag, m.refusal()) }

func (m *Machine) onClearServer(ev ClearServer) {
	m.queueFor(command{verb: verbClear, tag: ev.Tag, name: ev.Name, force: ev.Force})
}

func (m *Machine) onSwitchTo(ev SwitchTo) {
	m.queueFor(command{verb: verbSwitch, tag: ev.Tag, name: ev.Name, force: ev.Force, timeout: ev.Timeout})
}

func (m *Machine) reply(tag uint64, err error) { m.later(Reply{Tag: tag, Err: err}) }

func (m *Machine) answer(c *command, err error) { m.answerNext(c, err, "") }

// answerNext answers a command and says what happens next.
func (m *Machine) answerNext(c *command, err error, next string) {
	result := "done"
	if err != nil {
		result = err.Error()
	}
	m.log(Info, "command", Attr{"command", name(verbNames[:], int(c.verb))}, Attr{"server", c.name}, Attr{"force", fmt.Sprint(c.force)}, Attr{"result", result})
	m.later(Reply{Tag: c.tag, Err: err, Next: next})
	m.changed()
}

// queueFor queues a command until the servers that it concerns have been probed. A trigger need not name a server.
func (m *Machine) queueFor(c command) {
	c.index, c.at = m.indexOf(c.name), m.now
	if c.index < 0 && (!c.ofAll() || c.name != "") {
		m.reply(c.tag, fmt.Errorf("there is no server called %q", c.name))
		return
	}
	m.commands = append(m.commands, c)
	m.changed()
}

// commandTime is how long a command waits for its probes. A probe in progress may have to end first.
func (m *Machine) commandTime() time.Duration {
	return 2*m.cfg.ProbeTimeout + m.cfg.ProbeInterval + commandSlack
}

// commandWants reports whether a command waits for a fresh probe of server i.
func (m *Machine) commandWants(i int) bool {
	for _, c := range m.commands {
		if (c.index == i || c.ofAll() || (c.verb == verbSwitch && i == m.known.index)) && !m.servers[i].fresh(c.at) {
			return true
		}
	}
	return false
}

// commandsWait reports whether this phase lets commands wait, even when their time is up.
func (m *Machine) commandsWait() bool {
	return m.phase == PhaseStarting || (m.phase == PhaseFencing && m.fence.aim == aimSwitch)
}

// evaluateCommands carries out the oldest command whose probes are there, or whose time is up.
func (m *Machine) evaluateCommands() {
	if m.commandsWait() {
		return
	}
	for n := range m.commands {
		c := m.commands[n]
		if m.phase != PhaseRunning && m.now < c.at+m.commandTime() && !m.commandReady(c) {
			continue
		}
		m.commands = slices.Delete(m.commands, n, n+1)
		m.changed()
		switch {
		case m.phase == PhaseRunning:
			m.answer(&c, errRunning)
		case m.plan != nil:
			m.answer(&c, errPlanned)
		case c.verb == verbRehearse:
			m.rehearse(c)
		case c.verb == verbClear:
			m.clearServer(c)
		case c.verb == verbTrigger:
			m.triggerNow(c)
		default:
			m.switchTo(c)
		}
		return
	}
}

func (m *Machine) commandReady(c command) bool {
	if c.ofAll() {
		return !slices.ContainsFunc(m.servers, func(s *server) bool { return s != nil && !s.fresh(c.at) })
	}
	if !m.servers[c.index].fresh(c.at) {
		return false
	}
	return c.verb == verbClear || m.known.index < 0 || m.servers[m.known.index].fresh(c.at)
}

// clearServer ends the Failed state of a server. A writable server needs more, see clearWritable.
func (m *Machine) clearServer(c command) {
	s := m.servers[c.index]
	if m.hold == holdDamaged {
		m.clearDamaged(c)
		return
	}
	if c.index == m.known.index && m.hold == holdNewer && s.last != SawPrimary {
		m.forgetPrimary()
		m.answer(&c, nil)
		return
	}
	if s.last == SawPrimary && s.fresh(c.at) {
		m.clearWritable(c)
		return
	}
	m.remember(HistoryEntry{Kind: "clear_server", Reason: "by command", Result: s.seen(), Old: s.cfg.Name})
	if s.state == Failed {
		s.excluded, s.recheck = false, c.index != m.known.index && m.known.timeline != 0
		m.become(c.index, NotInit, Plain, "cleared by command")
		if s.last == SawStandby && c.index != m.known.index {
			m.classify(c.index)
		}
	}
	m.answer(&c, nil)
	m.retry()
}

// clearDamaged makes the server the primary, because the damaged record can't say which one is.
func (m *Machine) clearDamaged(c command) {
	if s := m.servers[c.index]; s.last != SawPrimary || !s.fresh(c.at) {
		m.answer(&c, fmt.Errorf("%s is not writable (%s): name the server that is the primary, or use switch-to --force", s.cfg.Name, m.seenSince(s, c.at)))
		return
	}
	m.fenceForSwitch(c)
}

// clearWritable handles a server that is writable and not open: --force makes it the primary, anything less is refused.
func (m *Machine) clearWritable(c command) {
	s := m.servers[c.index]
	switch {
	case c.index == m.known.index && m.open:
		m.answer(&c, nil)
	case !c.force:
		m.answer(&c, fmt.Errorf("%s is writable; --force accepts it as the primary", s.cfg.Name))
	case c.index == m.known.index && m.phase == PhaseHeld:
		m.reopen("accepted by command")
		m.answer(&c, nil)
	default:
		m.fenceForSwitch(c)
	}
}

// retry starts a failover again that ended in a hold, once neither its old primary nor its candidate is Failed any more.
func (m *Machine) retry() {
	if m.phase != PhaseHeld || m.known.index < 0 || m.runs.last == nil || m.servers[m.known.index].state == Failed {
		return
	}
	if n := m.runs.last.next; n >= 0 && m.servers[n].state == Failed {
		return
	}
	m.runs.forget()
	m.enter(PhaseSuspect, "cleared by command: the primary is probed again")
}

// switchTo starts a planned switchover if the primary works. Otherwise it follows a switchover that was made by hand;
// with force it makes any server the primary.
func (m *Machine) switchTo(c command) {
	s := m.servers[c.index]
	if c.index == m.known.index && m.open {
		m.answer(&c, nil)
		return
	}
	if !c.force && m.plannable(c) {
		m.startPlan(c)
		return
	}
	if err := m.switchRefused(c, s); err != nil && !c.force {
		m.answer(&c, err)
		return
	}
	m.fenceForSwitch(c)
}

func (m *Machine) switchRefused(c command, s *server) error {
	if s.last != SawPrimary || !s.fresh(c.at) {
		return fmt.Errorf("%s is not writable (%s); --force relabels all the same", s.cfg.Name, m.seenSince(s, c.at))
	}
	if m.cfg.Validate == ValidationOn && m.foreign(s) {
		return fmt.Errorf("%s has another system identifier, and startup_validation is on", s.cfg.Name)
	}
	if m.known.index < 0 || m.known.index == c.index {
		return nil
	}
	old := m.servers[m.known.index]
	switch {
	case old.last == SawPrimary && old.fresh(c.at):
		return fmt.Errorf("%s is still writable; --force relabels all the same", old.cfg.Name)
	case old.last == SawAlive || !old.fresh(c.at):
		return fmt.Errorf("whether %s is writable is unknown (%s); --force relabels all the same", old.cfg.Name, m.seenSince(old, c.at))
	}
	return nil
}

func (m *Machine) seenSince(s *server, at time.Duration) string {
	if !s.fresh(at) {
		return "no answer"
	}
	return s.seen()
}

func (m *Machine) fenceForSwitch(c command) {
	if !m.cfg.Enabled {
		m.finishSwitch(c)
		return
	}
	m.startFence(purpose{aim: aimSwitch, command: c}, "switch to "+c.name+" by command")
}

// finishSwitch makes the named server the primary once no backend of the old epoch is left.
func (m *Machine) finishSwitch(c command) {
	s := m.servers[c.index]
	old, writable := m.known.index, s.last == SawPrimary
	fate := fateNotInit
	if old >= 0 && !m.aliveNow(m.servers[old]) {
		fate = fateExcluded
	}
	m.remember(HistoryEntry{Kind: "switch_to", Reason: "by command", Result: s.seen(), Old: m.nameOf(old), New: s.cfg.Name})
	m.runs.settled()
	m.notify.drop()
	m.changePrimary(c.index, writable, fate, "switched to by command")
	m.known.switchedTo(writable)
	m.enter(PhaseOpen, "switched to "+s.cfg.Name+" by command")
	m.answer(&c, nil)
}

func (m *Machine) aliveNow(s *server) bool {
	return s.last == SawPrimary || s.last == SawStandby || s.last == SawAlive
}
