package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Limits of children.
const (
	setupLimit    = 10 * time.Second // from the start to ConfigDone
	pingInterval  = 5 * time.Second
	pongLimit     = 15 * time.Second
	exitLimit     = 2 * time.Second // from the end of the link to the end of the process
	restartMax    = 10 * time.Second
	restartStable = time.Minute // a child that lived this long starts with a clean slate
	bootAttempts  = 5           // if each worker fails so often and none was ever ready, the supervisor gives up
)

// childState is how far one worker process has come.
//
//	starting --started, link--> setup --ConfigDone--> ready
//	    |                         |                     |
//	    |                         +-- kill, exit -------+--> killed --exit, link read--> gone
//	    +-- can't be started ------------------------------------------------------------> gone
type childState uint8

const (
	childStarting childState = iota // not started yet: no process, no link
	childSetup
	childReady
	childKilled // SIGKILL was sent or the exit was seen: it gets no more messages
	childGone
)

// child is one process of a worker. A restart makes another child in its slot.
type child struct {
	index   int
	state   childState
	started *started // nil while starting
	born    time.Duration
	setup   *timer
	ping    *timer
	exit    *timer
	greeted bool // has sent WorkerHello
	up      bool // has been ready
	exited  bool
	ponged  time.Duration
	pinged  bool // a ping was sent and is not answered yet
	pings   uint64
	config  []ipc.Message   // of configurations, not sent yet
	clients map[uint64]bool // ids of clients that were handed over and have not left
	flight  flight
	drained bool
	leaving bool   // it was told to end
	build   string // release of the program that has started it
	secrets int    // how many of its SecretRequests are open
	peers   int    // how many of its PeerRequests are open
	stored  int    // how many of its StoredRequests are open
	stats   stats
	asking  line // SecretRequests for which the prober has to ask a server
}

// ending reports whether the worker is dead or was killed.
func (c *child) ending() bool { return c.state == childKilled || c.state == childGone }

// slot is the place of one worker, whose process changes with each restart.
type slot struct {
	child    *child // nil between a death and the restart, and in a slot that is free
	failures int    // deaths in a row
	everUp   bool
	// place says which of the workers of the configuration this is. Two slots have the same
	// place while one worker takes the place of the other.
	place int
	// retired says why the worker gets no new client, see retire.go; nil if it gets some. The
	// slot is free once the process has ended.
	retired *retirement
}

// workers are all slots.
type workers struct {
	slots    []*slot
	anyUp    bool // some worker has been ready since the start
	confined confinement
	spawning int           // starts in progress, in goroutines
	starter  *proc.Starter // nil without worker_user
	reaper   reaper
	// recycling replaces workers one after the other, nil for no such order.
	recycling *recycling
}

func (s *supervisor) startWorkers() {
	for i := range s.cfg.EffectiveWorkers() {
		s.workers.slots = append(s.workers.slots, &slot{place: i})
		s.startWorker(i)
	}
}

// startWorker starts the process of a slot, in a goroutine.
func (s *supervisor) startWorker(index int) {
	if s.stop.mode == stopNow {
		return
	}
	c := &child{index: index, born: s.env.now(), build: s.build, clients: map[uint64]bool{}}
	s.workers.slots[index].child = c
	c.setup = s.after(setupLimit, func() { s.killWorker(c, "it was not ready in time") })
	spec := s.workerSpec(index)
	s.workers.spawning++
	elsewhere(s, func() (*started, error) { return s.env.start(spec) },
		func(st *started, err error) { s.onWorkerStarted(c, st, err) })
}

func (s *supervisor) onWorkerStarted(c *child, st *started, err error) {
	s.workers.spawning--
	defer s.reapStrays()
	if err != nil {
		s.log.Error("worker can't be started", "worker", c.index, "error", err)
		s.workerGone(c)
		return
	}
	c.started = st
	s.listenTo(c)
	s.log.Debug("worker started", "worker", c.index, "child", st.pid)
	if c.state == childKilled || s.stop.mode == stopNow {
		c.state = childKilled
		st.kill()
		return
	}
	c.state = childSetup
}

// listenTo has the messages of a worker, and its end, come to the loop.
func (s *supervisor) listenTo(c *child) {
	c.started.listen(
		func(m ipc.Message, fds ...int) { s.arrive(arrival{worker: c, message: m, fds: fds}) },
		func(err error) { s.arrive(arrival{worker: c, err: err}) },
		func(how string) { s.post(func() { s.onWorkerExit(c, how) }) },
	)
}

