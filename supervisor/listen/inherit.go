package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherited are the sockets of a process whose program is replaced, by the descriptors that
// stay open meanwhile.
type Inherited struct {
	Clients []InheritedSocket `msgpack:"clients"`
	Console []InheritedSocket `msgpack:"console"`
	Given   []InheritedSocket `msgpack:"given"`   // what the service manager passed for metrics and console
	Control int               `msgpack:"control"` // -1 for none
	Guard   int               `msgpack:"guard"`   // -1 for none
	Guarded string            `msgpack:"guarded"`
	Passed  []string          `msgpack:"passed"`
	TCP     bool              `msgpack:"tcp_passed"`
	Unix    bool              `msgpack:"unix_passed"`
	Made    []string          `msgpack:"made"`
}

// InheritedSocket is a socket for clients, or, with a key, a Port.
type InheritedSocket struct {
	FD   int    `msgpack:"fd"`
	Name string `msgpack:"name"`
	Key  string `msgpack:"key"`
}

// PassOn describes the sockets for the next program. They stay open and in use.
func (k *Sockets) PassOn() (Inherited, error) {
	x := Inherited{Control: -1, Guard: -1, Guarded: k.guarded, Passed: k.passed, TCP: k.tcp, Unix: k.unix, Made: k.made}
	var errs []error
	number := func(l any) int {
		fd, err := descriptor(l)
		errs = append(errs, err)
		return fd
	}
	for _, l := range k.clients {
		x.Clients = append(x.Clients, InheritedSocket{FD: number(l.Listener), Name: l.name})
	}
	for _, p := range k.console {
		x.Console = append(x.Console, InheritedSocket{number(p.Listener), p.name, p.Key})
	}
	for _, list := range k.given {
		for _, p := range list {
			x.Given = append(x.Given, InheritedSocket{number(p.Listener), p.name, p.Key})
		}
	}
	if k.control != nil {
		x.Control = number(k.control)
	}
	if k.guard != nil {
		x.Guard = number(k.guard)
	}
	return x, errors.Join(errs...)
}

// FDs returns all descriptors.
func (x Inherited) FDs() []int {
	var fds []int
	for _, list := range [...][]InheritedSocket{x.Clients, x.Console, x.Given} {
		for _, s := range list {
			fds = append(fds, s.FD)
		}
	}
	for _, fd := range [...]int{x.Control, x.Guard} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

func descriptor(v any) (fd int, err error) {
	c, ok := v.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("%T has no descriptor", v)
	}
	err = onSocket(c, func(d int) error { fd = d; return nil })
	return fd, err
}

// Inherit takes over the sockets of the program before.
func Inherit(x Inherited) (*Sockets, error) {
	k := &Sockets{guarded: x.Guarded, passed: x.Passed, tcp: x.TCP, unix: x.Unix, made: x.Made}
	taken := map[int]net.Listener{} // a port that the service manager passed is in two lists
	var errs []error
	take := func(fd int) net.Listener {
		if taken[fd] == nil {
			l, err := listenerOf(fd)
			taken[fd] = l
			errs = append(errs, err)
		}
		return taken[fd]
	}
	for _, s := range x.Clients {
		k.clients = append(k.clients, &socket{Listener: take(s.FD), name: s.Name})
	}
	for _, s := range x.Console {
		k.console = append(k.console, Port{Listener: take(s.FD), Key: s.Key, name: s.Name})
	}
	for _, s := range x.Given {
		if k.given == nil {
			k.given = map[string][]Port{}
		}
		k.given[s.Key] = append(k.given[s.Key], Port{Listener: take(s.FD), Key: s.Key, name: s.Name})
	}
	if x.Control >= 0 {
		k.control, _ = take(x.Control).(*net.UnixListener)
	}
	if x.Guard >= 0 {
		k.guard = os.NewFile(uintptr(x.Guard), x.Guarded) // the lock belongs to the open file, so it isn't taken again
	}
	return k, errors.Join(errs...)
}

// listenerOf makes a listener of a descriptor, which it takes over.
func listenerOf(fd int) (net.Listener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "inherited")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over a socket: %w", err)
	}
	return l, nil
}
