package supervisor

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Limits of a shutdown.
const (
	drainLimit  = 2 * time.Second // for workers to tell their clients
	runnerLimit = 2 * time.Second // for the runner to end, when no script runs
	// extendBy is the time that the service manager is asked for while a shutdown waits as it
	// should; it is asked again every extendEvery, so a loop that hangs gets no more.
	extendBy    = 30 * time.Second
	extendEvery = 10 * time.Second
)

// stopMode is how far a shutdown has come.
//
//	running --> delayed --shutdown_delay--> graceful --last client gone, limit--> now --children gone--> over
//	   ^           |                           |                                   ^
//	   +--cancel---+---------------------------+                                   |
//	   +-----------+---------------------------+--immediate------------------------+
type stopMode uint8

const (
	stopNot stopMode = iota
	// stopDelayed: everything goes on, but readiness fails, so that load balancers send no
	// further clients before the first one is turned away.
	stopDelayed
	stopGraceful
	stopNow
)

// shutdown is the state of a shutdown.
type shutdown struct {
	mode    stopMode
	limit   *timer        // of the delay, or of the graceful mode
	most    time.Duration // how long the graceful mode lasts that follows the delay; 0 is unlimited
	cutOff  bool          // no graceful mode follows the delay
	term    bool          // SIGTERM has begun it, so it can't be taken back
	told    bool          // the service manager knows
	kill    *timer        // when workers get SIGKILL
	leaving bool          // the runner isn't needed any more
	waits   bool          // the log has said that the shutdown waits for a script

	began  time.Duration
	cut    int // clients that were there when it didn't wait any longer
	killed int // workers that had to be killed
}

// onTerm is SIGTERM: shutdown_mode says what the first one does. A second one ends pgagroal
// at once.
func (s *supervisor) onTerm() {
	mode := s.cfg.ShutdownMode
	if s.stop.term || s.stop.mode == stopNow {
		mode = config.ShutdownImmediate
	}
	s.log.Info("shutdown requested by signal", "signal", "terminated", "mode", mode)
	switch {
	case s.stop.term || s.stop.mode == stopNow:
		s.shutNow()
		return
	case mode == config.ShutdownGracefully && s.stop.mode == stopGraceful:
		s.limitGraceful(s.cfg.FlushTimeout) // pgagroal-cli has begun it, perhaps without a limit
	case mode == config.ShutdownGracefully:
		s.shutGracefully(s.cfg.FlushTimeout)
	case s.stop.mode == stopGraceful: // readiness has failed long enough
		s.shutNow()
		return
	default:
		s.delayShutdown(s.shutNow)
		s.stop.cutOff = true
	}
	s.stop.term = true
	s.tellStopping()
}

// delayShutdown lets readiness fail for shutdown_delay before it calls then.
func (s *supervisor) delayShutdown(then func()) {
	delay := s.cfg.ShutdownDelay
	switch {
	case s.stop.mode == stopDelayed:
		s.timers.stop(s.stop.limit)
		delay = max(s.stop.began+delay-s.env.now(), 0)
	case delay == 0:
		then()
		return
	default:
		s.stop.began = s.env.now()
	}
	s.stop.mode = stopDelayed
	s.log.Info("readiness fails, and clients are served until shutdown_delay is over", "clients", s.clients.total, "delay", delay)
	s.service.note = "about to shut down"
	s.stop.limit = s.after(delay, then)
	s.statusChanged()
}

// shutGracefully lets no new client in once shutdown_delay is over, and shuts down when the
// last client has left, or after limit; 0 is unlimited.
func (s *supervisor) shutGracefully(limit time.Duration) {
	if s.stop.mode == stopNot || s.stop.mode == stopDelayed && !s.stop.term {
		s.stop.most, s.stop.cutOff = limit, false
		s.delayShutdown(func() { s.letNobodyIn(limit) })
		return
	}
	s.log.Info("shutdown is under way already")
}

// letNobodyIn begins the graceful mode.
func (s *supervisor) letNobodyIn(limit time.Duration) {
	if s.stop.mode == stopNot {
		s.stop.began = s.env.now()
	}
	s.stop.mode, s.stop.limit = stopGraceful, nil
	s.log.Info("shutting down when the last client has left", "clients", s.clients.total, "limit", limit)
	s.service.note = "shutting down when the last client has left"
	s.limitGraceful(limit)
	s.endPauses(errors.New("pgagroal is shutting down")) // paused clients could never leave
	s.sendServerStates()
	s.checkDrained()
}

