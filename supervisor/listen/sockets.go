package listen

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Sockets holds all listening sockets. It is made before the loop starts and closed after the loop
// has ended.
type Sockets struct {
	clients []*socket
	console []Port            // for the console
	given   map[string][]Port // what the service manager passed for these keys; stays open
	control *net.UnixListener
	passed  []string // what the service manager passed, for the log
	tcp     bool     // the service manager passed a TCP socket for clients
	unix    bool     // the service manager passed a Unix socket for clients
	made    []string // paths of sockets to remove at the end
	guard   *os.File // lock of the sockets in unix_socket_dir
	guarded string   // path of the lock
	// before are the sockets in use until a reload, nil at the start. Those that are still wanted are taken over.
	before *Sockets
}

// socket is a socket for clients.
type socket struct {
	net.Listener
	name  string    // the address that the configuration means, or the path; empty for one of the service manager
	ready *Listener // accepts on it, once ForClients has made it
}

// Close closes the socket and what accepts on it.
func (s *socket) Close() {
	if s.ready != nil {
		s.ready.Close()
		return
	}
	s.Listener.Close()
}

// Passed takes over the sockets of the service manager.
func Passed() (*Sockets, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take over the sockets of the service manager: %w", err)
	}
	k := &Sockets{}
	for name, list := range named {
		for _, l := range list {
			if l == nil {
				continue
			}
			if err := k.Adopt(name, l); err != nil {
				k.Close()
				return nil, err
			}
		}
	}
	return k, nil
}

// Adopt takes over a socket of the service manager. The names metrics, console and management say what
// such a socket is for; of any other, its kind does.
func (k *Sockets) Adopt(name string, l net.Listener) error {
	network := l.Addr().Network()
	k.passed = append(k.passed, name+" "+network+" "+l.Addr().String())
	if name == keyMetrics || name == keyConsole || name == keyManagement {
		if k.given == nil {
			k.given = map[string][]Port{}
		}
		k.given[name] = append(k.given[name], Port{Listener: l, Key: name})
		if network != "tcp" {
			return fmt.Errorf("the service manager's socket for %s is %s; only a TCP socket can serve it", name, network)
		}
		return nil
	}
	switch network {
	case "tcp":
		k.tcp = true
		k.clients = append(k.clients, &socket{Listener: l})
	case "unixpacket":
		k.control, _ = l.(*net.UnixListener)
	default:
		k.unix = true
		k.clients = append(k.clients, &socket{Listener: l})
	}
	return nil
}

// ListenTCP listens on the port at every address of host, before privileges are given up.
func (k *Sockets) ListenTCP(c *config.Config, log *slog.Logger) error {
	if k.tcp {
		return nil
	}
	entries, err := entriesOf(c.ListenHosts())
	if err != nil {
		return err
	}
	return bindAll(entries, func(a netip.Addr) error {
		name := netip.AddrPortFrom(a, uint16(c.Port)).String()
		if k.takeOver(name) {
			return nil
		}
		l, err := bindTCP(a, c)
		if err != nil {
			return err
		}
		k.clients = append(k.clients, &socket{Listener: l, name: name})
		return nil
	}, func(host string, a netip.Addr, err error) {
		log.Warn("an address of host is skipped: this machine doesn't have it", "host", host, "address", a.String(), "error", err)
	})
}

// Keys of a Port, which are also the names that its sockets may have in the service manager.
const (
	keyMetrics    = "metrics"
	keyConsole    = "console"
	keyManagement = "management"
)

// Port is a socket that listens on the port of a key.
type Port struct {
	net.Listener
	Key  string // metrics, console or management
	name string // the address and port that the configuration means
}

