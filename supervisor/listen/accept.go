package listen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// failurePause is the pause after an accept that failed, for example because no descriptor was free.
const failurePause = 100 * time.Millisecond

// backlogMost is how many clients a listener that was retired still accepts. The system's limit of a backlog is the same.
const backlogMost = 4096

// Client is a connection on its way to a worker. The supervisor owns its descriptor until the queue
// of a worker's link has it.
type Client struct {
	FD      int
	Address string // "host:port" of a TCP client, else empty
}

// Acceptor accepts on one listener until ctx ends or the gate is shut.
type Acceptor struct {
	Accept func() (Client, error)
	Gate   *Gate
	Take   func(Client) bool // hands a client to the loop; false if the loop has ended
	Fail   func(error)       // gets the error of a failed accept
	// Recovered turns the value of a panic into an error, and logs it.
	Recovered func(any) error
}

// Run is the goroutine of an Acceptor.
func (a *Acceptor) Run(ctx context.Context) {
	a.Gate.joins(1)
	defer a.Gate.joins(-1)
	for a.Gate.wait(ctx) {
		err := a.one()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return // it was retired
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ECONNABORTED):
			// The gate was closed, or the client has left already.
		case a.Gate.isShut():
			return
		default:
			a.Fail(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(failurePause):
			}
		}
	}
}

// one accepts one client. After a panic only this client is closed, and the accept counts as failed.
func (a *Acceptor) one() (err error) {
	c := Client{FD: -1}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if c.FD >= 0 {
			unix.Close(c.FD)
			a.Gate.Taken()
		}
		err = a.Recovered(p)
	}()
	if c, err = a.Accept(); err != nil {
		return err
	}
	a.Gate.count(1)
	if !a.Take(c) {
		unix.Close(c.FD)
	}
	return nil
}

// Listener accepts clients as bare descriptors. They go to a worker, so they must not be registered
// with Go's poller, as a net.Listener would do.
type Listener struct {
	net.Listener
	file *os.File // the same socket; its deadline ends a wait
	raw  syscall.RawConn
	// retired says that a reload has ended the listener, see Gate.Retire. late counts the clients that it accepted since;
	// it belongs to the Acceptor.
	retired atomic.Bool
	late    int
}

func newListener(l net.Listener) (*Listener, error) {
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
	return &Listener{Listener: l, file: file, raw: raw}, nil
}

// Close ends a wait in Next too.
func (l *Listener) Close() {
	l.file.Close()
	l.Listener.Close()
}

// Next waits for a client. On a listener that was retired it waits for nobody: when the backlog is empty, it closes the
// listener and returns net.ErrClosed.
func (l *Listener) Next() (Client, error) {
	var c Client
	var peer unix.RawSockaddrAny
	errno := unix.Errno(0)
	accept := func(fd uintptr) bool {
		c.FD, errno = acceptNow(fd, &peer)
		return errno != unix.EAGAIN
	}
	wait := l.raw.Read
	if l.retired.Load() {
		wait = func(f func(uintptr) bool) error { return l.raw.Control(func(fd uintptr) { f(fd) }) }
		if l.late++; l.late > backlogMost {
			errno = unix.EAGAIN
		}
	}
	if errno == 0 {
		if err := wait(accept); err != nil {
			return Client{FD: -1}, fmt.Errorf("accept: %w", err)
		}
	}
	if errno == unix.EAGAIN {
		l.Close()
		return Client{FD: -1}, net.ErrClosed
	}
	if errno != 0 {
		return Client{FD: -1}, fmt.Errorf("accept: %w", errno)
	}
	known := false
	defer func() {
		if !known { // a panic
			unix.Close(c.FD)
		}
	}()
	c.Address = addressOf(&peer)
	known = true
	return c, nil
}

// acceptNow returns a blocking descriptor. Workers need no other: with epoll each of their calls says
// MSG_DONTWAIT, and io_uring would answer EAGAIN for a non-blocking descriptor. The system call is raw,
// because the listener is non-blocking and an ordinary call would wake the monitor thread of Go's scheduler.
func acceptNow(fd uintptr, peer *unix.RawSockaddrAny) (int, unix.Errno) {
	for {
		size := uint32(unix.SizeofSockaddrAny)
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(peer)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// addressOf returns "host:port" of a TCP peer, and an empty text for any other.
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

// portOf returns the port from a field in network byte order.
func portOf(field uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, field))
}
