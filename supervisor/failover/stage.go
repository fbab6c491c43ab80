package failover

import "time"

// stage is what the machine as a whole is doing, and why. Only its own methods write it.
type stage struct {
	phase  Phase
	since  time.Duration // when phase began
	why    string        // why the machine is in phase, for status
	trail  []span        // phases since the suspicion, for the history
	hold   hold          // why no primary is open, in PhaseHeld
	reason string        // what the phase waits for, or why it holds; "" if why says it
}

type span struct {
	phase Phase
	at    time.Duration
}

// begin starts a phase. A hold ends with its phase.
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

// keep records which hold has just begun, and why.
func (s *stage) keep(h hold, why string) { s.hold, s.reason = h, why }

// waitFor records what the phase waits for, "" if why says it.
func (s *stage) waitFor(what string) { s.reason = what }

// because replaces the reason of the phase.
func (s *stage) because(why string) { s.why = why }

// restart has the decisions of this phase use only probes made from now on.
func (s *stage) restart(now time.Duration) { s.since = now }

// door says whether clients may use the recorded primary or have to wait.
type door struct {
	open      bool // clients may get backends
	heldSince time.Duration
}

func (d *door) shut(now time.Duration) { d.open, d.heldSince = false, now }

func (d *door) unlock() { d.open = true }

// phaseFacts is what must be there in each phase. What a hold needs is in holdFacts.
var phaseFacts = [phases]struct{ primary, run, plan bool }{
	PhaseOpen:      {primary: true},
	PhaseSuspect:   {primary: true},
	PhaseSwitching: {primary: true, plan: true},
	PhaseChoosing:  {primary: true},
	PhaseRunning:   {primary: true, run: true},
	PhaseVerifying: {primary: true},
}

// misses returns what the phase needs and isn't there, "" for nothing.
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
