package scriptrunner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// pipeWait is how long to wait for output after the script has ended, if a process
	// that it left behind still holds the pipe open.
	pipeWait = time.Second
	// rekill is the pause between two rounds of SIGKILL. A process that was forked
	// during one round is found in the next.
	rekill = 50 * time.Millisecond
	// freezeRounds limits how often a round looks for processes that aren't stopped
	// yet.
	freezeRounds = 10
	// unkillable is how long such rounds go on. The runner can't end a process that has
	// become another user, or that hangs in the kernel.
	unkillable = 10 * time.Second
)

// phase is how far a run has come.
//
//	running ----(exit)----> draining ---(end of output, or pipeWait)---> ended
//	   |
//	(time-out or StopRun: SIGTERM)
//	   v
//	terminating ---(kill delay: SIGKILL)---> killing
//	   |                                        |
//	   +-----(every descendant is gone)---------+---> draining
type phase uint8

const (
	running phase = iota
	terminating
	killing
	draining
)

// run is the run in progress. The loop owns it, and drops it when it has ended.
type run struct {
	id, hook  string
	check     bool // PGAGROAL_CHECK=1, see check.go
	entry     entry
	process   *os.Process
	output    *output
	start     time.Time
	killDelay time.Duration

	phase   phase
	timer   *time.Timer
	giveUp  time.Time // when killing stops
	exit    *exit     // nil until the script's own process has ended
	eof     bool      // the output has ended
	timeout bool      // the script has overrun its time-out
	left    []int     // processes that could not be ended
	// before holds the processes that earlier scripts had left running when this run
	// started.
	before map[string]bool
}

// exit is how the script's own process ended.
type exit struct {
	pid   int
	state *os.ProcessState
	err   error
}

// deadline returns nil without a run, because a select never chooses a nil channel.
func (x *run) deadline() <-chan time.Time {
	if x == nil {
		return nil
	}
	return x.timer.C
}

// onRun starts a run, or reports why it doesn't. It doesn't wait for a check to end by itself.
func (r *runner) onRun(m *ipc.Run) {
	if r.preempt(m) {
		return
	}
	k, err := r.admit(m)
	if err == nil {
		err = r.start(m, k, false)
	}
	if err != nil {
		r.tell(slog.LevelError, "a run was refused", "run_id", m.RunID, "hook", m.Hook, "error", err)
		r.report(&ipc.RunEnded{RunID: m.RunID, Hook: m.Hook, Exit: -1, Refused: err.Error()})
		return
	}
	r.tell(slog.LevelInfo, "a script runs", "run_id", m.RunID, "hook", m.Hook, "script", k.path, "args", m.Args, "pid", r.run.process.Pid)
	r.report(&ipc.RunStarted{RunID: m.RunID, PGID: r.run.process.Pid})
	r.name(&r.run.entry, r.run.process.Pid)
	r.status()
}

// tell logs an event that the supervisor logs as well. A child logs it at debug level while
// it has a supervisor, because both write the same log and the supervisor's line is enough.
func (r *runner) tell(level slog.Level, text string, fields ...any) {
	if r.link != nil && r.o.Listener == nil {
		level = slog.LevelDebug
	}
	r.log.Log(context.Background(), level, text, fields...)
}

func (r *runner) admit(m *ipc.Run) (hook, error) {
	switch {
	case !runIDForm.MatchString(m.RunID):
		return hook{}, fmt.Errorf("%q is no run id", m.RunID)
	case r.stopping:
		return hook{}, errors.New("the runner is stopping")
	case r.run != nil:
		return hook{}, fmt.Errorf("run %s is still in progress", r.run.id)
	case r.record != nil && r.record.find(m.RunID) != nil:
		return hook{}, fmt.Errorf("run %s was executed before", m.RunID)
	}
	if err := r.unfinishedRun(); err != nil {
		return hook{}, err
	}
	if err := expired(m); err != nil {
		return hook{}, err
	}
	return r.hooks.find(m)
}

