package supervisor

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Pauses of accept.
const (
	// descriptorPause follows an accept that failed for want of descriptors.
	descriptorPause = 100 * time.Millisecond
	// fullPause is when it is looked again whether a worker keeps up.
	fullPause = 20 * time.Millisecond
)

// clients is what the loop knows of clients.
type clients struct {
	gate    *gate
	nextID  uint64
	total   int
	waiting []accepted // accepted while the gate was closing
	recheck *timer
	burst   proc.Burst
}

// accepted is a connection on its way to a worker. Its descriptor is ours until
// it is queued for one.
type accepted struct {
	fd      int
	address string
}

// gate holds the accepting goroutines back: the backlog of the kernel waits
// while it is closed.
type gate struct {
	mu        sync.Mutex
	open      bool
	changed   chan struct{} // closed at the next change
	listeners []net.Listener
}

func newGate(listeners []net.Listener) *gate {
	return &gate{changed: make(chan struct{}), listeners: listeners}
}

// set opens or closes the gate. Closing wakes those that wait in accept.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open == g.open {
		return
	}
	g.open = open
	until := time.Unix(1, 0)
	if open {
		until = time.Time{}
	}
	for _, l := range g.listeners {
		if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
			_ = d.SetDeadline(until) // fails on a closed listener only, whose goroutine ends by itself
		}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// shut closes the listeners for good: who connects from now on is refused at
// once instead of waiting for a pooler that ends.
func (g *gate) shut() {
	for _, l := range g.listeners {
		l.Close()
	}
}

// wait returns when the gate is open, or false when ctx has ended.
func (g *gate) wait(ctx context.Context) bool {
	for {
		g.mu.Lock()
		open, changed := g.open, g.changed
		g.mu.Unlock()
		if open {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// acceptor accepts on one listener until ctx ends or the listener is closed.
type acceptor struct {
	ln   net.Listener
	gate *gate
	opt  socketOptions
	take func(accepted) bool // false when nobody takes clients any more
	fail func(error)
}

type socketOptions struct{ noDelay, keepAlive bool }

func (a *acceptor) run(ctx context.Context) {
	for a.gate.wait(ctx) {
		nc, err := a.ln.Accept()
		switch {
		case err == nil:
			a.pass(nc)
		case errors.Is(err, net.ErrClosed):
			return
		case isTimeout(err), errors.Is(err, unix.ECONNABORTED):
			// The gate was closed, or the client has left already.
		default:
			a.fail(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(descriptorPause):
			}
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// pass hands a copy of the descriptor on, outside Go's poller; nc is closed.
func (a *acceptor) pass(nc net.Conn) {
	defer nc.Close()
	c := accepted{fd: -1}
	if t, ok := nc.(*net.TCPConn); ok {
		c.address = nc.RemoteAddr().String()
		// They fail on a connection that is gone already; the worker will see that.
		_ = t.SetNoDelay(a.opt.noDelay)
		_ = t.SetKeepAlive(a.opt.keepAlive)
	}
	fd, err := duplicate(nc)
	if err != nil {
		a.fail(err)
		return
	}
	c.fd = fd
	if !a.take(c) {
		unix.Close(fd)
	}
}

// duplicate returns a copy of the descriptor of nc, close-on-exec.
func duplicate(nc net.Conn) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1, errors.New("the connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(of uintptr) {
		fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// onAccepted queues a client for the worker with the fewest.
func (s *supervisor) onAccepted(a accepted) {
	if s.stop.mode == stopNow {
		unix.Close(a.fd)
		return
	}
	s.clients.waiting = append(s.clients.waiting, a)
	s.placeClients()
}

// placeClients hands over what waits, and closes the gate when no worker can
// take more.
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
		c.clients[id] = true
		s.clients.total++
		s.send(c, &ipc.NewClient{ID: id, Address: w[0].address}, w[0].fd)
		s.clients.burst.Note()
		w = w[1:]
	}
	s.clients.waiting = w
	s.gateChanged()
}

// gateChanged opens the gate when the servers are known, a worker can take
// clients and nobody waits; else it closes it.
func (s *supervisor) gateChanged() {
	if s.clients.gate == nil {
		return
	}
	free := s.leastLoaded() != nil
	open := free && len(s.clients.waiting) == 0 && s.servers.known && s.stop.mode != stopNow
	s.clients.gate.set(open)
	if free && len(s.clients.waiting) > 0 || !free && s.anyReady() {
		s.recheckLater()
	}
}

// recheckLater looks again at queues that were full: their emptying is no event.
func (s *supervisor) recheckLater() {
	if s.clients.recheck != nil || s.stop.mode == stopNow {
		return
	}
	s.clients.recheck = s.after(fullPause, func() {
		s.clients.recheck = nil
		s.placeClients()
	})
}

func (s *supervisor) anyReady() bool {
	found := false
	s.ready(func(*child) { found = true })
	return found
}

func (s *supervisor) onClientGone(c *child, m *ipc.ClientGone) {
	if !c.clients[m.ID] {
		s.violation(c, "a client has left that it never had")
		return
	}
	delete(c.clients, m.ID)
	s.clients.total--
	s.checkDrained()
}

func (s *supervisor) clientsWithout(c *child) {
	s.clients.total -= len(c.clients)
	clear(c.clients)
	s.checkDrained()
}

// onAcceptFailed runs at most ten times a second and listener: accept pauses.
func (s *supervisor) onAcceptFailed(err error) {
	s.log.Error("client can't be accepted", "error", err)
}
