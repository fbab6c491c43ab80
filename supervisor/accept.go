package supervisor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

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
	gone      bool          // for good
	changed   chan struct{} // closed at the next change
	listeners []*clientListener
}

func newGate(listeners []*clientListener) *gate {
	return &gate{changed: make(chan struct{}), listeners: listeners}
}

// set opens or closes the gate. Closing wakes those that wait in accept.
func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open == g.open || g.gone {
		return
	}
	g.open = open
	until := time.Unix(1, 0)
	if open {
		until = time.Time{}
	}
	for _, l := range g.listeners {
		_ = l.file.SetDeadline(until) // fails on a closed listener only, whose goroutine ends by itself
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// shut closes the listeners for good: who connects from now on is refused at
// once instead of waiting for a pooler that ends.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return
	}
	g.gone = true
	close(g.changed)
	for _, l := range g.listeners {
		l.close()
	}
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

// wait returns when the gate is open, or false when it is shut or ctx has ended.
func (g *gate) wait(ctx context.Context) bool {
	for {
		g.mu.Lock()
		open, gone, changed := g.open, g.gone, g.changed
		g.mu.Unlock()
		if gone {
			return false
		}
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

// acceptor accepts on one listener until ctx ends or the gate is shut.
type acceptor struct {
	accept func() (accepted, error)
	gate   *gate
	take   func(accepted) bool // false when nobody takes clients any more
	fail   func(error)
}

func (a *acceptor) run(ctx context.Context) {
	for a.gate.wait(ctx) {
		c, err := a.accept()
		switch {
		case err == nil:
			if !a.take(c) {
				unix.Close(c.fd)
			}
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ECONNABORTED):
			// The gate was closed, or the client has left already.
		case a.gate.isShut():
			return
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

// clientListener accepts descriptors that never come under Go's poller, since
// they go to a worker: of what a net.Listener does with a new connection nothing
// is of use here.
type clientListener struct {
	net.Listener
	file *os.File // the same socket, whose deadline ends a wait
	raw  syscall.RawConn
}

func newClientListener(l net.Listener) (*clientListener, error) {
	sc, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("%T has no descriptor", l)
	}
	file, err := sc.File()
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &clientListener{l, file, raw}, nil
}

func (l *clientListener) close() {
	l.file.Close()
	l.Close()
}

// next waits for a client.
func (l *clientListener) next() (accepted, error) {
	var c accepted
	var peer unix.RawSockaddrAny
	errno := unix.Errno(0)
	if err := l.raw.Read(func(fd uintptr) bool {
		c.fd, errno = acceptNow(fd, &peer)
		return errno != unix.EAGAIN
	}); err != nil {
		return accepted{fd: -1}, fmt.Errorf("accept: %w", err)
	}
	if errno != 0 {
		return accepted{fd: -1}, fmt.Errorf("accept: %w", errno)
	}
	c.address = addressOf(&peer)
	return c, nil
}

// acceptNow is a raw system call, since the listener is non-blocking: Go's scheduler
// would wake its monitor thread for any other.
func acceptNow(fd uintptr, peer *unix.RawSockaddrAny) (int, unix.Errno) {
	for {
		size := uint32(unix.SizeofSockaddrAny)
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(peer)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// addressOf is "host:port" of a TCP peer, and empty for any other.
func addressOf(peer *unix.RawSockaddrAny) string {
	switch peer.Addr.Family {
	case unix.AF_INET:
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(peer))
		return netip.AddrPortFrom(netip.AddrFrom4(p.Addr), portOf(p.Port)).String()
	case unix.AF_INET6:
		p := (*unix.RawSockaddrInet6)(unsafe.Pointer(peer))
		addr := netip.AddrFrom16(p.Addr).Unmap()
		if p.Scope_id != 0 {
			zone := strconv.FormatUint(uint64(p.Scope_id), 10)
			if i, err := net.InterfaceByIndex(int(p.Scope_id)); err == nil {
				zone = i.Name
			}
			addr = addr.WithZone(zone)
		}
		return netip.AddrPortFrom(addr, portOf(p.Port)).String()
	}
	return ""
}

// portOf reads a port as it goes over the wire, from the field that C has for it.
func portOf(field uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, field))
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

// rescueClients takes back those that a dead worker never took, for others, and
// returns how many.
func (s *supervisor) rescueClients(c *child) int {
	rescued := 0
	for _, e := range c.started.unread() {
		m, ok := e.Message.(*ipc.NewClient)
		if !ok || len(e.FDs) != 1 || s.stop.mode == stopNow {
			e.CloseFDs()
			continue
		}
		delete(c.clients, m.ID)
		s.clients.total--
		s.clients.waiting = append(s.clients.waiting, accepted{fd: e.FDs[0], address: m.Address})
		rescued++
	}
	return rescued
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

func (s *supervisor) onClientsGone(c *child, m *ipc.ClientsGone) {
	for _, id := range m.IDs {
		if !c.clients[id] {
			s.violation(c, "a client has left that it never had")
			return
		}
		delete(c.clients, id)
		s.clients.total--
	}
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
