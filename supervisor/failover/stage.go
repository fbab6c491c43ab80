package failover

import "time"

// stage is what the machine as a whole is doing, and why. Only its own methods write it.
type stage struct {
	phase  Phase
	since  time.Duration // of phase
	why    string        // why in phase, for status
	trail  []span        // phases since the primary was suspected, for history
	hold   hold          // why no primary is open, in PhaseHeld
	reason string        // what the phase waits for, where it is more than why
}

type span struct {
	phase Phase
	at    time.Duration
}

// begin starts a phase; a hold ends with its own.
func (s *stage) begin(p Phase, why string, now time.Duration) {
	if p == PhaseSuspect || p == PhaseOpen {
		s.trail = s.trail[:0]
	}
	s.trail = append(s.trail, span{p, now})
	s.phase, s.since, s.why = p, now, why
	if p != PhaseHeld {
		s.hold, s.reason = holdNone, ""
	}
}

// keep says what the hold that has just begun is about.
func (s *stage) keep(h hold, why string) { s.hold, s.reason = h, why }

// waitFor says what the phase waits for, "" for what why says.
func (s *stage) waitFor(what string) { s.reason = what }

// because says anew why the phase goes on.
func (s *stage) because(why string) { s.why = why }

// restart has what is decided in this phase rest on probes made from now on.
func (s *stage) restart(now time.Duration) { s.since = now }

// door lets clients in to the recorded primary, or has them wait.
type door struct {
	open      bool // clients may be attached
	heldSince time.Duration
}

func (d *door) shut(now time.Duration) { d.open, d.heldSince = false, now }

func (d *door) unlock() { d.open = true }

// phaseFacts is what each phase works with; what a hold needs is in holdFacts.
var phaseFacts = [phases]struct{ primary, run, plan bool }{
	PhaseOpen:      {primary: true},
	PhaseSuspect:   {primary: true},
	PhaseSwitching: {primary: true, plan: true},
	PhaseChoosing:  {primary: true},
	PhaseRunning:   {primary: true, run: true},
	PhaseVerifying: {primary: true},
}

// misses says what the phase works with and isn't there, "" for nothing.
func (m *Machine) misses(p Phase) string {
	switch f := phaseFacts[p]; {
	case f.primary && m.known.index < 0:
		return "the recorded primary"
	case f.run && m.runs.current == nil:
		return "its run"
	case f.plan && m.plan == nil:
		return "the planned switchover"
	}
	return ""
}
