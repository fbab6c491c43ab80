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
	failure  string // why it isn't up
}

// runner is the supervisor's side of the script runner.
type runner struct {
	end      *runnerEnd // nil between two links
	failures int
	down     string      // reason told to the machine last, empty when up
	told     bool        // the machine has been told of up or down
	current  *currentRun // under way, or of unknown outcome
	inherits string      // id of a run that the record shows under way at the start
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
			lock: s.lock.file, queue: queueLimit,
		}
		start = func() (*started, error) { return s.env.start(spec) }
	}
	s.workers.spawning++
	s.env.background(func() func() {
		st, err := start()
		return func() { s.onRunnerStarted(r, st, err) }
	})
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
		func(m ipc.Message) { s.arrive(arrival{runner: r, message: m}) },
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
	r.problems = map[string]string{}
	for _, h := range m.Hooks {
		if h.Problem != "" {
			r.problems[h.Hook] = h.Problem
		}
	}
	r.digest = m.Digest == s.cfg.HooksDigest()
	r.failure = s.runnerProblem(r, m)
	r.up = r.failure == ""
	s.reconcile(r, m)
	s.tellRunner(r.failure)
	if r.up {
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

// reconcile settles a run whose end we haven't seen with what the runner knows.
// One of a runner that we started needs its process group, or the lock.
func (s *supervisor) reconcile(r *runnerEnd, m *ipc.RunnerReady) {
	if r.spawned {
		return
	}
	if id := s.runner.inherits; id != "" && m.Running != id {
		s.runner.inherits = ""
		end := resultOf(id, m.Results)
		s.logEnd(end)
		s.tellMissed(id, end)
	}
	x := s.runner.current
	if x == nil || !x.lost || m.Running == x.id {
		return
	}
	// A runner that knows nothing of it isn't the one that ran it: what that one
	// has left behind is watched on.
	if end := resultOf(x.id, m.Results); end != nil || x.pgid <= 0 || s.groupOver(x) {
		s.logEnd(end)
		s.runIsOver(x, end)
	}
}

func resultOf(id string, results []ipc.RunEnded) *ipc.RunEnded {
	for i := range results {
		if results[i].RunID == id {
			return &results[i]
		}
	}
	return nil
}

// tellMissed tells the machine of the end of a run that it has given up, with
// the outcome where it is known.
func (s *supervisor) tellMissed(id string, end *ipc.RunEnded) {
	if end == nil {
		s.feed(failover.RunGroupEmpty{RunID: id})
		return
	}
	s.feed(runEnded(end))
}

func runEnded(m *ipc.RunEnded) failover.RunEnded {
	return failover.RunEnded{
		RunID: m.RunID, Hook: m.Hook, Exit: m.Exit, Signal: int(unix.SignalNum(m.Signal)), TimedOut: m.TimedOut, Refused: m.Refused,
	}
}

// lockIsOurs says that no process of an earlier supervisor is left, its runner
// included, which ends only after its scripts.
func (s *supervisor) lockIsOurs() {
	if id := s.runner.inherits; id != "" && s.cfg.ScriptrunnerSocket == "" {
		s.runner.inherits = ""
		s.feed(failover.RunGroupEmpty{RunID: id})
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
	switch {
	case x != nil && x.id == m.RunID && x.lost:
		s.runIsOver(x, m) // its outcome was reported as unknown, and stays so
	case x != nil && x.id == m.RunID:
		s.runner.current = nil
		s.feed(runEnded(m))
	case m.RunID == s.runner.inherits:
		s.runner.inherits = ""
		s.tellMissed(m.RunID, m)
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

// watchGroup looks at the process group of a lost run until it is empty, and
// ends it when its time is over.
func (s *supervisor) watchGroup(x *currentRun) {
	s.after(groupLook, func() {
		if s.runner.current != x {
			return
		}
		if s.groupOver(x) {
			s.runIsOver(x, nil)
			return
		}
		s.endLostRun(x)
		s.watchGroup(x)
	})
}

// groupOver says that nothing of a lost run is left. Of a runner of ours that
// means: it is dead, its group is empty, and nobody unknown has become our child.
func (s *supervisor) groupOver(x *currentRun) bool {
	if x.service {
		return x.pgid > 0 && s.env.groupEmpty(x.pgid)
	}
	if !x.from.exited || x.pgid > 0 && !s.env.groupEmpty(x.pgid) {
		return false
	}
	s.reapOrphans()
	return s.workers.spawning == 0 && s.env.strangers(s.childIDs())
}

// endLostRun enforces the time-out that a dead runner can't enforce any more. A
// runner that lives does it itself, and is killed when it is late with that.
func (s *supervisor) endLostRun(x *currentRun) {
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

// runIsOver ends a run that was lost; end is nil when its outcome stays unknown.
func (s *supervisor) runIsOver(x *currentRun, end *ipc.RunEnded) {
	s.runner.current = nil
	s.tellMissed(x.id, end)
	s.checkStopped()
}
