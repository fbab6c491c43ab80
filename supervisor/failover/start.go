package failover

import "fmt"

// decision is the conclusion from the servers' first answers.
type decision struct {
	open     int   // server to open on, -1 none
	verified bool  // it was seen writable
	suspect  bool  // the recorded primary does not answer: confirm that it is dead, with logins held
	split    []int // writable servers of the same system that are not used
	hold     hold
	why      string
}

func (m *Machine) onStarted(ev Started) {
	m.started.wall, m.started.at = ev.Wall, m.now
	if m.goesOn {
		m.enter(PhaseOpen, "another program goes on in this process")
		return
	}
	m.enter(PhaseStarting, "start")
	m.shut(m.now)
	m.warnOfTwo()
	if m.runs.current == nil && m.hold != holdNone {
		m.log(Warn, "the previous supervisor left a hold behind", Attr{"hold", m.hold.String()})
	}
}

// evalStarting waits until every server has answered, at most failover_start_timeout.
func (m *Machine) evalStarting() {
	complete := true
	for _, s := range m.each() {
		complete = complete && s.last != 0
	}
	late := m.now >= m.since+m.cfg.StartTimeout
	if !complete && !late {
		return
	}
	if m.runs.last != nil {
		m.holdOn(m.runs.last.hold, m.runs.last.why)
		return
	}
	if m.known.index >= 0 && !m.known.verified {
		m.enter(PhaseVerifying, "the record shows a primary that was not verified yet")
		return
	}
	d := m.decideStart(late)
	if d.open < 0 && !late && !d.suspect {
		return
	}
	m.actOnStart(d)
}

func (m *Machine) actOnStart(d decision) {
	switch {
	case d.open >= 0:
		m.openStart(d)
	case d.suspect:
		m.enter(PhaseSuspect, d.why)
	default:
		m.holdOn(d.hold, d.why)
	}
	for _, i := range d.split {
		m.flagSplit(i)
	}
}

// openStart opens a server without a failover. The epoch grows if the recorded primary is another one.
func (m *Machine) openStart(d decision) {
	i := d.open
	s := m.servers[i]
	if i != m.known.index || m.epoch == 0 {
		m.epoch++
	}
	if old := m.known.index; old >= 0 && old != i && m.servers[old].state != Failed {
		m.become(old, NotInit, Plain, m.nameOf(i)+" is the primary now")
	}
	m.known.openOn(i, d.verified)
	s.excluded, s.recheck = false, false
	m.adoptIdentity(s)
	switch {
	case d.verified:
		m.become(i, Primary, Plain, d.why)
	case s.last == SawStandby:
		m.become(i, Primary, NotWritable, d.why)
	default:
		m.become(i, NotInitPrimary, Plain, d.why)
	}
	m.enter(PhaseOpen, d.why)
	for j := range m.each() {
		if j != i && m.servers[j].last == SawStandby {
			m.classify(j)
		}
	}
	m.reportForeign()
}

// adoptIdentity records what the primary has shown of itself.
func (m *Machine) adoptIdentity(s *server) {
	m.known.identify(s.system, s.timeline)
	if s.last == SawPrimary {
		m.known.note(s.obs, m.now)
	}
}

func (m *Machine) reportForeign() {
	for i, s := range m.each() {
		if i == m.known.index || !m.foreign(s) || m.alias(i) {
			continue
		}
		if m.cfg.Validate == ValidationOn {
			m.become(i, Failed, Plain, "another system identifier, and startup_validation is on")
			continue
		}
		if s.state != Failed {
			m.become(i, NotInit, Plain, "another system identifier")
		}
		if m.cfg.Validate == ValidationTry {
			m.logOnce("foreign "+s.cfg.Name, Warn, "the server has another system identifier than the primary",
				Attr{"server", s.cfg.Name}, Attr{"system", fmt.Sprint(s.system)}, Attr{"primary's", fmt.Sprint(m.known.system)})
		}
	}
}

// decideStart applies chapter 0 of doc/FAILOVER.md. late says that the time is up, so that what is known must be
// enough.
func (m *Machine) decideStart(late bool) decision {
	own, strangers := m.writable()
	switch {
	case m.known.damaged && m.cfg.Enabled:
		return decision{open: -1, hold: holdDamaged, why: "the state file was damaged, so a writable server may be one that was replaced"}
	case len(own) == 1:
		return m.decideOne(own[0])
	case len(own) > 1:
		return m.decideMany(own)
	case len(strangers) > 0 && m.cfg.Validate != ValidationOn && !m.ownAlive():
		return decision{open: m.preferred(strangers), verified: true, why: "writable, chosen by hint or order"}
	}
	return m.decideNone(late)
}