// expired returns an error if the supervisor has given the run up, or is about to. It
// must be the last check before the exec, because everything before may take any time.
func expired(m *ipc.Run) error {
	late := proc.SinceBoot() - time.Duration(m.Expires)*time.Millisecond
	if late < 0 {
		return nil
	}
	return fmt.Errorf("the run came too late: it was to start %s ago at the latest", late.Round(time.Millisecond))
}

// announce tells the supervisor that the script is about to be executed. It returns
// when the message is in the socket, or when the run has expired.
func (r *runner) announce(m *ipc.Run) error {
	if r.link == nil {
		return errors.New("the supervisor is gone")
	}
	r.report(&ipc.RunStarting{RunID: m.RunID})
	for !r.link.out.Idle() {
		if err := expired(m); err != nil {
			return err
		}
		if !r.pause(time.Millisecond) {
			return errors.New("the runner is stopping")
		}
	}
	return nil
}

// start executes the script. From here on the run's id counts as used, even if the
// kernel refuses to execute the script. If this process dies, the record tells the next
// runner which process to look for.
func (r *runner) start(m *ipc.Run, k hook, check bool) error {
	env, err := environment(m)
	if err != nil {
		return err
	}
	killDelay := r.hooks.c.FailoverKillDelay
	if check {
		env, killDelay = append(env, checkVariable+"=1"), min(killDelay, checkKillDelay)
	}
	before, err := livingKeys()
	if err != nil {
		return err
	}
	e, err := r.begin(m, k, check)
	if err != nil {
		return err
	}
	p, out, err := r.launch(m, k, env)
	if err != nil {
		e.End = &ipc.RunEnded{RunID: e.ID, Hook: e.Hook, Exit: -1, Refused: err.Error()}
		r.write(e)
		return err
	}
	r.run = &run{
		id: m.RunID, hook: m.Hook, check: check, entry: e, process: p, output: out, start: time.Now(),
		killDelay: killDelay, before: before, timer: time.NewTimer(k.timeout),
	}
	r.wg.Go(func() { r.readOutput(out) })
	r.await(p)
	if expired(m) != nil {
		// The kernel took its time to execute the script.
		r.log.Error("the script was started too late and is killed", "run_id", m.RunID, "hook", m.Hook)
		r.kill()
	}
	return nil
}

// launch announces the run and executes the script, unless the run has expired. It checks
// that last, because everything before may take any time.
func (r *runner) launch(m *ipc.Run, k hook, env []string) (*os.Process, *output, error) {
	if err := r.announce(m); err != nil {
		return nil, nil, err
	}
	return execute(k.path, m.Args, env, func() error { return expired(m) })
}

// await waits for the script in a goroutine. Nothing waits for that goroutine:
// otherwise a script that can't be killed would keep the runner from ending.
func (r *runner) await(p *os.Process) {
	go func() {
		st, err := p.Wait()
		select {
		case r.exited <- exit{p.Pid, st, err}:
		case <-r.done:
		}
	}()
}

// begin records that a run is about to be started.
func (r *runner) begin(m *ipc.Run, k hook, check bool) (entry, error) {
	e, err := newEntry(m, k.timeout, r.hooks.c.FailoverKillDelay)
	if err != nil {
		return entry{}, err
	}
	if check {
		e.Check, e.Deadline, e.KillDelay = true, 0, 0
	}
	r.write(e)
	if err := r.record.sync(); err != nil {
		r.log.Warn("the record of the run is not safe on disk; it would be lost if the machine crashed now", "run_id", e.ID, "error", err)
	}
	return e, nil
}

// name records which process is the script. If the script has ended already, nobody needs
// to find it.
func (r *runner) name(e *entry, pid int) {
	l, err := proc.LeaderOf(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return
	}
	if err != nil {
		r.log.Warn("the script can't be found again by the next runner", "run_id", e.ID, "error", err)
		return
	}
	e.PID, e.Start = l.PID, l.Start
	r.write(*e)
}

// execute starts the script in a session of its own, with descriptors 0 to 2 and
// nothing else. No shell sees the arguments. It calls may right before the exec, and
// executes nothing if that returns an error.
func execute(path string, args, env []string, may func() error) (*os.Process, *output, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, fmt.Errorf("start script: %w", err)
	}
	defer null.Close()
	rd, wr, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start script: %w", err)
	}
	defer wr.Close()
	if err := may(); err != nil {
		rd.Close()
		return nil, nil, err
	}
	p, err := os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, wr, wr},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		rd.Close()
		return nil, nil, fmt.Errorf("start script: %w", err)
	}
	return p, &output{pipe: rd}, nil
}

