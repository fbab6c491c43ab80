package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// ListenUnix makes the Unix socket for clients and the one for pgagroal-cli, unless the service
// manager passed them. It runs after root was given up, so that the process can also remove them at
// the end.
func (k *Sockets) ListenUnix(c *config.Config, log *slog.Logger) error {
	if c.UnixSocketDir == "" || k.unix && k.control != nil {
		return nil
	}
	if err := k.guardUnix(c); err != nil {
		return err
	}
	if path := filepath.Join(c.UnixSocketDir, fmt.Sprintf(".s.PGSQL.%d", c.Port)); !k.unix && !k.takeOver(path) {
		l, err := k.bindUnix("unix", path, log)
		if err != nil {
			return err
		}
		k.clients = append(k.clients, &socket{Listener: l, name: path})
	}
	if path := control.SocketPath(c.UnixSocketDir, c.Port); k.control == nil && !k.takeOverControl(path) {
		l, err := k.bindUnix("unixpacket", path, log)
		if err != nil {
			return err
		}
		k.control = l
	}
	return nil
}

// guardUnix takes the lock for the sockets of this directory and port. Sockets of a pgagroal that
// exist when it has the lock were left behind by one that is gone.
func (k *Sockets) guardUnix(c *config.Config) error {
	path := filepath.Join(c.UnixSocketDir, fmt.Sprintf(".s.pgagroal.%d.lock", c.Port))
	if b := k.before; b != nil && b.guard != nil && b.guarded == path {
		k.guard, k.guarded = b.guard, path
		return nil
	}
	f, held, err := proc.LockFile(path)
	switch {
	case err != nil:
		return fmt.Errorf("lock the sockets: %w", err)
	case held:
		f.Close()
		return fmt.Errorf("another pgagroal uses port %d in %s; stop it, or change port or unix_socket_dir", c.Port, c.UnixSocketDir)
	}
	k.guard, k.guarded = f, path
	return nil
}

func (k *Sockets) bindUnix(network, path string, log *slog.Logger) (*net.UnixListener, error) {
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

// removeStale removes a socket on which nobody answers. The lock already proves that no pgagroal
// owns it.
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