// limitGraceful limits the graceful mode, if it isn't limited; 0 is no limit.
func (s *supervisor) limitGraceful(limit time.Duration) {
	if limit > 0 && s.stop.limit == nil {
		s.stop.limit = s.after(limit, s.shutNow)
	}
}

// tellStopping tells the service manager of a shutdown that can't be taken back.
func (s *supervisor) tellStopping() {
	if s.stop.told {
		return
	}
	s.stop.told = true
	s.env.notify("STOPPING=1")
	s.extendStop()
}

// extendStop asks the service manager for more time while clients or a script are waited
// for. Whatever else delays a shutdown must end in the time that the service manager gives.
func (s *supervisor) extendStop() {
	if s.stop.mode == stopNow && !s.scriptRuns() {
		return
	}
	s.env.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()))
	s.after(extendEvery, s.extendStop)
}

// cancelShutdown takes a graceful shutdown back.
func (s *supervisor) cancelShutdown() error {
	switch {
	case s.stop.mode == stopNot:
		return errors.New("there is no shutdown to cancel")
	case s.stop.mode == stopNow:
		return errors.New("it is too late to cancel the shutdown")
	case s.stop.term:
		return errors.New("SIGTERM has begun the shutdown, and who sent it waits for the end")
	}
	s.stop.mode = stopNot
	s.timers.stop(s.stop.limit)
	s.log.Info("shutdown is cancelled")
	s.service.note = ""
	s.sendServerStates()
	s.statusChanged()
	return nil
}

// shutdownAnswer says what a graceful shutdown with this limit, which is about to begin, does.
func (s *supervisor) shutdownAnswer(limit time.Duration) control.ShutdownResponse {
	switch {
	case s.stop.mode == stopNot:
		return control.ShutdownResponse{Next: gracefully(s.cfg.ShutdownDelay, limit)}
	case s.stop.mode == stopDelayed && !s.stop.term:
		return control.ShutdownResponse{Next: gracefully(s.stop.limit.when-s.env.now(), limit)}
	}
	r := *s.shutdownResponse()
	r.Next = "a shutdown is under way already: " + r.Next
	return r
}

// shutdownResponse describes the shutdown under way.
func (s *supervisor) shutdownResponse() *control.ShutdownResponse {
	r := &control.ShutdownResponse{Final: s.stop.term || s.stop.mode == stopNow}
	rest := time.Duration(0)
	if s.stop.limit != nil {
		rest = s.stop.limit.when - s.env.now()
	}
	switch {
	case s.stop.mode == stopNow:
		r.Next = "pgagroal ends now"
		if s.scriptRuns() {
			r.Next = "pgagroal ends when the running script has ended"
		}
	case s.stop.mode == stopGraceful:
		r.Next = gracefully(0, rest)
	case s.stop.cutOff:
		r.Next = letIn(rest) + " every client is disconnected"
	default:
		r.Next = gracefully(rest, s.stop.most)
	}
	return r
}

// gracefully describes a shutdown that lets clients in for delay more, and then waits for the last
// one, at most for limit; 0 is unlimited.
func gracefully(delay, limit time.Duration) string {
	text := "no new client is let in,"
	if delay > 0 {
		text = letIn(delay) + " no new client is let in,"
	}
	text += " and pgagroal ends when the last client has left"
	if limit > 0 {
		text += fmt.Sprintf("; who is still there %s later is disconnected", wholeSeconds(limit))
	}
	return text
}

func letIn(delay time.Duration) string {
	return fmt.Sprintf("new clients are let in for %s more, so that load balancers notice; then", wholeSeconds(delay))
}

// wholeSeconds rounds up, because a time that is left is never 0s.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// checkDrained shuts down when the last client has left during a graceful shutdown.
func (s *supervisor) checkDrained() {
	if s.stop.mode == stopGraceful && s.clients.total == 0 && len(s.clients.waiting) == 0 {
		s.shutNow()
	}
}