func (r *runner) onExit(e exit) {
	if i := slices.Index(r.undead, e.pid); i >= 0 {
		r.undead = slices.Delete(r.undead, i, i+1)
		r.log.Warn("a script that was given up has ended", "pid", e.pid)
		return
	}
	r.run.exit = &e
	if r.run.phase == running {
		r.drain()
		return
	}
	r.checkGone()
}

// drain waits for the rest of the output. Processes that a script leaves running after
// its own end are left alone: one of them may be the server that the script was to
// start.
func (r *runner) drain() {
	r.run.phase = draining
	if r.next != nil {
		r.keepOld(r.run.output)
		r.end()
		return
	}
	r.run.setTimer(pipeWait)
	r.settle()
}

func (x *run) setTimer(d time.Duration) {
	x.timer.Stop()
	x.timer = time.NewTimer(d)
}

// settle ends the run if there is nothing left to wait for.
func (r *runner) settle() {
	if r.run.phase == draining && r.run.eof {
		r.end()
	}
}

func (r *runner) onDeadline() {
	x := r.run
	switch x.phase {
	case running:
		if r.hasExited() {
			return // the script ended in time
		}
		x.timeout = true
		r.log.Error("the script has overrun its time", "run_id", x.id, "hook", x.hook)
		r.terminate()
	case terminating:
		r.kill()
	case killing:
		x.setTimer(rekill)
		r.killAll()
		r.checkGone()
	case draining:
		r.keepOld(x.output)
		r.end()
	}
}

// hasExited handles an exit that the loop hasn't handled yet, and reports whether the
// script in progress has ended.
func (r *runner) hasExited() bool {
	x := r.run
	select {
	case e := <-r.exited:
		r.onExit(e)
	default:
	}
	return r.run != x || x.phase != running
}

// onStopRun ends the run before its time-out. It does nothing if the run is being ended
// already.
func (r *runner) onStopRun(m *ipc.StopRun) {
	if r.next != nil && r.next.RunID == m.RunID {
		r.report(&ipc.RunEnded{RunID: m.RunID, Hook: r.next.Hook, Exit: -1, Refused: "it was stopped before it began"})
		r.next = nil
		return
	}
	x := r.run
	if x == nil || x.id != m.RunID || x.phase != running || r.hasExited() {
		r.log.Debug("nothing to stop", "run_id", m.RunID)
		return
	}
	r.tell(slog.LevelWarn, "the script is stopped before its time-out", "run_id", x.id, "hook", x.hook)
	r.terminate()
}

// terminate sends SIGTERM to everything that the script has started. What doesn't end
// within the kill delay is killed.
func (r *runner) terminate() {
	r.run.phase = terminating
	r.run.setTimer(r.run.killDelay)
	r.signalAll(syscall.SIGTERM)
}

// kill kills everything that the script has started, and repeats that until all is gone
// or it gives up.
func (r *runner) kill() {
	r.run.phase = killing
	limit := unkillable
	if r.run.check {
		limit = checkUnkillable
	}
	r.run.giveUp = time.Now().Add(limit)
	r.run.setTimer(rekill)
	r.killAll()
}

// signalAll signals the group and the processes that have left it.
func (r *runner) signalAll(sig syscall.Signal) {
	if r.run.exit == nil {
		// The script's exit isn't known here yet. So the id of its group is still its own,
		// or has been free for a moment only, too short to be used again.
		_ = syscall.Kill(-r.run.process.Pid, sig)
	}
	left, err := r.run.descendants()
	if err != nil {
		r.log.Error("processes of the script can't be listed", "run_id", r.run.id, "error", err)
	}
	for _, p := range left {
		if r.run.exit == nil && p.PGID == r.run.process.Pid {
			continue
		}
		if err := p.Signal(sig); err != nil {
			r.log.Error("a process of the script can't be ended", "run_id", r.run.id, "error", err)
		}
	}
}

