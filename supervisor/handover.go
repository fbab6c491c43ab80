package supervisor

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// moving is a backend on its way from one worker to another while the supervisor has
// it, which is within one call of onHandOver. The server owes it no answer and the
// supervisor sends nothing, so a backend that must not arrive can simply be cut.
type moving struct {
	state ipc.BackendState
	fd    int
}

// onHandOver passes a backend on to the client that the Ledger names, or back. Fences
// keep their order with backends because both travel on the links: a worker that
// acknowledges a fence has sent its backends before, and a worker that gets a fence has
// received its backends before.
func (s *supervisor) onHandOver(c *child, m *ipc.HandOver, fds []int) {
	held, ok := s.ledger.Lease(m.Lease)
	wrong := "it hands a backend over that it doesn't have"
	if ok && held.Worker == c.index {
		wrong = s.claimOfBackend(&held, &m.Backend)
	}
	if wrong != "" {
		abort(fds)
		s.violation(c, wrong)
		return
	}
	var effects []pool.Effect
	var err error
	// No descriptor was free for it, it must not be used, or too many are on their way.
	if len(fds) == 0 || s.fenced(held.Epoch) || !s.isAtItsServer(c, &held, fds[0]) || !s.mayMove(c) {
		abort(fds)
		effects, err = s.ledger.Return(c.index, m.Lease)
	} else {
		m.Backend.Flushed = m.Backend.Flushed || s.flushesMoving(c, held.Key.Database)
		s.leases.moving = &moving{m.Backend, fds[0]}
		effects, err = s.ledger.HandOver(c.index, m.Lease, s.homeOf(c).index)
	}
	if err != nil {
		s.violation(c, err.Error())
	}
	s.carryOut(effects)
	s.closeDrained(c)
	if x := s.leases.moving; x != nil { // the worker that should get it has just died
		s.leases.moving = nil
		abort([]int{x.fd})
	}
}

// homeOf returns the worker that gets a backend of c that no client waits for: the one in its place if c
// retires, else c itself.
func (s *supervisor) homeOf(c *child) *child {
	if s.retires(c) {
		if heir := s.heirOf(c); heir != nil {
			return heir
		}
	}
	return c
}

// isAtItsServer reports whether a backend is connected to its server. A connection to
// an earlier address of the server is not the worker's fault.
func (s *supervisor) isAtItsServer(c *child, held *pool.Lease, fd int) bool {
	err := errOtherPeer
	for _, a := range s.addressesOf(held.Server) {
		if err = leadsTo(fd, a); !errors.Is(err, errOtherPeer) {
			break
		}
	}
	if errors.Is(err, errOtherPeer) {
		s.log.Warn("backend isn't passed on", "worker", c.index, "server", s.serverName(held.Server), "backend", held.PID,
			"addresses", s.servers.where[held.Server].known(), "reason", err)
	}
	return err == nil
}

// passOn gives the backend that was handed over to a worker.
func (s *supervisor) passOn(c *child, e pool.Move) {
	x := s.leases.moving
	s.leases.moving = nil
	s.hastyDone(c, e.Request)
	s.log.Debug("backend changes its worker", "backend", x.state.PID, "to", e.Worker, "back", e.Back)
	s.send(c, &ipc.TakeOver{ID: e.Request, Lease: e.Lease, Backend: x.state}, x.fd)
	s.takenOff(c)
	c.drained = false
}

// abort cuts connections at once, even if other processes have their descriptors too:
// the peers see a reset, and the kernel drops what it has queued.
func abort(fds []int) {
	for _, fd := range fds {
		// The calls fail for what isn't TCP; closing is all that is left then.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		sa := [unix.SizeofSockaddrInet6]byte{} // family AF_UNSPEC
		_, _, _ = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
		unix.Close(fd)
	}
}
