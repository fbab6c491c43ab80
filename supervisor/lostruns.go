package supervisor

import (
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// inheritedRun is a run that was in progress according to the record at the start. It
// is kept until none of its processes is left.
type inheritedRun struct {
	id   string // empty for none
	over bool   // a runner has said that none of its processes is left
	end  *ipc.RunEnded
}

// reconcile compares a run whose end the supervisor hasn't seen with what the runner
// knows. A runner also reads what earlier runners have written down.
func (s *supervisor) reconcile(r *runnerEnd, m *ipc.RunnerReady) {
	s.reconcileInherited(m)
	x := s.runner.current
	switch {
	case x == nil || !x.lost:
		return
	case m.Running == x.id:
		x.starting, x.adopter = true, r
		s.tellLost(x)
		return
	case r.spawned:
		return // for a child's run, watchGroup knows more
	}
	// If this runner knows nothing of the run, another runner has executed it. Then go on
	// watching what that runner left behind.
	if end := resultOf(x.id, m.Results); end != nil || x.starting && x.pgid <= 0 {
		s.logEnd(end)
		s.runIsOver(x, end)
	}
}

func (s *supervisor) reconcileInherited(m *ipc.RunnerReady) {
	in := &s.runner.inherits
	end := resultOf(in.id, m.Results)
	// A runner without a configuration may not know where the record is.
	if in.id == "" || m.Running == in.id || end == nil && m.Error != "" {
		return
	}
	s.logEnd(end)
	in.over, in.end = true, end
	s.settleInherited()
}

// settleInherited tells the machine once no process of the inherited run is left. If
// runners are children, an earlier runner holds the lock until its script has ended: then
// the lock must be ours as well.
func (s *supervisor) settleInherited() {
	in := s.runner.inherits
	if in.id == "" || !in.over || s.cfg.ScriptrunnerSocket == "" && !s.dir.Ours {
		return
	}
	s.runner.inherits = inheritedRun{}
	s.tellMissed(in.id, in.end)
}

func resultOf(id string, results []ipc.RunEnded) *ipc.RunEnded {
	for i := range results {
		if results[i].RunID == id {
			return &results[i]
		}
	}
	return nil
}

// tellMissed tells the machine of the end of a run whose end it has stopped waiting
// for, with the outcome if that is known.
func (s *supervisor) tellMissed(id string, end *ipc.RunEnded) {
	if end == nil || end.Unknown {
		s.feed(failover.RunGroupEmpty{RunID: id})
		return
	}
	s.feed(runEnded(end))
}

// lockIsOurs is called when no child of an earlier supervisor is left. A script may still
// run if its runner was killed. The next runner knows of that script; if no runner is
// needed, nothing depends on it.
func (s *supervisor) lockIsOurs() {
	if !runsScripts(s.cfg) {
		s.runner.inherits.over = true
	}
	s.settleInherited()
}

// loseRun goes on without the runner that was to execute the run. Unless it is certain
// that nothing was executed, the outcome is unknown.
func (s *supervisor) loseRun(x *currentRun) {
	s.timers.stop(x.limit)
	x.lost = true
	x.over = max(x.born+x.timeout+s.cfg.FailoverKillDelay, s.env.now()+runExpiry) + unkillable + runnerLate
	if x.starting || !x.allHeard {
		x.starting = true
		s.tellLost(x)
	}
	if !s.settleUnstarted(x) {
		s.watchGroup(x)
	}
}

// tellLost tells the machine, once, that the outcome of a run is unknown.
func (s *supervisor) tellLost(x *currentRun) {
	if !x.told {
		x.told = true
		s.console.figures.ran(x.hook, outcomeUnknown)
		s.feed(failover.RunLost{RunID: x.id})
	}
}

// settleUnstarted tells the machine if the script was not executed and never will be:
// the runner hasn't said that it is about to execute it, and is dead, or, if its death
// can't be seen, would be too late to start it.
func (s *supervisor) settleUnstarted(x *currentRun) bool {
	gone := x.from.exited
	if x.service {
		gone = s.env.sinceBoot() >= x.expires
	}
	if x.starting || !gone {
		return false
	}
	s.runner.current = nil
	s.log.Error("a script was not started", "run", x.id, "hook", x.hook)
	s.feed(failover.RunEnded{RunID: x.id, Hook: x.hook, Exit: -1, Refused: "the script runner was lost before it had started anything, and will not: " + x.from.failure})
	s.checkStopped()
	return true
}

// watchGroup checks at intervals whether processes of a lost run are left, and ends
// them at the run's time-out. After a limit it stops waiting for processes that can't be
// ended. Each check reads all of /proc, in a goroutine.
func (s *supervisor) watchGroup(x *currentRun) {
	s.after(groupLook, func() {
		if s.runner.current != x || s.settleUnstarted(x) {
			return
		}
		elsewhere(s, s.lookAfter(x), func(over bool, _ error) {
			switch {
			case s.runner.current != x:
			case over && !(x.service && x.adopted()):
				s.runIsOver(x, nil)
			case s.env.now() >= x.over && !x.adopted():
				s.abandonRun(x)
			default:
				s.endLostRun(x)
				s.watchGroup(x)
			}
		})
	})
}

// abandonRun stops waiting for what is left of a run, so that the machine and a
// shutdown can go on.
func (s *supervisor) abandonRun(x *currentRun) {
	s.log.Error("what is left of a script can't be ended, or can't be seen, and is not waited for; look for its processes and end them by hand",
		"run", x.id, "hook", x.hook, "group", x.pgid)
	s.runner.current = nil
	s.tellLost(x)
	s.feed(failover.RunGroupEmpty{RunID: x.id, GivenUp: true})
	s.checkStopped()
}

// lookAfter returns the function that checks whether no process of a lost run is left.
// If the runner was our child this means: the runner is dead, the process group is
// empty, and the supervisor has no child that it doesn't know.
func (s *supervisor) lookAfter(x *currentRun) func() (over bool, err error) {
	pgid, known := x.pgid, s.childIDs()
	if x.service {
		return func() (bool, error) { return pgid > 0 && s.env.groupEmpty(pgid), nil }
	}
	if !x.from.exited || s.workers.spawning > 0 {
		return func() (bool, error) { return false, nil }
	}
	return func() (bool, error) { return (pgid <= 0 || s.env.groupEmpty(pgid)) && s.env.noStrangers(known), nil }
}

// adopted reports whether another runner watches the run, and will tell of its end.
func (x *currentRun) adopted() bool { return x.adopter != nil && !x.adopter.gone }

// endLostRun enforces the time-out that a dead runner can't enforce any more. A living
// runner enforces it itself, and is killed if it is late.
func (s *supervisor) endLostRun(x *currentRun) {
	if x.adopted() {
		return
	}
	over := s.env.now() - x.born - x.timeout
	if !x.service && !x.from.exited {
		if over > s.cfg.FailoverKillDelay+runnerLate {
			x.from.started.kill()
		}
		return
	}
	switch {
	case x.pgid <= 0:
		return
	case over < 0 || x.killed:
		return
	case over >= s.cfg.FailoverKillDelay:
		x.killed = true
	case x.termed:
		return
	}
	x.termed = true
	err := s.env.signalGroup(x.pgid, x.killed)
	s.log.Warn("script is ended at its time-out", "run", x.id, "killed", x.killed, "error", err)
}

// runIsOver ends a run that was lost. end is nil if its outcome stays unknown.
func (s *supervisor) runIsOver(x *currentRun, end *ipc.RunEnded) {
	s.runner.current = nil
	if end == nil || end.Unknown {
		s.tellLost(x)
	}
	s.tellMissed(x.id, end)
	s.checkStopped()
}
