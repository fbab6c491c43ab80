package scriptrunner

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Listen makes the socket of the service at path, accessible only to its own user. It
// replaces a socket file on which nobody listens any more.
func Listen(path string) (*net.UnixListener, error) {
	l, err := listen(path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		l, err = listen(path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// listen changes the umask of the whole process for a moment, so only a main that has
// started nothing yet may call it.
func listen(path string) (*net.UnixListener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
}

func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	c.Close()
	return false
}

// ListenOn takes over a listening socket that was given to this process. The
// file is closed.
func ListenOn(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use socket %s: %w", f.Name(), err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok || u.Addr().Network() != "unixpacket" {
		l.Close()
		return nil, fmt.Errorf("use socket %s: it is not a listening SOCK_SEQPACKET socket", f.Name())
	}
	// The socket file belongs to the service manager.
	u.SetUnlinkOnClose(false)
	return u, nil
}
