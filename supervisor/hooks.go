package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Limits of the link to the runner.
const (
	runnerSetup   = 10 * time.Second // from the start or connect to RunnerReady
	runnerConnect = 5 * time.Second
	// The heartbeat of a runner: how often it is asked, and after what silence there is
	// an alarm. After runnerReplace a runner is replaced if it is our child and runs no
	// script.
	runnerBeat    = 3 * time.Second
	runnerSilent  = 9 * time.Second
	runnerReplace = time.Minute
	// clockSlack is how much the runner's clock since boot may differ from ours. A
	// larger difference means that the runner is in another time namespace, where it
	// can't tell when a run expires.
	clockSlack = time.Second
)

// runnerEnd is one link to a runner. When the link is lost, another one is made.
type runnerEnd struct {
	started  *started
	spawned  bool // a child of ours, not a service
	up       bool // a run could be started: RunnerReady has come, and runnerProblem finds nothing
	gone     bool // the link has ended
	exited   bool
	born     time.Duration
	setup    *timer
	pid      int  // as RunnerHello says
	agrees   bool // it has read the same hooks and servers as we have
	problems map[string]string
	// knowsCheck: the hooks whose scripts declare that they know PGAGROAL_CHECK.
	knowsCheck map[string]bool
	ready      *ipc.RunnerReady
	prepared   *ipc.RunnerReady // for a reload, nil for none
	foreign    string           // id of a run that it says is in progress, but that isn't in our record
	failure    string           // why up is false
	heard      time.Duration    // when it last answered
	asked      time.Duration    // when the question was sent that it hasn't answered, 0 for none
	silent     bool             // the machine has been told that it is silent
	clock      string           // what is wrong with its clock
	logged     lineCounts
}

// runner is the supervisor's side of the script runner.
type runner struct {
	end      *runnerEnd // nil between two links
	failures int
	down     string // reason that the machine was last told, empty when up
	told     bool   // the machine has been told of up or down
	notify   string // what is wrong with the notify script, as the machine was last told
	checks   uint64 // number of the last CheckHooks
	checked  map[uint64]func(late bool)
	check    *hookCheck  // of a rehearsal, in progress
	current  *currentRun // the run in progress, or whose outcome is unknown
	inherits inheritedRun
	// secret of this start, sent to a runner that is a service as proof that we are its
	// supervisor.
	secret ipc.Secret
}

// linkRunner starts a runner, or connects to the runner that is a service.
func (s *supervisor) linkRunner() {
	if s.stop.leaving || s.runner.end != nil || !runsScripts(s.cfg) {
		return
	}
	r := &runnerEnd{spawned: s.cfg.ScriptrunnerSocket == "", born: s.env.now()}
	s.runner.end = r
	r.setup = s.after(runnerSetup, func() { s.dropRunner(r, "it was not ready in time") })
	secret, dir, socket := s.runner.secret, s.dir.Path, s.cfg.ScriptrunnerSocket
	start := func() (*started, error) {
		var err error
		if secret == "" {
			if secret, err = s.env.prove(dir); err != nil {
				return nil, err
			}
		}
		ctx, done := context.WithTimeout(context.Background(), runnerConnect)
		defer done()
		return s.env.dial(ctx, socket)
	}
	if r.spawned {
		spec := startSpec{
			role: proc.RoleRunner, argv0: "pgagroal: scriptrunner", peer: ipc.RoleRunner,
			lock: s.dir.Lock, queue: queueLimit,
		}
		start = func() (*started, error) { return s.env.start(spec) }
	}
	s.workers.spawning++
	elsewhere(s, start, func(st *started, err error) {
		s.runner.secret = secret
		s.onRunnerStarted(r, st, err)
	})
}

func (s *supervisor) onRunnerStarted(r *runnerEnd, st *started, err error) {
	s.workers.spawning--
	defer s.reapStrays()
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
	if m.Build != s.build { // a service that runs on while another version is installed
		s.log.Warn("the script runner is of another build", "runner", m.Build, "pgagroal", s.build)
	}
	s.tellRunnerLog(r)
	s.sendRunner(r, s.runnerConfigure(s.gen))
}

func (s *supervisor) runnerConfigure(gen uint64) *ipc.RunnerConfigure {
	path, err := filepath.Abs(s.cfg.Paths.Config)
	if err != nil {
		path = s.cfg.Paths.Config
	}
	return &ipc.RunnerConfigure{Gen: gen, ConfigPath: path, Secret: s.runner.secret}
}

func (s *supervisor) sendRunner(r *runnerEnd, m ipc.Message) {
	if err := r.started.link.Send(m); err != nil {
		s.dropRunner(r, err.Error())
	}
}

// onRunnerReady compares what the runner has read with our configuration, before a
// failover needs it.
func (s *supervisor) onRunnerReady(r *runnerEnd, m *ipc.RunnerReady) {
	if r.ready != nil {
		s.onRunnerPrepared(r, m)
		return
	}
	s.timers.stop(r.setup)
	s.runner.failures = 0
	r.takeProblems(m.Hooks)
	r.agrees = m.Digest == s.cfg.HooksDigest()
	r.ready = m
	if m.Running != s.runner.inherits.id && (s.runner.current == nil || m.Running != s.runner.current.id) {
		r.foreign = m.Running
	}
	s.reconcile(r, m)
	s.judgeRunner(r)
	r.heard = s.env.now()
	s.scheduleBeat(r)
	s.runnerJoinsReload(r)
}

