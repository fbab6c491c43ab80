package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// loopback is the only address that anything in this package listens on.
const loopback = "127.0.0.1"

// reservedPort is a TCP port of the loopback address that is bound but has no listener.
// Connections to it are refused, the kernel gives it to no other process, and a program
// that sets SO_REUSEADDR (PostgreSQL and package net do) can listen on it. So a dead
// server's port refuses connections, and a restarted server always gets it back. The
// kernel does this, so it also works between test processes.
type reservedPort struct {
	port int
	sock *os.File
}

// reservePort binds a port that was free; the caller closes it.
func reservePort() (*reservedPort, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve port: socket: %w", err)
	}
	sock := os.NewFile(uintptr(fd), "reserved port")
	port, err := bindShared(fd)
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	return &reservedPort{port: port, sock: sock}, nil
}

// bindShared sets SO_REUSEADDR only after bind: set before, the kernel could
// choose a port that another reservation shares already.
func bindShared(fd int) (int, error) {
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, fmt.Errorf("share address: %w", err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("name of socket: %w", err)
	}
	return sa.(*syscall.SockaddrInet4).Port, nil
}

// listen makes the reserved port accept connections until the listener closes.
func (r *reservedPort) listen() (*net.TCPListener, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.port})
	if err != nil {
		return nil, fmt.Errorf("listen on reserved port: %w", err)
	}
	return l, nil
}

func (r *reservedPort) addr() string { return net.JoinHostPort(loopback, strconv.Itoa(r.port)) }

func (r *reservedPort) close() { _ = r.sock.Close() }

// ReservePort is Port for programs that aren't tests; they call release at the end.
func ReservePort() (port int, release func(), err error) {
	r, err := reservePort()
	if err != nil {
		return 0, nil, err
	}
	return r.port, r.close, nil
}

// Port returns a port of the loopback address that no other process gets before the
// test ends, unless it asks for that number.
func Port(t testing.TB) int {
	t.Helper()
	r, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r.port
}

// RefusedAddr returns a host:port that refuses connections until the test ends.
func RefusedAddr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort(loopback, strconv.Itoa(Port(t)))
}

// SilentAddr returns a host:port that answers no SYN until the test ends: a connection
// attempt hangs, as to a host that is gone.
func SilentAddr(t testing.TB) string {
	t.Helper()
	port, release, err := SilentPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return net.JoinHostPort(loopback, strconv.Itoa(port))
}

// SilentPort is SilentAddr for programs that aren't tests; they call release at the end. The
// backlog has room for one connection, and this function itself uses that.
func SilentPort() (port int, release func(), err error) {
	r, err := reservePort()
	if err != nil {
		return 0, nil, err
	}
	raw, err := r.sock.SyscallConn()
	if err == nil {
		var listenErr error
		err = raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) })
		err = errors.Join(err, listenErr)
	}
	var filler net.Conn
	if err == nil {
		filler, err = net.Dial("tcp", r.addr())
	}
	if err != nil {
		r.close()
		return 0, nil, fmt.Errorf("listen without a queue: %w", err)
	}
	return r.port, func() { _ = filler.Close(); r.close() }, nil
}