// ListenConsole listens on the keys metrics, console and management at every address of host, before
// privileges are given up. A key whose sockets the service manager passed only says whether they are served.
func (k *Sockets) ListenConsole(c *config.Config, log *slog.Logger) error {
	management := c.Management
	if !c.OpensManagement() {
		management = 0
	}
	for _, x := range []struct {
		key  string
		port int
	}{{keyMetrics, c.Metrics}, {keyConsole, c.Console}, {keyManagement, management}} {
		switch ports := k.given[x.key]; {
		case len(ports) == 0:
			if err := k.listenPort(c, x.port, x.key); err != nil {
				return err
			}
		case x.port > 0:
			k.console = append(k.console, ports...)
		default:
			log.Warn("a socket of the service manager is not served: its key is not set", "key", x.key, "address", ports[0].Addr().String())
		}
	}
	return nil
}

func (k *Sockets) listenPort(c *config.Config, port int, key string) error {
	if port == 0 {
		return nil
	}
	entries, err := entriesOf(c.ListenHosts())
	if err != nil {
		return err
	}
	return bindAll(entries, func(a netip.Addr) error {
		name := netip.AddrPortFrom(a, uint16(port)).String()
		if p, ok := k.before.port(name); ok {
			k.console = append(k.console, Port{Listener: p.Listener, Key: key, name: name})
			return nil
		}
		l, err := bindPort(a, port, key)
		if err != nil {
			return err
		}
		k.console = append(k.console, Port{Listener: l, Key: key, name: name})
		return nil
	}, func(string, netip.Addr, error) {}) // the log names what is skipped once, for the port
}

// Console returns the sockets for the keys metrics, console and management. They stay the property of k.
func (k *Sockets) Console() []Port { return k.console }

// Copy returns another descriptor of a TCP socket for another process, and listens again: the
// process that had it before may have shut it down. The caller closes it.
func Copy(l net.Listener) (int, error) {
	tl, ok := l.(*net.TCPListener)
	if !ok {
		return -1, fmt.Errorf("copy the socket %s: not TCP", l.Addr())
	}
	if err := onSocket(tl, func(fd int) error { return unix.Listen(fd, unix.SOMAXCONN) }); err != nil {
		return -1, fmt.Errorf("listen again at %s: %w", l.Addr(), err)
	}
	raw, err := tl.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("copy the socket %s: %w", l.Addr(), err)
	}
	fd := -1
	var failed error
	if err := raw.Control(func(d uintptr) { fd, failed = unix.FcntlInt(d, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		failed = err
	}
	if failed != nil {
		return -1, fmt.Errorf("copy the socket %s: %w", l.Addr(), failed)
	}
	return fd, nil
}

// ForClients prepares every socket on which nobody accepts clients yet, and returns what accepts on it.
func (k *Sockets) ForClients(c *config.Config, log *slog.Logger) ([]*Listener, error) {
	var all []*Listener
	for _, l := range k.clients {
		if l.ready != nil {
			continue
		}
		if err := setClientOptions(l.Listener, c); err != nil { // the service manager may have passed any kind of socket
			log.Warn("a socket option can't be set; clients of this address are served without it", "error", err, "address", l.Addr().String())
		}
		cl, err := newListener(l.Listener)
		if err != nil {
			return nil, fmt.Errorf("listen for clients: %w", err)
		}
		l.ready = cl
		all = append(all, cl)
	}
	return all, nil
}

// TCPPassed reports whether the service manager passed a TCP socket for clients.
func (k *Sockets) TCPPassed() bool { return k.tcp }

// UnixPassed reports whether the service manager passed a Unix socket for clients.
func (k *Sockets) UnixPassed() bool { return k.unix }

// Names returns what the service manager passed, for the log.
func (k *Sockets) Names() []string { return k.passed }

// Control returns the socket for pgagroal-cli, nil if there is none.
func (k *Sockets) Control() *net.UnixListener { return k.control }

// Close closes all sockets and removes the files of those that were made here. The service manager
// keeps its own sockets and their files.
func (k *Sockets) Close() {
	for _, l := range k.clients {
		l.Close()
	}
	for _, l := range slices.Concat(k.console, k.given[keyMetrics], k.given[keyConsole], k.given[keyManagement]) {
		l.Close() // a second time it does nothing
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
