package supervisor

import (
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// The number of open files of this process is limited. A client needs one descriptor
// from accept until a worker has read the packet that carries it: while the client
// waits here, while it is in the queue of a link, and while it is in the packet. The
// kernel counts descriptors in packets against the sender's limit, too. Above the limit
// it refuses further packets with ETOOMANYREFS. A backend that moves from worker to
// worker needs one descriptor as well. All of these together may use a quarter of the
// limit. The rest leaves room for clients that come back from a dead worker, and for
// children, probes and pgagroal-cli.

// clientBudget is how many clients may be on their way to workers under a limit of open
// files.
func clientBudget(c *config.Config, limit uint64) int {
	left := int(limit) - config.OwnFiles(c)
	return max(c.EffectiveWorkers(), min(int(limit/4), left))
}

// flight counts the descriptors, of clients and backends, on their way to one worker. A
// worker reads its link in order, so its answer to a ping proves that it has everything
// that was sent before the ping.
type flight struct {
	sent, read uint64
	ping       uint64 // id of the ping that waits for its answer, 0 for none
	upTo       uint64 // value of sent when the ping was sent
}

// share is how many descriptors may be on their way to one worker.
func (s *supervisor) share() uint64 {
	return uint64(max(1, s.clients.budget/max(1, len(s.workers.slots))))
}

// mayFly reports whether one more descriptor may be sent to a worker.
func (s *supervisor) mayFly(c *child) bool {
	return s.clients.budget == 0 || c.flight.sent-c.flight.read < s.share()
}

// mayMove reports whether a backend of c may be sent on. The Ledger decides only later
// which worker gets it, so there must be room for each that it could choose: c itself or the worker in its
// place, and every worker that waits for a backend.
func (s *supervisor) mayMove(c *child) bool {
	room, home := true, s.homeOf(c)
	s.ready(func(to *child) {
		if to == home || s.ledger.Waiting(to.index) > 0 {
			room = room && s.mayFly(to)
		}
	})
	return room
}

// takenOff counts a descriptor that was sent to a worker. When half of the worker's share
// is under way, it asks the worker what has arrived.
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

// landed records what a worker has read, according to its answer to a ping.
func (s *supervisor) landed(c *child, id uint64) {
	f := &c.flight
	if f.ping == 0 || id < f.ping {
		return
	}
	f.read, f.ping = f.upTo, 0
	s.askLanded(c)
	s.placeClients()
}

// dropGone closes waiting clients that have hung up.
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

// refuseSurplus refuses the oldest waiting clients if there are more than the budget
// allows.
func (s *supervisor) refuseSurplus() {
	surplus := len(s.clients.waiting) - s.clients.budget
	if s.clients.budget == 0 || surplus <= 0 {
		return
	}
	for _, c := range s.clients.waiting[:surplus] {
		listen.Refuse(c, pgwire.RefusalTooManyWaiting.With())
	}
	s.clients.waiting = s.clients.waiting[surplus:]
	s.log.Warn("clients are refused, since too many wait for a worker", "clients", surplus)
}
