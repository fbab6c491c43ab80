package supervisor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// Limits of a shutdown.
const (
	drainLimit  = 2 * time.Second // for workers to tell their clients
	runnerLimit = 2 * time.Second // for the runner to end, when no script runs
)

// stopMode is how far a shutdown has come.
//
//	running --> graceful --last client gone, limit--> now --children gone--> over
//	   ^            |                                  ^
//	   |            +-- cancel                         |
//	   +------------+----------------------------------+
type stopMode uint8

const (
	stopNot stopMode = iota
	stopGraceful
	stopNow
)

// shutdown is the state of a shutdown.
type shutdown struct {
	mode    stopMode
	limit   *timer // of the graceful mode
	kill    *timer // when workers get SIGKILL
	leaving bool   // the runner isn't needed any more
	waits   bool   // the log has said that the shutdown waits for a script

	began  time.Duration
	cut    int // clients that were there when it didn't wait any longer
	killed int // workers that had to be killed
}

// shutGracefully lets no new client in, and shuts down when the last client has left,
// or after limit; 0 is unlimited.
func (s *supervisor) shutGracefully(limit time.Duration) {
	if s.stop.mode != stopNot {
		s.log.Info("shutdown is under way already")
		return
	}
	s.stop.mode, s.stop.began = stopGraceful, s.env.now()
	s.log.Info("shutting down when the last client has left", "clients", s.clients.total, "limit", limit)
	s.service.note = "shutting down when the last client has left"
	if limit > 0 {
		s.stop.limit = s.after(limit, s.shutNow)
	}
	s.sendServerStates()
	s.checkDrained()
}

// cancelShutdown takes a graceful shutdown back.
func (s *supervisor) cancelShutdown() error {
	switch s.stop.mode {
	case stopNot:
		return errors.New("there is no shutdown to cancel")
	case stopNow:
		return errors.New("it is too late to cancel the shutdown")
	}
	s.stop.mode = stopNot
	s.timers.stop(s.stop.limit)
	s.log.Info("shutdown is cancelled")
	s.service.note = ""
	s.sendServerStates()
	s.statusChanged()
	return nil
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
	s.env.notify("STOPPING=1")
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
	s.ready(func(c *child) { s.send(c, &ipc.Drain{}) })
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
	s.log.Debug("worker is drained", "worker", c.index)
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
