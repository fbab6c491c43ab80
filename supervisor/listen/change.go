package listen

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Change is what a reload does to the sockets. Prepare opens what is new. After that, either Commit closes what is not
// wanted any more, or Close gives the new ones up.
type Change struct {
	now, next *Sockets
	// Clients accept on the new sockets for clients.
	Clients []*Listener
}

// Changes says whether the sockets of two configurations may differ.
func Changes(was, is *config.Config) bool {
	return was.Host != is.Host || was.Port != is.Port || was.UnixSocketDir != is.UnixSocketDir || was.Metrics != is.Metrics || was.Console != is.Console ||
		was.Management != is.Management || was.OpensManagement() != is.OpensManagement()
}

// Prepare opens the sockets of a configuration that k doesn't have. It changes nothing in k. It runs outside the loop,
// while nobody else uses k. Sockets of the service manager stay as they are.
func (k *Sockets) Prepare(c *config.Config, log *slog.Logger) (*Change, error) {
	ch := &Change{now: k, next: &Sockets{passed: k.passed, given: k.given, tcp: k.tcp, unix: k.unix, before: k}}
	for _, s := range k.clients {
		if s.name == "" {
			ch.next.clients = append(ch.next.clients, s)
		}
	}
	if k.control != nil && !slices.Contains(k.made, k.control.Addr().String()) {
		ch.next.control = k.control
	}
	if err := ch.open(c, log); err != nil {
		ch.Close()
		return nil, err
	}
	return ch, nil
}

func (ch *Change) open(c *config.Config, log *slog.Logger) (err error) {
	for _, open := range []func() error{
		func() error { return ch.next.ListenTCP(c, log) },
		func() error { return ch.next.ListenConsole(c, log) },
		func() error { return ch.next.ListenUnix(c, log) },
		func() error { ch.Clients, err = ch.next.ForClients(c, log); return err },
	} {
		if err := open(); err != nil {
			return hinted(err)
		}
	}
	return nil
}

// hinted adds what an operator can do if a running pgagroal can't open what a new one could.
func hinted(err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; ports below 1024 need root, which was given up at the start: restart pgagroal for them", err)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; if no other program has it, a wildcard in host and an address exclude each other: restart pgagroal for that", err)
	}
	return err
}

// Close gives the change up: it closes the sockets that Prepare has opened.
func (ch *Change) Close() { ch.next.without(ch.now).Close() }

// Commit makes the new sockets those in use, and closes the others. Clients that have connected to one of these are
// accepted before it closes, and commands that came by the old control socket still get their answers.
func (ch *Change) Commit(gate *Gate) {
	old := ch.now.without(ch.next)
	for _, s := range old.clients {
		gate.Retire(s.ready)
	}
	old.clients = nil
	old.Close()
	ch.next.before = nil
	*ch.now = *ch.next
}

// Control returns the new socket for pgagroal-cli, nil if it stays.
func (ch *Change) Control() *net.UnixListener {
	if ch.next.control == ch.now.control {
		return nil
	}
	return ch.next.control
}

// Gone returns the addresses at which nobody listens any more, for the log.
func (ch *Change) Gone() []net.Addr {
	var all []net.Addr
	for _, s := range ch.now.without(ch.next).clients {
		all = append(all, s.Addr())
	}
	return all
}

// without returns the sockets of k that other doesn't have.
func (k *Sockets) without(other *Sockets) *Sockets {
	rest := &Sockets{}
	for _, s := range k.clients {
		if !slices.Contains(other.clients, s) {
			rest.clients = append(rest.clients, s)
		}
	}
	for _, p := range k.console {
		if p.name != "" && !slices.ContainsFunc(other.console, func(o Port) bool { return o.Listener == p.Listener }) {
			rest.console = append(rest.console, p)
		}
	}
	if k.control != other.control {
		rest.control = k.control
	}
	for _, path := range k.made {
		if !slices.Contains(other.made, path) {
			rest.made = append(rest.made, path)
		}
	}
	if k.guard != other.guard {
		rest.guard, rest.guarded = k.guard, k.guarded
	}
	return rest
}

// takeOver takes a socket for clients over from the sockets before, and reports whether there is one.
func (k *Sockets) takeOver(name string) bool {
	if k.before == nil {
		return false
	}
	i := slices.IndexFunc(k.before.clients, func(s *socket) bool { return s.name == name })
	if i < 0 {
		return false
	}
	k.clients = append(k.clients, k.before.clients[i])
	k.makeAgain(name)
	return true
}

// takeOverControl is takeOver for the socket for pgagroal-cli.
func (k *Sockets) takeOverControl(path string) bool {
	if k.before == nil || k.before.control == nil || k.before.control.Addr().String() != path {
		return false
	}
	k.control = k.before.control
	k.makeAgain(path)
	return true
}

// makeAgain takes over the duty to remove a path.
func (k *Sockets) makeAgain(path string) {
	if slices.Contains(k.before.made, path) {
		k.made = append(k.made, path)
	}
}

// port returns the socket of metrics, console or management at an address.
func (k *Sockets) port(name string) (Port, bool) {
	if k == nil {
		return Port{}, false
	}
	i := slices.IndexFunc(k.console, func(p Port) bool { return p.name == name })
	if i < 0 {
		return Port{}, false
	}
	return k.console[i], true
}
