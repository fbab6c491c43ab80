package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Limits of a run.
const (
	// runExpiry is how long the runner may take to start a script. The runner checks
	// the clock right before it starts the script, so that a script is never executed
	// later than this.
	runExpiry = 10 * time.Second
	// runSlack is how much later than that the run is given up, so that the runner's
	// last messages can arrive.
	runSlack   = time.Second
	runnerLate = 5 * time.Second // for the runner to end a script at its time-out
	// unkillable is how long the runner keeps sending SIGKILL, as pgagroal-hooks(7)
	// says.
	unkillable = 10 * time.Second
	groupLook  = 200 * time.Millisecond // between looks at the group of a lost run
)

// currentRun is a run from StartRun until its end is known.
type currentRun struct {
	id      string
	hook    string
	args    []string
	old     string // name of the old primary; next is that of the new one
	next    string
	pgid    int
	born    time.Duration
	timeout time.Duration
	// expires is when the runner must not start the script any more, as time since
	// boot.
	expires  time.Duration
	limit    *timer        // until the runner starts the script, then until it tells how it ended
	starting bool          // the runner may have executed the script: it has sent RunStarting, or its last messages are missing
	allHeard bool          // the link has ended, and all messages of the runner were read
	givenUp  bool          // the runner did not meet limit
	lost     bool          // its runner was lost before it reported the end
	told     bool          // the machine knows that it is lost
	over     time.Duration // when to stop waiting for what is left of it
	service  bool          // the runner is a service, not our child
	from     *runnerEnd
	adopter  *runnerEnd // the runner that watches the run after its own runner has died
	termed   bool       // SIGTERM was sent to the group of a lost run
	killed   bool       // SIGKILL was sent to it
}

// processes joins ids with spaces, "" for none.
func processes(ids []int) string {
	text := make([]string, len(ids))
	for i, id := range ids {
		text[i] = strconv.Itoa(id)
	}
	return strings.Join(text, " ")
}

func runEnded(m *ipc.RunEnded) failover.RunEnded {
	return failover.RunEnded{
		RunID: m.RunID, Hook: m.Hook, Exit: m.Exit, Signal: int(unix.SignalNum(m.Signal)), TimedOut: m.TimedOut, Refused: m.Refused,
		Left: processes(m.Left),
	}
}

// startRun asks the runner to execute one run. Without a runner the run counts as
// refused, which the machine handles.
func (s *supervisor) startRun(a failover.StartRun) {
	r := s.runner.end
	if r == nil || !r.up || s.runner.current != nil {
		s.feed(failover.RunEnded{RunID: a.RunID, Hook: a.Hook, Exit: -1, Refused: "the script runner is not there"})
		return
	}
	s.runner.current = &currentRun{
		id: a.RunID, hook: a.Hook, args: a.Args, born: s.env.now(), timeout: a.Timeout, service: !r.spawned, from: r,
		old: a.Env["PGAGROAL_OLD_NAME"], next: a.Env["PGAGROAL_NEW_NAME"], expires: s.env.sinceBoot() + runExpiry,
	}
	s.log.Debug("script is asked for", "run", a.RunID, "hook", a.Hook)
	s.limitStart(s.runner.current, runExpiry)
	s.sendRunner(r, &ipc.Run{
		RunID: a.RunID, Hook: a.Hook, Args: a.Args, Env: unprefixed(a.Env), Expires: s.runner.current.expires.Milliseconds(),
	})
}

// limitStart gives up a run that the runner hasn't started a moment after it has
// expired.
func (s *supervisor) limitStart(x *currentRun, d time.Duration) {
	due := s.env.now() + d + runSlack
	x.limit = s.timers.at(due, func() {
		switch {
		case s.runner.current != x || x.lost:
		case s.env.now()-due > runSlack/2:
			// This process was stopped itself: the runner's messages may be on their
			// way.
			s.limitStart(x, 0)
		default:
			s.log.Error("the script runner has not started a script in time; the run is given up, and the runner won't start it any more",
				"run", x.id, "hook", x.hook, "limit", runExpiry)
			x.allHeard = true
			s.giveUp(x, fmt.Sprintf("it has not started a script within %v", runExpiry))
		}
	})
}