// killAll stops all processes before it kills them. If it killed one after the other, each
// death would free a place under the limit of processes, and processes that fork without
// end would fill it again. A stopped process keeps its place.
func (r *runner) killAll() {
	stopped := map[string]bool{}
	for range freezeRounds {
		left, err := r.run.descendants()
		left = slices.DeleteFunc(left, func(p proc.Process) bool { return stopped[p.Key()] })
		if err != nil || len(left) == 0 {
			break
		}
		for _, p := range left {
			stopped[p.Key()] = true
			_ = p.Signal(syscall.SIGSTOP) // what can't be stopped can't be killed either, and is reported later
		}
	}
	r.signalAll(syscall.SIGKILL)
}

// checkGone ends a run that is being ended, once none of its processes is alive.
func (r *runner) checkGone() {
	x := r.run
	if x == nil || x.phase != terminating && x.phase != killing {
		return
	}
	over := x.phase == killing && time.Now().After(x.giveUp)
	if x.exit == nil && !over {
		return
	}
	left, err := x.descendants()
	switch {
	case x.exit != nil && err == nil && len(left) == 0:
		r.drain()
	case over:
		r.abandon(left)
	}
}

// abandon stops trying to end the rest of the run. If the script itself is among that,
// its process may still end one day.
func (r *runner) abandon(left []proc.Process) {
	x := r.run
	for _, p := range left {
		x.left = append(x.left, p.PID)
	}
	if x.exit == nil {
		r.undead = append(r.undead, x.process.Pid)
		if !slices.Contains(x.left, x.process.Pid) {
			x.left = append(x.left, x.process.Pid)
		}
	}
	r.tell(slog.LevelError, "processes of the script can't be ended", "run_id", x.id, "hook", x.hook, "pids", x.left)
	r.drain()
}

// end reports the outcome and keeps it for later supervisors.
func (r *runner) end() {
	x := r.run
	x.timer.Stop()
	r.run = nil
	m := ipc.RunEnded{
		RunID: x.id, Hook: x.hook, Exit: -1, TimedOut: x.timeout,
		DurationMS: time.Since(x.start).Milliseconds(), Left: x.left,
	}
	if ws, ok := x.exit.waitStatus(); ok && ws.Exited() {
		m.Exit = ws.ExitStatus()
	} else if ok && ws.Signaled() {
		m.Signal = proc.SignalName(ws.Signal())
	}
	r.tell(slog.LevelInfo, "a script has ended", "run_id", m.RunID, "hook", m.Hook, "exit", m.Exit, "signal", m.Signal, "timed_out", m.TimedOut, "duration_ms", m.DurationMS)
	x.entry.End = &m
	r.write(x.entry)
	if !x.check {
		r.keep(m)
	}
	r.report(&m)
	r.status()
	r.startNext()
}

// keep stores an outcome for later supervisors.
func (r *runner) keep(m ipc.RunEnded) {
	r.results = append(r.results, m)
	if len(r.results) > keepResults {
		r.results = r.results[1:]
	}
}

func (e *exit) waitStatus() (syscall.WaitStatus, bool) {
	if e == nil || e.err != nil {
		return 0, false
	}
	ws, ok := e.state.Sys().(syscall.WaitStatus)
	return ws, ok
}

// livingKeys returns the keys of all living descendants of this process.
func livingKeys() (map[string]bool, error) {
	below, err := proc.Descendants()
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, p := range below {
		keys[p.Key()] = true
	}
	return keys, nil
}

// descendants returns the living processes of this run: all descendants of the runner
// except those that were there before, what these have started since, and those that
// carry the id of another run.
func (x *run) descendants() ([]proc.Process, error) {
	below, err := proc.Descendants()
	if err != nil {
		return nil, err
	}
	var ours []proc.Process
	spared := map[int]bool{}
	for _, p := range below {
		id, marked := p.Variable(runVariable)
		if x.before[p.Key()] || spared[p.PPID] || marked && id != x.id {
			spared[p.PID] = true
			continue
		}
		ours = append(ours, p)
	}
	return ours, nil
}
