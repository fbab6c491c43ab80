package listen

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// setBacklog replaces the length of the backlog, because Go always sets the system's default.
func setBacklog(l net.Listener, n int) error {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return nil
	}
	if err := onSocket(t, func(fd int) error { return unix.Listen(fd, n) }); err != nil {
		return fmt.Errorf("set the backlog: %w", err)
	}
	return nil
}

func onSocket(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) { ferr = f(int(fd)) })
	return errors.Join(err, ferr)
}

// How the kernel detects clients that have vanished: after 15 seconds without traffic it sends a
// probe every 15 seconds, nine times.
const (
	keepAliveEvery = 15 // seconds
	keepAliveCount = 9
)

// setClientOptions sets options on the listener that its connections inherit.
func setClientOptions(l net.Listener, c *config.Config) error {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return nil
	}
	return onSocket(t, func(fd int) error {
		var errs []error
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, number(c.NoDelay)},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(c.KeepAlive)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveEvery},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEvery},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		} {
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				errs = append(errs, fmt.Errorf("set option %d of level %d of clients' sockets: %w", o.name, o.level, err))
			}
		}
		return errors.Join(errs...)
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