func (s *supervisor) onWorkerHello(c *child, m *ipc.WorkerHello) {
	if m.Version != ipc.Version {
		s.violation(c, fmt.Sprintf("it speaks version %d", m.Version))
		return
	}
	if c.greeted {
		s.violation(c, "it says hello twice") // each hello makes the supervisor send a configuration
		return
	}
	c.greeted = true
	s.tellWorkerLog(c)
	s.sendConfig(c, &s.generation)
	s.joinReload(c)
}

func (s *supervisor) onConfigDone(c *child, m *ipc.ConfigDone) {
	if c.state != childSetup {
		s.onPrepared(c, m)
		return
	}
	s.timers.stop(c.setup)
	c.state, c.up, c.ponged = childReady, true, s.env.now()
	sl := s.workers.slots[c.index]
	sl.everUp, s.workers.anyUp = true, true
	s.log.Info("worker is ready", "worker", c.index, "child", c.started.pid, "reactor", m.Reactor, "confined", strings.Join(m.Confined, ", "))
	s.noteConfinement(&s.workers.confined, "workers", m.Confined, m.Unconfined)
	s.sendServerState(c)
	s.schedulePing(c)
	s.retirePredecessors(c)
	s.passAgain(s.workers.slots[c.index].place)
	s.carryOut(s.ledger.WorkerReady(c.index))
	s.gateChanged()
	s.checkReady()
}

// schedulePing pings a worker at intervals, and kills it if it doesn't answer.
func (s *supervisor) schedulePing(c *child) {
	c.ping = s.after(pingInterval, func() {
		if c.state != childReady {
			return
		}
		if silent := s.env.now() - c.ponged; c.pinged && silent >= pongLimit {
			s.killWorker(c, fmt.Sprintf("no answer to a ping for %v", silent.Round(time.Second)))
			return
		}
		if !c.pinged { // silence before the ping proves nothing: this process may have been stopped
			c.ponged = max(c.ponged, s.env.now()-pingInterval)
		}
		c.pings++
		c.pinged = true
		s.send(c, &ipc.Ping{ID: c.pings})
		s.schedulePing(c)
	})
}

func (s *supervisor) onPong(c *child, id uint64) {
	c.pinged, c.ponged = false, s.env.now()
	s.landed(c, id)
}

// send queues a message for a worker. A worker whose queue is full has stopped reading,
// and is killed.
func (s *supervisor) send(c *child, m ipc.Message, fds ...int) {
	if err := c.started.link.Send(m, fds...); err != nil {
		s.killWorker(c, err.Error())
	}
}

// ready calls f for every worker in state ready.
func (s *supervisor) ready(f func(*child)) {
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.state == childReady {
			f(c)
		}
	}
}

// readyAt returns the worker with that index if its state is ready.
func (s *supervisor) readyAt(index int) *child {
	if index < 0 || index >= len(s.workers.slots) {
		return nil
	}
	if c := s.workers.slots[index].child; c != nil && c.state == childReady {
		return c
	}
	return nil
}

// violation kills a worker that broke the protocol of its link, which is a bug or an
// attack.
func (s *supervisor) violation(c *child, what string) {
	s.log.Error("worker broke the protocol", "worker", c.index, "child", c.started.pid, "what", what)
	s.killWorker(c, "protocol violation")
}

func (s *supervisor) onWorkerLinkEnd(c *child, err error) {
	if ipc.Violation(err) {
		s.violation(c, err.Error())
		return
	}
	// The process is ending, but may still have something to tell its clients.
	if c.exit == nil {
		c.exit = s.after(exitLimit, func() { s.killWorker(c, "its link has ended") })
	}
}

// killWorker sends SIGKILL. Everything else happens when the exit is seen.
func (s *supervisor) killWorker(c *child, why string) {
	if c.ending() {
		return
	}
	c.state = childKilled
	if c.started != nil {
		level := slog.LevelError
		if s.stop.mode == stopNow || c.drained {
			level = slog.LevelInfo
		}
		s.log.Log(context.Background(), level, "worker is killed", "worker", c.index, "child", c.started.pid, "reason", why)
		c.started.kill()
	}
	s.gateChanged()
}

