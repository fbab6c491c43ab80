package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// At a standstill nothing of what this process does for others is half done: what it has
// read it has answered, its own answers are in the sockets, and whatever comes waits there
// for the next program. Clients and workers notice nothing but a delay.

const (
	// standstillPoll is how often it is looked whether everything stands still, and
	// standstillLimit how long workers may have to wait for that. Then they go on, and after
	// standstillPause there is another attempt, until standstillSearch is over.
	standstillPoll   = 2 * time.Millisecond
	standstillLimit  = 300 * time.Millisecond
	standstillPause  = 500 * time.Millisecond
	standstillSearch = 15 * time.Second
	// servedLimit is how long pgagroal-cli may take to read its answer.
	servedLimit = 300 * time.Millisecond
)

// seekStandstill waits until nothing is under way that needs the workers' answers, and then
// stops the reading of their links.
func (s *supervisor) seekStandstill() {
	u := &s.service.upgrade
	if why := s.cannotUpgrade(); why != "" {
		s.upgradeFailed(errors.New(why))
		return
	}
	if why := s.needsWorkers(); why != "" {
		if s.env.now() >= u.until {
			s.upgradeFailed(fmt.Errorf("no moment was found at which nothing is under way: %s", why))
			return
		}
		s.after(standstillPoll, s.seekStandstill)
		return
	}
	u.since = s.env.now()
	s.clients.gate.Set(false)
	s.ready(func(c *child) {
		c.started.valve.shut()
		u.shut = append(u.shut, c.started.valve)
	})
	s.watchStandstill()
}

// watchStandstill goes on once everything stands still, or lets the workers go on.
func (s *supervisor) watchStandstill() {
	u := &s.service.upgrade
	why := s.moves()
	switch {
	case why == "":
		s.atStandstill()
	case s.env.now()-u.since < standstillLimit:
		s.after(standstillPoll, s.watchStandstill)
	case s.env.now() >= u.until:
		s.endStandstill()
		s.upgradeFailed(fmt.Errorf("no moment was found at which nothing is under way: %s", why))
	default:
		s.log.Debug("no standstill yet", "why", why)
		s.endStandstill()
		s.after(standstillPause, s.seekStandstill)
	}
}

// needsWorkers returns what is under way that ends only with answers of workers, or because a
// child comes or goes; "" for nothing.
func (s *supervisor) needsWorkers() string {
	if len(s.rounds.open) > 0 {
		return "the workers are being asked"
	}
	if len(s.clients.taking) > 0 {
		return "sessions are on their way to other workers"
	}
	if s.workers.spawning > 0 || s.workers.starter.Busy() {
		return "a process is being started or killed"
	}
	for _, sl := range s.workers.slots {
		c := sl.child
		switch {
		case c == nil && sl.retired == nil:
			return "a worker is about to be started again"
		case c == nil:
		case c.state != childReady || c.exit != nil || len(c.config) > 0:
			return fmt.Sprintf("worker %d comes or goes", c.index)
		}
	}
	return ""
}

// moves returns what doesn't stand still yet, "" for nothing.
func (s *supervisor) moves() string {
	if why := s.cannotUpgrade(); why != "" { // a shutdown, a reload, a run or a failover may have begun since
		return why
	}
	if why := s.needsWorkers(); why != "" {
		return why
	}
	x := &s.servers.prober.looks
	switch {
	case !s.clients.gate.Still():
		return "a client is being accepted"
	case len(s.inbox) > 0 || len(s.calls) > 0 || len(s.servers.hints) > 0 || len(s.actions.queue) > 0:
		return "something has just arrived"
	case s.saver.barrier || s.saver.busy || s.history.busy || s.service.logging.busy:
		return "a file is being written"
	case len(s.cancels.orphans) > 0 || len(s.cancels.queued) > 0:
		return "queries of a dead worker are being cancelled"
	case len(x.sent) > 0 && s.asksForWorkers():
		return "a server is being asked for a worker"
	case s.clients.asked > 0:
		return "a client is about to be let in"
	}
	return s.linksMove()
}

// asksForWorkers reports whether a look at a server is more than a probe, which is simply made
// again.
func (s *supervisor) asksForWorkers() bool {
	for _, l := range s.servers.prober.looks.sent {
		if _, probe := l.request.(*ipc.ProbeRequest); !probe {
			return true
		}
	}
	return false
}

func (s *supervisor) linksMove() string {
	for _, sl := range s.workers.slots {
		c := sl.child
		if c == nil {
			continue
		}
		out, ok := c.started.link.(*ipc.Outbox)
		switch {
		case !c.started.valve.isStill():
			return fmt.Sprintf("worker %d is being read", c.index)
		case !ok || !out.Idle():
			return fmt.Sprintf("worker %d doesn't read", c.index)
		case c.secrets > 0 || c.peers > 0 || c.stored > 0:
			return fmt.Sprintf("worker %d waits for an answer", c.index)
		}
	}
	return ""
}

// endStandstill lets everything go on as before.
func (s *supervisor) endStandstill() {
	u := &s.service.upgrade
	for _, v := range u.shut {
		v.open()
	}
	u.shut = nil
	s.placeClients()
}

// atStandstill closes the Ledger, which takes back what it has asked of workers, tells who has
// asked for the upgrade, and executes the program.
func (s *supervisor) atStandstill() {
	u := &s.service.upgrade
	u.closing = true
	s.carryOut(s.ledger.SetTarget(s.servers.snapshot.Primary, s.servers.snapshot.Epoch, false))
	u.answer(control.UpgradeResponse{From: s.build, To: u.version, Next: s.afterUpgrade(), Count: u.count + 1, Since: u.process()}, nil)
	s.env.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=upgrading to %s", monotonicMicroseconds(), u.version))
	s.awaitServed(s.env.now() + servedLimit)
}

// afterUpgrade says what becomes of the clients.
func (s *supervisor) afterUpgrade() string {
	text := fmt.Sprintf("its workers take over %d clients; those that can't be moved stay with the old workers until they leave", s.clients.total)
	if most := s.cfg.UpgradeTimeout; most > 0 {
		text += fmt.Sprintf(", at most for upgrade_timeout, %s", most)
	}
	return text
}

// awaitServed waits a moment for pgagroal-cli to get its answer, and for what the Ledger has
// sent, and then executes the program.
func (s *supervisor) awaitServed(until time.Duration) {
	u := &s.service.upgrade
	why := s.moves()
	switch {
	case (why != "" || u.serving.Load() > 0) && s.env.now() < until:
		s.after(standstillPoll, func() { s.awaitServed(until) })
	case why != "":
		s.resumeAfter(fmt.Errorf("something has come in between: %s", why))
	default:
		s.resumeAfter(s.becomeNext())
	}
}

// resumeAfter goes on with this program, because the next one could not be executed.
func (s *supervisor) resumeAfter(err error) {
	s.service.upgrade.closing = false
	if s.stop.mode == stopNot {
		s.env.notify("READY=1\nSTATUS=" + s.service.status)
	}
	if s.servers.snapshot.Open && s.stop.mode != stopNow {
		s.carryOut(s.ledger.SetTarget(s.servers.snapshot.Primary, s.servers.snapshot.Epoch, true))
	}
	s.endStandstill()
	s.upgradeFailed(err)
}
