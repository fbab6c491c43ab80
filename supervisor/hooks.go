package supervisor

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Limits of the link to the runner.
const (
	runnerSetup   = 10 * time.Second // from the start or connect to RunnerReady
	runnerConnect = 5 * time.Second
	runnerLate    = 5 * time.Second        // for the runner to end a script at its time-out
	groupLook     = 200 * time.Millisecond // between looks at the group of a lost run
)

// runnerEnd is one link to a runner. A lost link is followed by another one.
type runnerEnd struct {
	started  *started
	spawned  bool // a child of ours, not a service
	up       bool // RunnerReady has come and agrees
	gone     bool // the link has ended
	exited   bool
	born     time.Duration
	setup    *timer
	pid      int
	digest   bool // it read the same hooks
	problems map[string]string
	ready    *ipc.RunnerReady
	foreign  string // id of a run that it shows in progress and that isn't in our record
	failure  string // why it isn't up
}

// runner is the supervisor's side of the script runner.
type runner struct {
	end      *runnerEnd // nil between two links
	failures int
	down     string // reason told to the machine last, empty when up
	told     bool   // the machine has been told of up or down
	checks   uint64 // counts CheckHooks
	checked  map[uint64]func()
	current  *currentRun // under way, or of unknown outcome
	inherits inheritedRun
}

// currentRun is a run from StartRun until its end is known.
type currentRun struct {
	id      string
	hook    string
	args    []string
	old     string // name of a server, as is next
	next    string
	pgid    int
	born    time.Duration
	timeout time.Duration
	lost    bool
	service bool // of a runner that isn't our child
	from    *runnerEnd
	adopter *runnerEnd // a runner that watches it after the death of its own
	termed  bool
	killed  bool
}

func (s *supervisor) startRunner() {
	if runsScripts(s.cfg) {
		s.linkRunner()
	}
}

// linkRunner starts a runner, or connects to the one that is a service.
func (s *supervisor) linkRunner() {
	if s.stop.leaving {
		return
	}
	r := &runnerEnd{spawned: s.cfg.ScriptrunnerSocket == "", born: s.env.now()}
	s.runner.end = r
	r.setup = s.after(runnerSetup, func() { s.dropRunner(r, "it was not ready in time") })
	start := func() (*started, error) {
		ctx, done := context.WithTimeout(context.Background(), runnerConnect)
		defer done()
		return s.env.dial(ctx, s.cfg.ScriptrunnerSocket)
	}
	if r.spawned {
		spec := startSpec{
			role: proc.RoleRunner, argv0: "pgagroal: scriptrunner", peer: ipc.RoleRunner,
			lock: s.dir.Lock, queue: queueLimit,
		}
		start = func() (*started, error) { return s.env.start(spec) }
	}
	s.workers.spawning++
	elsewhere(s, start, func(st *started, err error) { s.onRunnerStarted(r, st, err) })
}

func (s *supervisor) onRunnerStarted(r *runnerEnd, st *started, err error) {
	s.workers.spawning--
	defer s.reapOrphans()
	if err != nil {
		s.log.Error("no link to the script runner", "error", err)
		r.exited = true
		s.runnerLost(r, err.Error())
		return
	}
	r.started = st
	st.listen(
		func(m ipc.Message, _ ...int) { s.arrive(arrival{runner: r, message: m}) },
		func(err error) { s.arrive(arrival{runner: r, err: err}) },
		func(how string) { s.post(func() { s.onRunnerExit(r, how) }) },
	)
	if r.gone || s.stop.leaving {
		st.close()
		st.kill()
	}
}

func (s *supervisor) onRunnerHello(r *runnerEnd, m *ipc.RunnerHello) {
	r.pid = m.PID
	if m.Version != ipc.Version {
		s.dropRunner(r, fmt.Sprintf("it speaks version %d, we speak %d; install the same release of both", m.Version, ipc.Version))
		return
	}
	path, err := filepath.Abs(s.cfg.Paths.Config)
	if err != nil {
		path = s.cfg.Paths.Config
	}
	s.sendRunner(r, &ipc.RunnerConfigure{Gen: 1, ConfigPath: path})
}

func (s *supervisor) sendRunner(r *runnerEnd, m ipc.Message) {
	if err := r.started.link.Send(m); err != nil {
		s.dropRunner(r, err.Error())
	}
}

// onRunnerReady compares what the runner has read with what we have, before any
// failover needs it.
func (s *supervisor) onRunnerReady(r *runnerEnd, m *ipc.RunnerReady) {
	s.timers.stop(r.setup)
	s.runner.failures = 0
	r.takeProblems(m.Hooks)
	r.digest = m.Digest == s.cfg.HooksDigest()
	r.ready = m
	if m.Running != s.runner.inherits.id && (s.runner.current == nil || m.Running != s.runner.current.id) {
		r.foreign = m.Running
	}
	s.reconcile(r, m)
	s.judgeRunner(r)
}

func (s *supervisor) judgeRunner(r *runnerEnd) {
	was := r.up
	r.failure = s.runnerProblem(r, r.ready)
	r.up = r.failure == ""
	s.tellRunner(r.failure)
	if r.up && !was {
		s.log.Info("script runner is ready", "child", r.pid)
	}
}

// runnerProblem says why no run can be started, empty for nothing.
func (s *supervisor) runnerProblem(r *runnerEnd, m *ipc.RunnerReady) string {
	switch {
	case m.Error != "":
		return "the runner can't read the configuration: " + m.Error
	case !r.digest:
		return "the runner has read other hooks or servers than we have; restart both with the same configuration"
	case r.foreign != "":
		return "run " + r.foreign + " of an earlier pgagroal has not ended"
	case r.problems[failover.HookFailover] != "":
		return "failover_script can't run: " + r.problems[failover.HookFailover]
	case r.problems[failover.HookFence] != "":
		return "failover_fence_script can't run: " + r.problems[failover.HookFence]
	case r.problems[failover.HookNotify] != "":
		s.log.Error("failover_notify_script can't run", "problem", r.problems[failover.HookNotify])
	}
	return ""
}