// onWorkerExit collects the messages that the dead process hasn't read from its link,
// and then removes the worker. Collecting may wait for the link's writer, so it runs in
// a goroutine.
func (s *supervisor) onWorkerExit(c *child, how string) {
	if c.exited {
		return
	}
	c.exited, c.state = true, childKilled
	if s.stop.mode == stopNow { // no other worker gets its clients, and the link may be closed already
		s.log.Debug("worker ended", "worker", c.index, "child", c.started.pid, "how", how)
		s.workerGone(c)
		return
	}
	if c.drained && s.retires(c) { // it had nothing left, and its link is closed
		s.log.Info("worker ended", "worker", c.index, "child", c.started.pid, "how", how)
		s.workerGone(c)
		return
	}
	s.gateChanged()
	elsewhere(s, func() ([]ipc.Envelope, error) { return c.started.unread(), nil }, func(left []ipc.Envelope, _ error) {
		rescued := s.rescueClients(c, left)
		s.log.Error("worker ended", "worker", c.index, "child", c.started.pid, "how", how, "clients", len(c.clients), "rescued", rescued)
		s.workerGone(c)
	})
}

// workerGone is the only place that removes a worker's process from the supervisor's
// state.
func (s *supervisor) workerGone(c *child) {
	wasUp := c.up
	c.state = childGone
	for _, t := range []*timer{c.setup, c.ping, c.exit} {
		s.timers.stop(t)
	}
	if c.started != nil {
		c.started.close()
	}
	sl := s.workers.slots[c.index]
	sl.child = nil
	s.leaveReload(c)
	s.keepStats(c)
	s.leasesWithout(c)
	s.roundsWithout(c)
	s.clientsWithout(c)
	s.passAgain(sl.place)
	s.placeClients()
	if s.stop.mode == stopNow {
		s.checkStopped()
		return
	}
	if s.recycleGone(c) {
		sl.retired = &retirement{why: "it was never ready", since: s.env.now()}
	}
	if sl.retired != nil {
		s.timers.stop(sl.retired.limit)
		return
	}
	s.restart(sl, c, wasUp)
}

// restart starts a worker again: at once after its first death, then after 1,
// 2, 4, 8 and 10 seconds.
func (s *supervisor) restart(sl *slot, c *child, wasUp bool) {
	if wasUp && s.env.now()-c.born >= restartStable {
		sl.failures = 0
	}
	sl.failures++
	if !s.workers.anyUp && s.allFailed() {
		s.fail(errors.New("no worker could be started; the lines before say why"))
		return
	}
	s.after(backoff(sl.failures), func() {
		if sl.child == nil && sl.retired == nil { // another one has not taken its place meanwhile
			s.startWorker(c.index)
		}
	})
}

func (s *supervisor) allFailed() bool {
	for _, sl := range s.workers.slots {
		if sl.retired == nil && sl.failures < bootAttempts {
			return false
		}
	}
	return true
}

// backoff returns the pause before the next start after so many failures in a row.
func backoff(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(time.Second<<min(failures-2, 10), restartMax)
}

// reaper waits for orphaned processes that the kernel has reparented to the supervisor,
// which is their subreaper.
type reaper struct {
	busy  bool // a scan of all processes runs in a goroutine
	again bool // a child has ended since the scan began
}

// reapStrays looks for zombies for which no goroutine waits.
func (s *supervisor) reapStrays() {
	r := &s.workers.reaper
	if r.busy {
		r.again = true
		return
	}
	r.busy, r.again = true, false
	elsewhere(s, s.env.zombies, func(found []int, err error) {
		r.busy = false
		s.collect(found, err)
		if r.again {
			s.reapStrays()
		}
	})
}

// collect reaps the zombies that were found, but not our own children, for which
// goroutines wait. A process that is just being started can't be told from a stray; the
// scan after the start sees the difference.
func (s *supervisor) collect(found []int, err error) {
	if s.workers.spawning > 0 {
		return
	}
	own := s.childIDs()
	for _, pid := range found {
		if !slices.Contains(own, pid) {
			err = errors.Join(err, s.env.reap(pid))
		}
	}
	if err != nil {
		s.log.Warn("orphaned processes that became children of pgagroal can't be reaped", "error", err)
	}
}

// childIDs returns the process ids that some goroutine waits for.
func (s *supervisor) childIDs() []int {
	var ids []int
	for _, sl := range s.workers.slots {
		if sl.child != nil && sl.child.started != nil {
			ids = append(ids, sl.child.started.pid)
		}
	}
	if r := s.runner.end; r != nil && r.started != nil {
		ids = append(ids, r.started.pid)
	}
	for _, a := range s.aides() {
		if pid := a.processID(); pid != 0 {
			ids = append(ids, pid)
		}
	}
	if st := s.workers.starter; st != nil {
		ids = append(ids, st.PID())
	}
	if p := s.service.upgrade.trial; p != nil {
		ids = append(ids, p.Pid)
	}
	return ids
}
