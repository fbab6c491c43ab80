package failover

import (
	"fmt"
	"strings"
)

// noneWritable begins the reason of a hold because no server is writable. What each server has answered follows it.
const noneWritable = "no server is writable"

// outcomeWords say what an operator may conclude from a probe.
var outcomeWords = [...]string{
	0:              "no answer yet",
	SawPrimary:     "writable, but not used",
	SawStandby:     "in recovery",
	SawRefused:     "refuses connections",
	SawTimeout:     "does not answer within the time-out",
	SawSilent:      "accepts connections, but says nothing",
	SawUnreachable: "can't be reached: no route",
	SawNoAddress:   "can't be resolved",
	SawAlive:       "it answers, but probes can't log in",
	SawStarting:    "starting up",
	SawShutdown:    "shutting down",
}

// answer says what a server has answered last, and where it was asked if nobody has answered there.
func (s *server) answer() string {
	switch {
	case s.noAddress:
		return "the host " + s.cfg.Host + " " + outcomeWords[SawNoAddress]
	case s.last == 0 && s.unseen:
		return "could not be probed"
	case s.last == SawRefused || s.silent():
		return fmt.Sprintf("%s port %s %s", s.cfg.Host, s.cfg.Port, outcomeWords[s.last])
	case s.code != "":
		return fmt.Sprintf("%s (%s)", outcomeWords[s.last], s.code)
	}
	return outcomeWords[s.last]
}

// answers says what each server has answered last.
func (m *Machine) answers() string {
	var all []string
	for _, s := range m.each() {
		all = append(all, s.cfg.Name+": "+s.answer())
	}
	return strings.Join(all, "; ")
}

// anyAlive reports whether a server could serve clients if it were forced to be the primary.
func (m *Machine) anyAlive() bool {
	for _, s := range m.each() {
		if s.alive() {
			return true
		}
	}
	return false
}

// refreshAnswers keeps the reason of a hold true while servers come and go.
func (m *Machine) refreshAnswers(d decision) {
	if d.hold == holdNoPrimary && m.hold == holdNoPrimary && strings.HasPrefix(m.reason, noneWritable) {
		m.keep(m.hold, d.why)
	}
}

// showUnseen raises an alarm for each server that has answered nothing since the start, in a few probes. A wrong host or
// port looks like this. Of the recorded primary and of Failed servers other alarms and their state tell.
func (m *Machine) showUnseen() {
	for i, s := range m.each() {
		lost := !s.met && s.deadRow >= m.cfg.ProbeCount && s.state != Failed && i != m.known.index && m.phase != PhaseStarting
		m.set(lost, "unseen "+s.cfg.Name, s.cfg.Name+" was never seen since the start: "+s.answer()+
			" (start it, or correct host and port in its section)")
	}
}
