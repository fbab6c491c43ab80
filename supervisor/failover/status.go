package failover

import (
	"slices"
	"time"
)

type alarm struct {
	name  string
	text  string
	since time.Duration
}

const (
	alarmHeld   = "held"
	alarmNotify = "notify"
	alarmStrays = "standbys"
)

// raise shows an alarm until it is cleared. Raising it again with the same text changes nothing.
func (m *Machine) raise(name, text string) {
	for i := range m.alarms {
		if m.alarms[i].name == name {
			m.alarms[i].text = text
			return
		}
	}
	m.alarms = append(m.alarms, alarm{name, text, m.now})
	m.changed()
	if name != alarmHeld { // a hold has a log line of its own
		m.log(Error, "alarm", Attr{"alarm", name}, Attr{"text", text})
	}
}

func (m *Machine) raised(name string) bool {
	return slices.ContainsFunc(m.alarms, func(a alarm) bool { return a.name == name })
}

func (m *Machine) clear(name string) {
	for i := range m.alarms {
		if m.alarms[i].name == name {
			m.log(Info, "alarm over", Attr{"alarm", name})
			m.alarms = append(m.alarms[:i], m.alarms[i+1:]...)
			m.changed()
			return
		}
	}
}

func (m *Machine) set(on bool, name, text string) {
	if on {
		m.raise(name, text)
	} else {
		m.clear(name)
	}
}

// evaluateAlarms raises and clears the alarms that follow from the state.
func (m *Machine) evaluateAlarms() {
	if m.count() == 0 {
		return
	}
	m.set(m.phase == PhaseHeld, alarmHeld, m.reason)
	m.set(m.phase != PhaseStarting && m.isolated(), "isolated", "no server answers and none refuses: the network, or this host, is cut off")
	m.set(m.phase == PhaseVerifying && m.now >= m.since+m.cfg.VerifyTimeout, "not_writable",
		m.nameOf(m.verifying())+" is recorded as the primary but is not out of recovery")
	m.set(m.clients.Text != "", "clients_paused", m.clients.Text)
	m.set(m.paused && m.cfg.Enabled, alarmPaused, "failover is paused: a dead primary is not replaced until pgagroal-cli failover resume")
	split := ""
	for _, s := range m.each() {
		if s.qual == SplitBrain {
			split += " " + s.cfg.Name
		}
	}
	m.showSilence()
	m.showFollowers()
	m.showUnseen()
	login := m.withoutLogin()
	m.set(login != "" && (m.cfg.Enabled || m.cfg.ProbeUser != ""), "login", login)
	if m.runs.locked && m.cfg.MaxRuns > 0 {
		m.raise(alarmLocked, m.lockText())
	} else {
		m.clear(alarmLocked)
	}
	m.set(split != "", "split_brain", "writable beside the primary, never used:"+split)
	dead := m.phase == PhaseOpen && !m.cfg.Enabled && m.known.index >= 0 && m.servers[m.known.index].deadRow >= m.cfg.ProbeCount
	m.set(dead, "primary_dead", m.nameOf(m.known.index)+" does not answer, and failover is off")
	if m.phase != PhaseChoosing {
		m.clear("run_blocked")
	}
}

// publicWords are what clients learn while no primary is open.
var publicWords = [...]string{
	PhaseNew: "the servers are not known yet", PhaseStarting: "the servers are not known yet",
	PhaseOpen: "the primary is not available", PhaseSuspect: "the primary does not answer",
	PhaseSwitching: "a switchover is under way", PhaseFencing: "a failover is under way", PhaseChoosing: "a failover is under way",
	PhaseRunning: "a failover is under way", PhaseVerifying: "the new primary is not ready yet",
	PhaseHeld: "there is no primary, and an operator may be needed",
}

// Status returns a copy of everything that an operator may ask. Ages are as of now: the latest Step may be long ago.
func (m *Machine) Status(now time.Duration) Status {
	now = max(now, m.now)
	s := Status{
		Enabled: m.cfg.Enabled, Paused: m.paused, Phase: m.phase.String(), Since: now - m.since, Epoch: m.epoch, Open: m.open, Held: !m.open,
		Reason: m.why, Command: m.holdCommand(), Primary: m.known.index, Timeline: m.known.timeline, LSN: m.known.lsn, LSNAge: m.known.age(now),
		Stopping: m.stopping,
	}
	if m.reason != "" {
		s.Reason = m.reason
	}
	if !m.open {
		s.HeldFor = now - m.heldSince
		s.Public = publicWords[m.phase]
	}
	if r := m.runs.current; r != nil {
		s.Run = &RunStatus{ID: r.id, Hook: r.hook, For: now - r.at, Old: m.nameOf(r.old), New: m.nameOf(r.next)}
		if r.hook == HookNotify && m.phase == PhaseOpen {
			s.Phase = HookNotify
		}
	} else if m.runs.blocker != "" {
		s.Run = &RunStatus{ID: m.runs.blocker, Lost: true}
	}
	for _, a := range m.alarms {
		s.Alarms = append(s.Alarms, Alarm{a.name, a.text, now - a.since})
	}
	s.Servers = make([]ServerStatus, len(m.servers))
	for i := range m.each() {
		s.Servers[i] = m.serverStatus(i, now)
		s.Order = append(s.Order, i)
	}
	return s
}

func (m *Machine) serverStatus(i int, now time.Duration) ServerStatus {
	s := m.servers[i]
	out := ServerStatus{
		Name: s.cfg.Name, Host: s.cfg.Host, Port: s.cfg.Port, State: s.state, Qualifier: s.qual,
		Reason: s.reason, SystemID: s.system, Timeline: s.timeline, LSN: s.lsn(), Foreign: m.foreign(s),
	}
	if s.last != 0 {
		out.Seen, out.SeenAge, out.Failures = s.seen(), now-s.lastEnded, s.deadRow
	}
	if s.last == SawStandby && s.obs.Receiver != ReceiverUnknown {
		out.Standby = &StandbyView{
			Streaming: s.obs.Receiver == ReceiverStreaming, Status: s.obs.ReceiverWord, SlotName: s.obs.SlotName,
			SenderHost: s.obs.SenderHost, SenderPort: s.obs.SenderPort,
		}
	}
	if s.state == Failed {
		out.Command = "pgagroal-cli clear server " + s.cfg.Name
		if i == m.known.index && m.hold == holdLocked {
			out.Command = m.holdCommand()
		} else if s.last == SawPrimary {
			out.Command = "pgagroal-cli clear server --force " + s.cfg.Name + " (accepts it as the primary)"
		}
	}
	return out
}
