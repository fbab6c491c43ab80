package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
)

// sockets are everything that listens. It is made before the loop starts and
// closed after it has ended.
type sockets struct {
	clients []net.Listener
	control *net.UnixListener
	passed  []string // what the service manager passed, for the log
	tcp     bool     // it passed TCP
	unix    bool     // it passed a Unix socket for clients
	made    []string // paths to remove
	guard   *os.File // lock of the sockets in unix_socket_dir
	guarded string
}

// passedSockets takes over the sockets of the service manager.
func passedSockets() (*sockets, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over the sockets of the service manager: %w", err)
	}
	k := &sockets{}
	for name, list := range named {
		for _, l := range list {
			if l == nil {
				continue
			}
			k.adopt(name, l)
		}
	}
	return k, nil
}

func (k *sockets) adopt(name string, l net.Listener) {
	k.passed = append(k.passed, name+" "+l.Addr().Network()+" "+l.Addr().String())
	switch l.Addr().Network() {
	case "tcp":
		k.tcp = true
		k.clients = append(k.clients, l)
	case "unixpacket":
		k.control, _ = l.(*net.UnixListener)
	default:
		k.unix = true
		k.clients = append(k.clients, l)
	}
}

// listenTCP binds host and port, before privileges are given up.
func (k *sockets) listenTCP(c *config.Config) error {
	if k.tcp {
		return nil
	}
	host := c.Host
	if host == "*" {
		host = ""
	}
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // older kernels refuse such a socket options of TCP
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(c.Port)))
	if err != nil {
		return fmt.Errorf("listen on host and port: %w", err)
	}
	k.clients = append(k.clients, l)
	if c.Backlog > 0 {
		return setBacklog(l, c.Backlog)
	}
	return nil
}

// setBacklog sets the length of the queue again: Go always takes the system's.
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

// forClients makes ready to accept on every socket for clients.
func (k *sockets) forClients(c *config.Config, log *slog.Logger) ([]*clientListener, error) {
	var all []*clientListener
	for _, l := range k.clients {
		if err := setClientOptions(l, c); err != nil { // the service manager may have passed any kind of socket
			log.Warn("clients are served without it", "error", err, "address", l.Addr().String())
		}
		cl, err := newClientListener(l)
		if err != nil {
			for _, cl := range all {
				cl.close()
			}
			return nil, fmt.Errorf("listen for clients: %w", err)
		}
		all = append(all, cl)
	}
	return all, nil
}

// How clients that say nothing are found to be gone: silent for a quarter of a
// minute, they are asked every quarter of a minute, nine times.
const (
	keepAliveEvery = 15 // seconds
	keepAliveCount = 9
)

// setClientOptions sets on the listener what its connections inherit.
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

// listenUnix makes the socket for clients and the one for pgagroal-cli. It runs
// with the privileges that we keep, so that they can be removed at the end.
func (k *sockets) listenUnix(c *config.Config, log *slog.Logger) error {
	if c.UnixSocketDir == "" || k.unix && k.control != nil {
		return nil
	}
	if err := k.guardSockets(c); err != nil {
		return err
	}
	if !k.unix {
		l, err := k.bindUnix("unix", filepath.Join(c.UnixSocketDir, fmt.Sprintf(".s.PGSQL.%d", c.Port)), log)
		if err != nil {
			return err
		}
		k.clients = append(k.clients, l)
	}
	if k.control == nil {
		l, err := k.bindUnix("unixpacket", control.SocketPath(c.UnixSocketDir, c.Port), log)
		if err != nil {
			return err
		}
		k.control = l
	}
	return nil
}

// guardSockets takes the lock that makes the sockets of this directory and port
// ours: what still lies there then was left behind by a pgagroal that is gone.
func (k *sockets) guardSockets(c *config.Config) error {
	path := filepath.Join(c.UnixSocketDir, fmt.Sprintf(".s.pgagroal.%d.lock", c.Port))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("lock the sockets: %w", err)
	}
	held, err := lockFile(f, path)
	switch {
	case err != nil:
		f.Close()
		return fmt.Errorf("lock the sockets: %w", err)
	case held:
		f.Close()
		return fmt.Errorf("another pgagroal uses port %d in %s; stop it, or change port or unix_socket_dir", c.Port, c.UnixSocketDir)
	}
	k.guard, k.guarded = f, path
	return nil
}

// lockFile locks an open file. held also says that the file was removed from
// path by its last owner while we took it.
func lockFile(f *os.File, path string) (held bool, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) { lerr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return false, err
	}
	if errors.Is(lerr, unix.EWOULDBLOCK) {
		return true, nil
	}
	if lerr != nil {
		return false, lerr
	}
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	return err != nil || !os.SameFile(ours, there), nil
}

func (k *sockets) bindUnix(network, path string, log *slog.Logger) (*net.UnixListener, error) {
	if err := removeStale(network, path, log); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on a Unix socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	k.made = append(k.made, path)
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, fmt.Errorf("listen on a Unix socket: %w", err)
	}
	return l, nil
}

// removeStale removes a socket on which nobody answers; the lock says already
// that no pgagroal owns it.
func removeStale(network, path string, log *slog.Logger) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is in the way and is not a socket; remove it", path)
	}
	nc, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		nc.Close()
		return fmt.Errorf("a server answers on %s already; stop it, or change port or unix_socket_dir", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%s is in the way: %w; remove it if nobody uses it", path, err)
	}
	log.Warn("stale socket is removed", "path", path)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}

// close ends all listening and removes what was made here. What the service
// manager passed stays its own.
func (k *sockets) close() {
	for _, l := range k.clients {
		l.Close()
	}
	if k.control != nil {
		k.control.Close()
	}
	for _, p := range k.made {
		os.Remove(p)
	}
	k.made = nil
	if k.guard != nil {
		os.Remove(k.guarded)
		k.guard.Close()
		k.guard = nil
	}
}