// writable returns the writable servers, separated into those of the primary's own system and strangers.
func (m *Machine) writable() (own, strangers []int) {
	var found []int
	for i, s := range m.each() {
		if s.last == SawPrimary && !m.barred(s) && !m.alias(i) {
			found = append(found, i)
		}
	}
	system := m.known.system
	if system == 0 && len(found) > 0 {
		system = m.servers[m.preferred(found)].system
	}
	for _, i := range found {
		if s := m.servers[i]; s.system == 0 || system == 0 || s.system == system {
			own = append(own, i)
		} else {
			strangers = append(strangers, i)
		}
	}
	return own, strangers
}

// ownAlive reports whether a server of the recorded primary's system is alive, so that a stranger must not become
// primary.
func (m *Machine) ownAlive() bool {
	for _, s := range m.each() {
		if m.known.index >= 0 && m.known.system != 0 && s.last == SawStandby && s.system == m.known.system {
			return true
		}
	}
	return false
}

// preferred returns the hinted server, else the first in the configuration.
func (m *Machine) preferred(among []int) int {
	for _, i := range among {
		if m.servers[i].cfg.PrimaryHint {
			return i
		}
	}
	return among[0]
}

func (m *Machine) decideOne(i int) decision {
	s := m.servers[i]
	if m.known.index >= 0 && i != m.known.index && m.known.timeline != 0 && s.timeline < m.known.timeline {
		return decision{open: -1, hold: holdNewer, why: fmt.Sprintf("%s is writable on timeline %d, but the state file records %s on timeline %d",
			s.cfg.Name, s.timeline, m.nameOf(m.known.index), m.known.timeline)}
	}
	return decision{open: i, verified: true, why: "the only writable server"}
}

func (m *Machine) decideMany(own []int) decision {
	best, tie := own[0], false
	for _, i := range own[1:] {
		a, b := m.servers[i].timeline, m.servers[best].timeline
		if a > b {
			best, tie = i, false
		} else if a == b {
			tie = true
		}
	}
	why := "the highest timeline of several writable servers"
	for _, i := range own {
		if i == m.known.index && (m.known.timeline == 0 || m.servers[i].timeline == m.known.timeline) {
			best, tie, why = i, false, "the recorded primary, writable on its recorded timeline"
		}
	}
	if tie {
		return decision{open: -1, hold: holdSplit, split: own, why: "several servers are writable on the same timeline"}
	}
	if best != m.known.index && m.known.index >= 0 && m.servers[best].timeline < m.known.timeline {
		return decision{open: -1, hold: holdNewer, split: own, why: "several servers are writable, none on the recorded timeline"}
	}
	d := decision{open: best, verified: true, why: why}
	for _, i := range own {
		if i != best {
			d.split = append(d.split, i)
		}
	}
	return d
}

// decideNone handles a start without a writable server.
func (m *Machine) decideNone(late bool) decision {
	if i := m.roleUnknown(late); i >= 0 {
		return decision{open: i, why: "it answers, but probes can't log in: clients' logins tell the role"}
	}
	if !m.cfg.Enabled {
		if i := m.readOnly(); i >= 0 && late {
			return decision{open: i, why: "no server is writable, and failover is off"}
		}
	}
	if m.known.index < 0 || !m.cfg.Enabled {
		return decision{open: -1, hold: holdNoPrimary, why: noneWritable + " (" + m.answers() + ")"}
	}
	if m.servers[m.known.index].last == SawStandby {
		return decision{open: -1, hold: holdDemoted, why: m.nameOf(m.known.index) + " is in recovery"}
	}
	return decision{open: -1, suspect: true, why: "the recorded primary does not answer"}
}

// roleUnknown returns the server to try when probes can't log in: the recorded, the hinted or the first one; -1 if
// there is none.
func (m *Machine) roleUnknown(late bool) int {
	usable := func(s *server) bool {
		return s.last == SawAlive && !s.excluded && (late || s.code != tooManyConnections)
	}
	if m.known.index >= 0 {
		if usable(m.servers[m.known.index]) {
			return m.known.index
		}
		return -1
	}
	var found []int
	for i, s := range m.each() {
		if usable(s) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return -1
	}
	return m.preferred(found)
}

// readOnly returns the standby that serves clients if failover is off and no server is writable.
func (m *Machine) readOnly() int {
	var found []int
	for i, s := range m.each() {
		if s.last == SawStandby {
			if i == m.known.index {
				return i
			}
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return -1
	}
	return m.preferred(found)
}

// forgetPrimary drops the recorded primary, so that the servers' answers decide again.
func (m *Machine) forgetPrimary() {
	if m.known.index >= 0 && m.servers[m.known.index].state != Failed {
		m.become(m.known.index, NotInit, Plain, "no longer the recorded primary")
	}
	m.known.forget()
	m.runs.forget()
	m.notify.drop()
}
