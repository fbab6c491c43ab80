package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// lookupLimit bounds the look-up of one name among the entries of host.
const lookupLimit = 5 * time.Second

// entry is one entry of host with its addresses. Each address gets a socket that serves only its own family: an IPv6
// socket that took IPv4 clients too would open a port that isn't in the configuration.
type entry struct {
	host  string
	addrs []netip.Addr
}

// entriesOf resolves the entries of host. It leaves out addresses that the wildcard of any entry covers, and addresses
// that an earlier entry has.
func entriesOf(hosts []string) ([]entry, error) {
	var all []netip.Addr
	entries := make([]entry, 0, len(hosts))
	for _, h := range hosts {
		addrs, err := addressesOf(h)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{h, addrs})
		all = append(all, addrs...)
	}
	for i := range entries {
		e := &entries[i]
		e.addrs = slices.DeleteFunc(e.addrs, func(a netip.Addr) bool { return !a.IsUnspecified() && slices.Contains(all, wildcardOf(a)) })
	}
	var had []netip.Addr
	for i := range entries {
		e := &entries[i]
		e.addrs = slices.DeleteFunc(e.addrs, func(a netip.Addr) bool { return slices.Contains(had, a) })
		had = append(had, e.addrs...)
	}
	if len(had) > config.MaxListen {
		return nil, fmt.Errorf("host means %d addresses, and pgagroal listens on %d at most; use a wildcard", len(had), config.MaxListen)
	}
	return entries, nil
}

func wildcardOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// addressesOf returns the addresses of one entry. localhost means both loopback addresses, whatever the hosts file says,
// because many clients try ::1 first.
func addressesOf(host string) ([]netip.Addr, error) {
	switch {
	case host == "*":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	case strings.EqualFold(host, "localhost"):
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve an address to listen on: %w", err)
	}
	for i, a := range found {
		found[i] = a.Unmap()
	}
	return found, nil
}

// Check says what keeps pgagroal from listening on the entries of host. It doesn't bind the port, because a running
// pgagroal may use it.
func Check(hosts []string) error {
	entries, err := entriesOf(hosts)
	if err != nil {
		return err
	}
	return bindAll(entries, func(a netip.Addr) error {
		c, err := net.ListenUDP(familyOf("udp", a), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		if err != nil {
			var e *net.OpError
			if errors.As(err, &e) {
				err = e.Err // without the port, which isn't the one of the configuration
			}
			return fmt.Errorf("%s can't be listened on: %w", a, err)
		}
		return c.Close()
	}, func(string, netip.Addr, error) {})
}

// Taken returns the reasons for which the port can't be bound now on addresses of host. It never listens: sockets with
// SO_REUSEADDR can share an address until one of them listens, so this is no obstacle to a pgagroal that starts meanwhile.
func Taken(hosts []string, port int) []error {
	entries, err := entriesOf(hosts)
	if err != nil {
		return nil // Check says so
	}
	var reasons []error
	for _, e := range entries {
		for _, a := range e.addrs {
			err := bindOnly(a, port)
			if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EAFNOSUPPORT) {
				reasons = append(reasons, fmt.Errorf("%s: %w", netip.AddrPortFrom(a, uint16(port)), err))
			}
		}
	}
	return reasons
}

// bindOnly binds a socket and closes it. It leaves out addresses with a zone, such as fe80::1%eth0.
func bindOnly(a netip.Addr, port int) error {
	if a.Zone() != "" {
		return nil
	}
	family, address := unix.AF_INET, unix.Sockaddr(nil)
	if a.Is4() {
		address = &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	} else {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, address)
}

// bindAll binds every address. It skips an address that this machine doesn't have, such as the IPv6 address of localhost
// where there is no IPv6, unless its entry has no other.
func bindAll(entries []entry, bind func(netip.Addr) error, skipped func(host string, a netip.Addr, err error)) error {
	for _, e := range entries {
		var missing []error
		for _, a := range e.addrs {
			err := bind(a)
			switch {
			case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
				missing = append(missing, err)
				if len(missing) < len(e.addrs) {
					skipped(e.host, a, err)
				}
			case err != nil:
				return err
			}
		}
		if len(missing) > 0 && len(missing) == len(e.addrs) {
			return errors.Join(missing...)
		}
	}
	return nil
}

// familyOf returns the network of package net that serves only the family of a: "tcp6" sets IPV6_V6ONLY.
func familyOf(network string, a netip.Addr) string {
	if a.Is4() {
		return network + "4"
	}
	return network + "6"
}

// bindTCP listens for clients on one address.
func bindTCP(a netip.Addr, c *config.Config) (net.Listener, error) {
	l, err := bindPort(a, c.Port, "port")
	if err != nil {
		return nil, err
	}
	if c.Backlog > 0 {
		if err := setBacklog(l, c.Backlog); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// bindPort listens on one address. key is the port's key in pgagroal.conf.
func bindPort(a netip.Addr, port int, key string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // older kernels refuse TCP options on an MPTCP socket
	l, err := lc.Listen(context.Background(), familyOf("tcp", a), net.JoinHostPort(a.String(), strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen on host and %s: %w", key, err)
	}
	return l, nil
}
