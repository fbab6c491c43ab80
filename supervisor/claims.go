package supervisor

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// An attacker may have taken over a worker. So the supervisor compares each message of
// a worker with what it knows itself, and what a worker can make it store is bounded by
// the worker's clients and leases. A worker that claims something impossible is killed.
// pgagroal-privsep(7) lists the lies that no check can detect.
//
// These functions return what is wrong with a message, "" if nothing is. An honest
// worker never fails them: they allow for messages that cross each other on the way.

// Bounds of texts that a worker sends, in bytes.
const (
	// maxVersion is longer than any server_version that a packager makes.
	maxVersion = 128
	// maxSecret is the length of the longest cancel key in protocol 3.2.
	maxSecret = 256
	// maxSession bounds the texts of one ReportSession: the key of a pool and the
	// application_name of a start-up packet.
	maxSession = 2*ipc.MaxKey + 1024
)

// claimOfRequest checks a LeaseRequest. A worker can't have more open requests than
// clients.
func (s *supervisor) claimOfRequest(c *child, m *ipc.LeaseRequest) string {
	switch {
	case s.ledger.Waiting(c.index) >= len(c.clients):
		return "it asks for more backends than it has clients"
	case s.ledger.Asked(c.index, m.ID):
		return fmt.Sprintf("it asks twice under request %d", m.ID)
	case m.Key.Size() > ipc.MaxKey:
		return fmt.Sprintf("a pool's key of %d bytes", m.Key.Size())
	}
	return ""
}

// since returns when the client of a request began to wait, which decides its place in
// the queue. That was not before its worker started, and not longer ago than the
// longest wait.
func (s *supervisor) since(c *child, waitedMS int64) time.Duration {
	now := s.env.now()
	most := now - c.born
	if s.cfg.BlockingTimeout > 0 {
		most = min(most, s.cfg.BlockingTimeout)
	}
	return now - time.Duration(min(max(waitedMS, 0), most.Milliseconds()))*time.Millisecond
}

// claimOfBackend compares what a worker says of a backend that it hands over with the
// backend's lease.
func (s *supervisor) claimOfBackend(held *pool.Lease, m *ipc.BackendState) string {
	switch {
	case held.Server != m.Server, held.Epoch != m.Epoch:
		return "it hands a backend over that it doesn't have"
	case held.Key != poolKey(m.Key):
		return "it hands a backend over as one of another pool"
	case held.PID != m.PID, held.Cancel.Reveal() != m.Secret.Reveal():
		return "it hands a backend over as another process of the server"
	case m.AgeMS < 0, m.AgeMS > s.env.now().Milliseconds():
		return "it hands a backend over that is older than this process"
	}
	return ""
}

// claimOfHint checks a Hint.
func (s *supervisor) claimOfHint(m *ipc.Hint) string {
	_, known := hintKinds[m.Kind]
	if !known || !s.isSlot(m.Server) || m.Epoch > s.servers.snapshot.Epoch || len(m.SQLState) != 0 && len(m.SQLState) != 5 {
		return "a hint about nothing"
	}
	return ""
}

// claimOfFenced checks the acknowledgement of a fence: the worker must have returned
// all leases of the fenced epochs before.
func (s *supervisor) claimOfFenced(c *child, m *ipc.Fenced) string {
	if m.Epoch != s.fence.epoch || m.Sessions < 0 || m.Sessions > m.Aborted {
		return "it acknowledges another fence"
	}
	for _, held := range s.ledger.UpTo(m.Epoch) {
		if held.Worker == c.index && held.PID != 0 {
			return fmt.Sprintf("it acknowledges a fence and still has process %d of that server", held.PID)
		}
	}
	return ""
}

// claimOfActivity checks the times since the worker heard from the servers.
func (s *supervisor) claimOfActivity(m *ipc.Activity) string {
	if len(m.AgesMS) > s.cfg.Slots() {
		return "it hears more servers than there are"
	}
	for _, ms := range m.AgesMS {
		if ms < -1 || ms > s.env.now().Milliseconds() {
			return "it has heard a server before it was there"
		}
	}
	return ""
}

// claimOfSession checks one session of a report. A worker reports no more sessions than
// the backends and clients that it had when it was asked, which is what it may. had is how many
// it has reported before.
func claimOfSession(m *ipc.ReportSession, had, may int) string {
	switch {
	case had >= may:
		return "it reports more sessions than it has"
	case len(m.State)+len(m.Database)+len(m.User)+len(m.AppName)+len(m.Client) > maxSession:
		return "it reports a session with texts that no client could send"
	}
	return ""
}

var (
	// errServerClosed: the server has ended the connection meanwhile.
	errServerClosed = errors.New("the server has closed the connection")
	errOtherPeer    = errors.New("it isn't connected to its server")
)

// leadsTo checks that a descriptor is connected to an address. For a Unix socket this
// is impossible: its peer name is chosen by the server, which may see the directory
// under another path.
func leadsTo(fd int, a address) error {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return errOtherPeer
	}
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return errServerClosed
	}
	var peer netip.AddrPort
	switch sa := sa.(type) {
	case *unix.SockaddrUnix:
		if a.network == "unix" {
			return nil
		}
	case *unix.SockaddrInet4:
		peer = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		peer = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	want, err := netip.ParseAddrPort(a.address)
	if err != nil || a.network == "unix" || peer.Port() != want.Port() {
		return errOtherPeer
	}
	addr := want.Addr().Unmap().WithZone("")
	if peer.Addr() == addr || addr.IsUnspecified() && peer.Addr().IsLoopback() {
		return nil
	}
	return errOtherPeer
}