// shutNow shuts down, clients first. When called again it kills the workers, but still
// waits for a running script.
func (s *supervisor) shutNow() {
	if s.stop.mode == stopNow {
		s.killWorkers()
		s.waitForScript(true)
		return
	}
	if s.stop.mode == stopNot {
		s.stop.began = s.env.now()
	}
	s.stop.mode, s.stop.cut = stopNow, s.clients.total+len(s.clients.waiting)
	s.timers.stop(s.stop.limit)
	s.tellStopping()
	// A worker that ends can use no lease, not even one given ahead of clients.
	s.carryOut(s.ledger.SetTarget(s.servers.snapshot.Primary, s.servers.snapshot.Epoch, false))
	s.gateChanged()
	s.clients.gate.Shut()
	for _, a := range s.clients.waiting {
		unix.Close(a.FD)
	}
	s.clients.waiting = nil
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.state != childReady {
			s.killWorker(c, "shutdown")
		}
	}
	s.ready(func(c *child) {
		s.send(c, &ipc.Drain{})
		if c.drained { // a retired one, which has said so already
			c.started.close()
		}
	})
	s.stop.kill = s.after(drainLimit, s.killWorkers)
	s.feed(failover.Stopping{})
	s.waitForScript(false)
	s.checkStopped()
}

func (s *supervisor) killWorkers() {
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil {
			s.stop.killed++
			s.killWorker(c, "shutdown")
		}
	}
}

// onDrained closes the link of a worker that has no client left, which ends the worker.
func (s *supervisor) onDrained(c *child) {
	c.drained = true
	if s.stop.mode == stopNow {
		c.started.close()
	}
	s.closeDrained(c)
	s.log.Debug("worker is drained", "worker", c.index)
}

// closeDrained ends a retired worker that has nothing any more, not even a lease that it was granted
// when it had no use for it.
func (s *supervisor) closeDrained(c *child) {
	if c.drained && s.stop.mode != stopNow && s.retires(c) && len(c.clients) == 0 && s.ledger.Held(c.index) == 0 {
		c.started.close()
	}
}

// waitForScript logs that the shutdown waits for a script.
func (s *supervisor) waitForScript(again bool) {
	st := s.servers.machine.Status(s.env.now())
	if x := s.runner.current; x != nil && st.Busy() && (again || !s.stop.waits) {
		s.stop.waits = true
		s.log.Warn("a script is running; pgagroal ends when it has, or at its time-out", "run", x.id, "hook", x.hook,
			"left", max(x.timeout-(s.env.now()-x.born), 0).Round(time.Second))
	}
}

// checkStopped ends the loop when nothing is left: no worker, no script, no write in
// progress, no runner, no prober.
func (s *supervisor) checkStopped() {
	if s.stop.mode != stopNow || s.over || s.workers.spawning > 0 {
		return
	}
	for _, sl := range s.workers.slots {
		if sl.child != nil {
			return
		}
	}
	if s.scriptRuns() || s.saver.barrier || len(s.actions.queue) > 0 || s.history.busy {
		return
	}
	if !s.stop.leaving {
		s.leaveRunner()
	}
	if s.runner.end == nil && s.leaveAides() { // the prober last: the machine may look at servers until here
		s.over = true
		s.log.Info("shutdown is complete", "took", (s.env.now() - s.stop.began).Round(time.Millisecond),
			"clients_cut", s.stop.cut, "workers_killed", s.stop.killed)
	}
}

// scriptRuns reports whether the shutdown must wait for a script. It doesn't wait if
// the runner is a service whose link is lost.
func (s *supervisor) scriptRuns() bool {
	x := s.runner.current
	return x != nil && !(x.lost && x.service)
}

// leaveRunner closes the link, which ends a runner that is our child.
func (s *supervisor) leaveRunner() {
	s.stop.leaving = true
	r := s.runner.end
	if r == nil {
		return
	}
	if r.started != nil {
		r.started.close()
		if !r.spawned {
			s.runner.end = nil
			return
		}
		s.after(runnerLimit, func() {
			r.started.kill()
			s.after(runnerLimit, func() { s.forsakeRunner(r) })
		})
	}
}

// forsakeRunner stops waiting for a runner that can't be killed because it hangs in the
// kernel. The runner holds the lock of state_dir, so no other run can begin beside it.
func (s *supervisor) forsakeRunner(r *runnerEnd) {
	if s.runner.end != r {
		return
	}
	s.log.Error("the script runner can't be ended, and is left behind", "child", r.pid)
	s.runner.end = nil
	s.checkStopped()
}