// limitEnd gives up a run whose end the runner doesn't report in time.
func (s *supervisor) limitEnd(x *currentRun, d time.Duration) {
	due := s.env.now() + d
	x.limit = s.timers.at(due, func() {
		switch {
		case s.runner.current != x || x.lost:
		case s.env.now()-due > runSlack:
			s.limitEnd(x, runSlack)
		default:
			s.log.Error("the script runner has not reported the end of a script in time", "run", x.id, "hook", x.hook)
			s.giveUp(x, "it has not ended a script in time")
		}
	})
}

// giveUp ends the link to a runner that doesn't finish a run, and kills the runner if
// it is our child.
func (s *supervisor) giveUp(x *currentRun, why string) {
	x.givenUp = true
	s.dropRunner(x.from, why)
}

// onRunStarting is called right before the runner executes the script.
func (s *supervisor) onRunStarting(m *ipc.RunStarting) {
	if x := s.runner.current; x != nil && x.id == m.RunID {
		x.starting = true
	}
}

// unprefixed removes the prefix from the names of variables. The runner adds it again,
// so that the supervisor can set no other variable of a script.
func unprefixed(env map[string]string) map[string]string {
	out := make(map[string]string, len(env))
	for name, value := range env {
		out[strings.TrimPrefix(name, "PGAGROAL_")] = value
	}
	return out
}

// stopRun has the runner end a run before its time-out. It does nothing if the run has
// just ended. A run whose link is lost is watched until its time-out instead.
func (s *supervisor) stopRun(a failover.StopRun) {
	x := s.runner.current
	if x == nil || x.id != a.RunID || x.lost {
		return
	}
	s.log.Warn("script is stopped", "run", a.RunID, "hook", x.hook, "why", a.Why)
	s.sendRunner(x.from, &ipc.StopRun{RunID: a.RunID})
}

func (s *supervisor) onRunStarted(m *ipc.RunStarted) {
	x := s.runner.current
	if x == nil || x.id != m.RunID {
		return
	}
	x.starting, x.pgid = true, m.PGID
	s.timers.stop(x.limit)
	s.limitEnd(x, x.timeout+s.cfg.FailoverKillDelay+unkillable+runnerLate)
	s.log.Info("script is started", "run", x.id, "hook", x.hook, "old", x.old, "new", x.next, "args", strings.Join(x.args, " "), "pid", m.PGID)
	s.feed(failover.RunStarted{RunID: m.RunID})
}

func (s *supervisor) onRunOutput(m *ipc.RunOutput) {
	if s.saidByCheck(m) {
		return
	}
	line := m.Line
	if m.Cut {
		line += " [cut]"
	}
	s.history.addOutput(m.RunID, line)
	logline.Unlimited(s.log).Info("script says", "run", m.RunID, "line", line)
}

func (s *supervisor) onRunEnded(m *ipc.RunEnded) {
	if s.endHookCheck(m.RunID, m, "") {
		return
	}
	s.logEnd(m)
	x := s.runner.current
	switch r := s.runner.end; {
	case x != nil && x.id == m.RunID && x.lost && m.Unknown && !x.service:
		// watchGroup can tell more
	case x != nil && x.id == m.RunID && x.lost:
		s.runIsOver(x, m) // the machine was told that the outcome is unknown, and knows it now
	case x != nil && x.id == m.RunID:
		s.timers.stop(x.limit)
		s.runner.current = nil
		s.feed(runEnded(m))
	case m.RunID == s.runner.inherits.id:
		s.runner.inherits.over, s.runner.inherits.end = true, m
		s.settleInherited()
	case r != nil && r.foreign == m.RunID:
		r.foreign = ""
		s.judgeRunner(r)
	}
	s.checkStopped()
}

// logEnd logs the end of a run, in one line. nil is an unknown end.
func (s *supervisor) logEnd(m *ipc.RunEnded) {
	if m == nil {
		return
	}
	fields := []any{"run", m.RunID, "hook", m.Hook}
	if len(m.Left) > 0 {
		s.log.Error("processes of a script can't be ended, and are not waited for; end them by hand", append(fields, "processes", processes(m.Left))...)
	}
	switch {
	case m.Refused != "":
		s.log.Error("script was refused", append(fields, "why", m.Refused)...)
		return
	case m.Unknown:
		s.log.Warn("nothing is left of a script whose runner died; how it ended is unknown", fields...)
		return
	case m.Signal != "":
		fields = append(fields, "signal", m.Signal)
	default:
		fields = append(fields, "exit", m.Exit)
	}
	if m.TimedOut {
		fields = append(fields, "timed_out", true)
	}
	s.log.Info("script has ended", append(fields, "ms", m.DurationMS)...)
}
