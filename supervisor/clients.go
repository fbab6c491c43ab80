package supervisor

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// fullPause is how long to wait before checking again whether the workers keep up.
const fullPause = 20 * time.Millisecond

// clients is what the loop knows about clients.
type clients struct {
	gate    *listen.Gate
	ports   ports
	nextID  uint64
	total   int
	waiting []listen.Client // accepted or rescued, but not yet given to a worker
	recheck *timer
	asked   int // AdmitRequests that are answered a moment later
	budget  int // how many descriptors may be on their way to workers, see clientBudget; 0 for no limit
	burst   proc.Burst
	census  census
	// disabled are the databases that let no new client in.
	disabled disabled
	pauses   pauses
	turnedAway
	// taking are the sessions that a worker was given and hasn't taken yet, by client.
	taking map[uint64]*passage
}

// onAccepted queues a client for the worker with the fewest clients.
func (s *supervisor) onAccepted(a listen.Client) {
	if s.stop.mode == stopNow {
		unix.Close(a.FD)
		return
	}
	s.clients.gate.Taken()
	if s.tooMany() {
		listen.Refuse(a, pgwire.RefusalTooManyClients.With())
		s.turnAway(pgwire.RefusalTooManyClients.With())
		return
	}
	s.clients.waiting = append(s.clients.waiting, a)
	s.placeClients()
	s.refuseSurplus()
}

// placeClients hands the waiting clients over to workers, and closes the gate when no
// worker can take more.
func (s *supervisor) placeClients() {
	w := s.clients.waiting
	s.clients.burst.After = func(d time.Duration, f func()) { s.after(d, f) }
	for len(w) > 0 {
		c := s.leastLoaded()
		if c == nil {
			break
		}
		s.clients.nextID++
		id := s.clients.nextID
		asks := s.mustAsk()
		c.clients[id] = true
		s.clients.total++
		if asks {
			s.clients.census.wait(id)
		}
		s.send(c, &ipc.NewClient{ID: id, Address: w[0].Address, Ask: asks}, w[0].FD)
		s.takenOff(c)
		s.clients.burst.Note()
		w = w[1:]
	}
	s.clients.waiting = w
	s.gateChanged()
}

// rescueClients takes back the clients that a dead worker has not read from its link,
// so that other workers get them, and returns how many they are.
func (s *supervisor) rescueClients(c *child, left []ipc.Envelope) int {
	rescued := 0
	for _, e := range left {
		if in, ok := e.Message.(*ipc.SessionIn); ok && s.stop.mode != stopNow && s.rescueSession(c, in, e.FDs) {
			rescued++
			continue
		}
		m, ok := e.Message.(*ipc.NewClient)
		if !ok || len(e.FDs) != 1 || s.stop.mode == stopNow {
			e.CloseFDs()
			continue
		}
		delete(c.clients, m.ID)
		s.clients.left(m.ID)
		s.clients.waiting = append(s.clients.waiting, listen.Client{FD: e.FDs[0], Address: m.Address})
		rescued++
	}
	s.dropGone()
	s.refuseSurplus()
	return rescued
}

// gateChanged opens the gate when the servers are known, a worker can take clients and
// no client waits; otherwise it closes the gate.
func (s *supervisor) gateChanged() {
	if s.clients.gate == nil {
		return
	}
	free := s.leastLoaded() != nil
	open := free && len(s.clients.waiting) == 0 && s.servers.known && s.stop.mode != stopNow
	s.clients.gate.Set(open)
	if len(s.clients.waiting) > 0 || !free && s.anyReady() {
		s.recheckLater()
	}
}

// recheckLater checks the full queues again after a pause, because no event tells when
// they have room.
func (s *supervisor) recheckLater() {
	if s.clients.recheck != nil || s.stop.mode == stopNow {
		return
	}
	s.clients.recheck = s.after(fullPause, func() {
		s.clients.recheck = nil
		s.dropGone()
		s.placeClients()
	})
}

func (s *supervisor) anyReady() bool {
	found := false
	s.ready(func(*child) { found = true })
	return found
}

func (s *supervisor) onClientsGone(c *child, m *ipc.ClientsGone) {
	for _, id := range m.IDs {
		if !c.clients[id] {
			s.violation(c, "a client has left that it never had")
			return
		}
		delete(c.clients, id)
		s.clients.left(id)
	}
	s.checkRetired(c)
	s.checkDrained()
}

// left removes a client from the counts.
func (x *clients) left(id uint64) {
	x.total--
	x.taken(id)
	x.census.leave(id)
}

func (s *supervisor) clientsWithout(c *child) {
	for id := range c.clients {
		s.clients.left(id)
	}
	clear(c.clients)
	s.checkDrained()
}

// onAcceptFailed needs no limit of its own: after an error each listener pauses, so this
// runs at most ten times a second for each.
func (s *supervisor) onAcceptFailed(err error) {
	s.log.Error("client can't be accepted", "error", err)
}
