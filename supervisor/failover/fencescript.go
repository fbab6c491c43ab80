package failover

import "fmt"

// cutOff runs failover_fence_script to cut the old primary off. This comes after the choice of a candidate, because
// cutting off the old primary helps nobody if no server can replace it. After the script the machine chooses again,
// because the candidate may have died or fallen behind meanwhile.
func (m *Machine) cutOff(next int) {
	old := m.known.index
	m.countAttempt()
	m.startRun(HookFence, old, next, m.hostPorts(old), m.cfg.ScriptTimeout, m.why)
	m.enter(PhaseRunning, "run "+m.runs.current.id+" cuts "+m.nameOf(old)+" off")
}

// fenceEnded goes on to the promotion after exit 0 only. A failed fence script leaves the candidate's state alone,
// because nothing was done to the candidate.
func (m *Machine) fenceEnded(r *run, ev RunEnded) {
	switch {
	case ev.Refused != "":
		m.runFailed(r, holdRefused, "failover_fence_script was refused, nothing ran: "+ev.Refused)
	case ev.TimedOut:
		m.runFailed(r, holdFence, "failover_fence_script took longer than "+short(r.timeout)+leftText(ev))
	case ev.Signal != 0:
		m.runFailed(r, holdFence, fmt.Sprintf("failover_fence_script was ended by signal %d", ev.Signal))
	case ev.Exit != 0:
		m.runFailed(r, holdFence, fmt.Sprintf("failover_fence_script ended with exit code %d", ev.Exit))
	default:
		m.runs.cutOff(m.now)
		m.log(Info, "the old primary is cut off", Attr{"server", m.nameOf(r.old)}, Attr{"run", r.id})
		m.enter(PhaseChoosing, r.reason)
	}
}

// answers reports whether the server has answered its latest probe at all, though it may count as dead.
func (s *server) answers() bool {
	return s.deadRow == 0 || s.last == SawStarting || s.last == SawShutdown
}

// checkCut concludes from any later answer of the old primary that it isn't cut off. It must then be cut off again
// before another server is promoted.
func (m *Machine) checkCut(s *server) {
	if !m.runs.cut || !s.answers() || s.lastStarted < m.runs.cutAt {
		return
	}
	m.runs.uncut()
	m.log(Warn, "the old primary answers although failover_fence_script has ended with exit code 0",
		Attr{"server", s.cfg.Name}, Attr{"seen", s.seen()})
	if m.phase != PhaseChoosing || (s.deadRow == 0 && m.fence.aim != aimOrdered) {
		return // the phase decides by the answer
	}
	// It counts as dead because it has been starting up for too long, or its answer is overruled by an order. Cutting
	// it off again and again wouldn't help.
	why := s.cfg.Name + " answers (" + s.seen() + ") although failover_fence_script has ended with exit code 0"
	m.giveUpOn(holdFence, why)
}

// beforeTheCut reports whether the latest answer of the old primary is older than its cut. Then the next answer
// decides.
func (m *Machine) beforeTheCut(old *server) bool {
	return m.runs.cut && old.answers() && old.lastStarted < m.runs.cutAt && m.now < m.since+m.cfg.RunnerWait
}