// tellRunner tells the machine whether a run could start now; reason is empty
// when it could.
func (s *supervisor) tellRunner(reason string) {
	if s.runner.told && s.runner.down == reason {
		return
	}
	s.runner.told, s.runner.down = true, reason
	if reason == "" {
		s.feed(failover.RunnerUp{})
		return
	}
	s.log.Error("no script can run", "reason", reason)
	s.feed(failover.RunnerDown{Reason: reason})
}

func runEnded(m *ipc.RunEnded) failover.RunEnded {
	return failover.RunEnded{
		RunID: m.RunID, Hook: m.Hook, Exit: m.Exit, Signal: int(unix.SignalNum(m.Signal)), TimedOut: m.TimedOut, Refused: m.Refused,
	}
}

// startRun asks the runner for one run. Without a runner it is refused, which
// the machine knows how to go on from.
func (s *supervisor) startRun(a failover.StartRun) {
	r := s.runner.end
	if r == nil || !r.up || s.runner.current != nil {
		s.feed(failover.RunEnded{RunID: a.RunID, Hook: a.Hook, Exit: -1, Refused: "the script runner is not there"})
		return
	}
	s.runner.current = &currentRun{
		id: a.RunID, hook: a.Hook, args: a.Args, born: s.env.now(), timeout: a.Timeout, service: !r.spawned, from: r,
		old: a.Env["PGAGROAL_OLD_NAME"], next: a.Env["PGAGROAL_NEW_NAME"],
	}
	s.log.Debug("script is asked for", "run", a.RunID, "hook", a.Hook)
	s.sendRunner(r, &ipc.Run{RunID: a.RunID, Hook: a.Hook, Args: a.Args, Env: unprefixed(a.Env)})
}

// unprefixed takes the prefix from the names of variables: the runner adds it,
// so that nothing that we send can become another variable of the script.
func unprefixed(env map[string]string) map[string]string {
	out := make(map[string]string, len(env))
	for name, value := range env {
		out[strings.TrimPrefix(name, "PGAGROAL_")] = value
	}
	return out
}

// stopRun has the runner end a run before its time-out. One that has just ended
// needs nothing, one whose link is lost is watched until its time-out.
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
	x.pgid = m.PGID
	s.log.Info("script is started", "run", x.id, "hook", x.hook, "old", x.old, "new", x.next, "args", strings.Join(x.args, " "), "pid", m.PGID)
	s.feed(failover.RunStarted{RunID: m.RunID})
}

func (s *supervisor) onRunOutput(m *ipc.RunOutput) {
	line := m.Line
	if m.Cut {
		line += " [cut]"
	}
	s.history.addOutput(m.RunID, line)
	s.log.Info("script says", "run", m.RunID, "line", line)
}

func (s *supervisor) onRunEnded(m *ipc.RunEnded) {
	s.logEnd(m)
	x := s.runner.current
	switch r := s.runner.end; {
	case x != nil && x.id == m.RunID && x.lost && m.Unknown && !x.service:
		// groupOver can tell more
	case x != nil && x.id == m.RunID && x.lost:
		s.runIsOver(x, m) // its outcome was reported as unknown, and stays so
	case x != nil && x.id == m.RunID:
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

// logEnd is the one line about the end of a run; nil is an unknown end.
func (s *supervisor) logEnd(m *ipc.RunEnded) {
	if m == nil {
		return
	}
	fields := []any{"run", m.RunID, "hook", m.Hook}
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

func (s *supervisor) onRunnerLinkEnd(r *runnerEnd, err error) {
	s.dropRunner(r, "the link has ended: "+err.Error())
}

// dropRunner ends a link for good. A runner of ours ends with it, but not
// before its script has: killing it would only take the script out of its hands.
func (s *supervisor) dropRunner(r *runnerEnd, why string) {
	if r.gone {
		return
	}
	if r.started != nil {
		r.started.close()
		x := s.runner.current
		if !s.stop.leaving && (x == nil || x.from != r) {
			r.started.kill()
		}
	}
	s.runnerLost(r, why)
}

func (s *supervisor) onRunnerExit(r *runnerEnd, how string) {
	r.exited = true
	s.log.Debug("script runner ended", "how", how)
	if !r.gone {
		// The end of its link is on its way, behind what it still had to say.
		return
	}
	s.afterRunner(r)
}

// runnerLost is told to the machine, with the run that was under way.
func (s *supervisor) runnerLost(r *runnerEnd, why string) {
	r.gone, r.up, r.failure = true, false, why
	s.timers.stop(r.setup)
	if !s.stop.leaving {
		s.tellRunner("the script runner is gone: " + why)
	}
	if x := s.runner.current; x != nil && x.from == r && !x.lost {
		x.lost = true
		s.feed(failover.RunLost{RunID: x.id})
		s.watchGroup(x)
	}
	s.afterRunner(r)
}

// afterRunner links again once the link and the process are gone.
func (s *supervisor) afterRunner(r *runnerEnd) {
	if r.spawned && !r.exited || s.runner.end != r {
		return
	}
	s.runner.end = nil
	if s.stop.leaving {
		s.checkStopped()
		return
	}
	if s.env.now()-r.born >= restartStable {
		s.runner.failures = 0
	}
	s.runner.failures++
	s.after(backoff(s.runner.failures), s.linkRunner)
}
