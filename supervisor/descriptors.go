package supervisor

import (
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// The descriptors of this process are a budget. A client's is ours from accept until a worker has read the packet that
// carries it: while it waits, in the queue of a link, and in the packet, where the kernel counts it against our limit
// and fails every further one with ETOOMANYREFS. All of these together may be a quarter of the limit, so that what
// comes back from a worker that dies always finds room beside children, probes and pgagroal-cli.

// clientBudget is how many clients may be on their way under a limit of open files.
func clientBudget(c *config.Config, limit uint64) int {
	left := int(limit) - config.OwnFiles(c)
	return max(c.EffectiveWorkers(), min(int(limit/4), left))
}

// flight counts the clients on their way to one worker. It reads its link in order, so its answer to a ping says that
// it has everything that was sent before.
type flight struct {
	sent, read uint64
	ping       uint64 // id of the ping that asks, 0 for none
	upTo       uint64 // sent when it was sent
}

// share is how many clients may be on their way to one worker.
func (s *supervisor) share() uint64 {
	return uint64(max(1, s.clients.budget/max(1, len(s.workers.slots))))
}

// mayFly says whether one more client may be sent to a worker.
func (s *supervisor) mayFly(c *child) bool {
	return s.clients.budget == 0 || c.flight.sent-c.flight.read < s.share()
}

// takenOff counts a client that was sent to a worker, and asks now and then whether it has arrived.
func (s *supervisor) takenOff(c *child) {
	c.flight.sent++
	s.askLanded(c)
}

func (s *supervisor) askLanded(c *child) {
	f := &c.flight
	if s.clients.budget == 0 || f.ping != 0 || 2*(f.sent-f.read) < s.share() {
		return
	}
	c.pings++
	f.ping, f.upTo = c.pings, f.sent
	s.send(c, &ipc.Ping{ID: f.ping})
}

// landed takes a worker's answer to a ping for what it has read.
func (s *supervisor) landed(c *child, id uint64) {
	f := &c.flight
	if f.ping == 0 || id < f.ping {
		return
	}
	f.read, f.ping = f.upTo, 0
	s.askLanded(c)
	s.placeClients()
}

// dropGone closes those of the waiting clients that have hung up.
func (s *supervisor) dropGone() {
	left := s.clients.waiting[:0]
	for _, c := range s.clients.waiting {
		if listen.Gone(c) {
			unix.Close(c.FD)
			continue
		}
		left = append(left, c)
	}
	s.clients.waiting = left
}

// refuseSurplus refuses the oldest of the waiting clients that are more than the budget.
func (s *supervisor) refuseSurplus() {
	surplus := len(s.clients.waiting) - s.clients.budget
	if s.clients.budget == 0 || surplus <= 0 {
		return
	}
	for _, c := range s.clients.waiting[:surplus] {
		listen.Refuse(c)
	}
	s.clients.waiting = s.clients.waiting[surplus:]
	s.log.Warn("clients are refused, since too many wait for a worker", "clients", surplus)
}