// scheduleBeat asks the runner at intervals to check its scripts. This detects a runner
// that hangs, or a script that can't be executed any more, before a failover needs
// them.
func (s *supervisor) scheduleBeat(r *runnerEnd) {
	due := s.env.now() + runnerBeat
	s.timers.at(due, func() {
		if r.gone || s.runner.end != r {
			return
		}
		s.beat(r, due)
		if !r.gone {
			s.scheduleBeat(r)
		}
	})
}

func (s *supervisor) beat(r *runnerEnd, due time.Duration) {
	now := s.env.now()
	if now-due > runnerBeat {
		r.heard = now // this process was stopped, so the runner is not to blame
	}
	x := s.runner.current
	switch silence := now - r.heard; {
	case silence >= runnerReplace && r.spawned && (x == nil || x.from != r):
		s.dropRunner(r, fmt.Sprintf("it has not answered for %v", silence.Round(time.Second)))
		return
	case silence >= runnerSilent && !r.silent:
		r.silent = true
		s.feed(failover.RunnerSilent{Reason: fmt.Sprintf("it has not answered for %v", silence.Round(time.Second))})
	}
	if r.asked == 0 {
		s.runner.checks++
		r.asked = s.env.sinceBoot()
		s.sendRunner(r, &ipc.CheckHooks{ID: s.runner.checks})
	}
}

// hearRunner takes the answer to a CheckHooks as a sign of life, and compares the clocks.
func (s *supervisor) hearRunner(r *runnerEnd, m *ipc.HooksChecked) {
	r.heard = s.env.now()
	theirs := time.Duration(m.Clock) * time.Millisecond
	r.clock = ""
	if theirs+clockSlack < r.asked || theirs-clockSlack > s.env.sinceBoot() {
		r.clock = "its clock since boot is not ours, so it can't tell when a run has expired; run both in one time namespace"
	}
	r.asked = 0
	if r.silent {
		r.silent = false
		s.feed(failover.RunnerSilent{})
		s.log.Info("the script runner answers again", "child", r.pid)
	}
}

// judgeRunner decides anew whether a run could be started, and tells log and machine if
// that has changed.
func (s *supervisor) judgeRunner(r *runnerEnd) {
	was := r.up
	r.failure = s.runnerProblem(r, r.ready)
	r.up = r.failure == ""
	if why := r.problems[failover.HookNotify]; why != s.runner.notify {
		s.runner.notify = why
		s.feed(failover.NotifyBroken{Reason: why})
	}
	s.tellRunner(r.failure)
	if r.up && !was {
		s.log.Info("script runner is ready", "child", r.pid)
	}
}

// runnerProblem returns why no run can be started, or "" if one can.
func (s *supervisor) runnerProblem(r *runnerEnd, m *ipc.RunnerReady) string {
	switch {
	case m.Error != "":
		return "the runner can't read the configuration: " + m.Error
	case !r.agrees:
		return "the runner has read other hooks or servers than we have; restart both with the same configuration"
	case r.clock != "":
		return r.clock
	case r.foreign != "":
		return "run " + r.foreign + " of an earlier pgagroal has not ended"
	case r.problems[failover.HookFailover] != "":
		return "failover_script can't run: " + r.problems[failover.HookFailover]
	case r.problems[failover.HookFence] != "":
		return "failover_fence_script can't run: " + r.problems[failover.HookFence]
	}
	return ""
}

// tellRunner tells the machine whether a run could start now. An empty reason means
// that it could.
func (s *supervisor) tellRunner(reason string) {
	if s.runner.told && s.runner.down == reason {
		return
	}
	s.runner.told, s.runner.down = true, reason
	if reason == "" {
		s.feed(failover.RunnerUp{})
		return
	}
	if !runsScripts(s.cfg) { // a reload has ended it
		s.feed(failover.RunnerDown{Reason: reason})
		return
	}
	s.log.Error("no script can run", "reason", reason)
	s.feed(failover.RunnerDown{Reason: reason})
}

// onRunnerLinkEnd is called after the last message of the runner.
func (s *supervisor) onRunnerLinkEnd(r *runnerEnd, err error) {
	if x := s.runner.current; x != nil && x.from == r && errors.Is(err, io.EOF) {
		x.allHeard = true
	}
	s.dropRunner(r, "the link has ended: "+err.Error())
}

// dropRunner ends a link for good. A runner that is our child then ends by itself once
// its script has ended. It is killed only if the run was given up: otherwise nobody
// would look after the script.
func (s *supervisor) dropRunner(r *runnerEnd, why string) {
	if r.gone {
		return
	}
	if r.started != nil {
		r.started.close()
		x := s.runner.current
		if !s.stop.leaving && (x == nil || x.from != r || x.givenUp) {
			r.started.kill()
		}
	}
	s.runnerLost(r, why)
}

func (s *supervisor) onRunnerExit(r *runnerEnd, how string) {
	r.exited = true
	s.log.Debug("script runner ended", "how", how)
	if !r.gone {
		// The end of its link, after its last messages, is still to come.
		return
	}
	s.afterRunner(r)
}

// runnerLost tells the machine of the loss, and deals with the run that was in
// progress.
func (s *supervisor) runnerLost(r *runnerEnd, why string) {
	r.gone, r.up, r.failure = true, false, why
	s.timers.stop(r.setup)
	if !s.stop.leaving {
		s.tellRunner("the script runner is gone: " + why)
	}
	if r.silent {
		r.silent = false
		s.feed(failover.RunnerSilent{})
	}
	s.loseHookCheck()
	s.runnerLeavesReload()
	if x := s.runner.current; x != nil && x.from == r && !x.lost {
		s.loseRun(x)
	}
	s.afterRunner(r)
}

// afterRunner makes a new link once the old link and the process are gone.
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
