package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"
)

// Times of name resolution.
const (
	resolveLimit = 2 * time.Second
	resolveEvery = 30 * time.Second
	resolveStale = 5 * time.Second // age at which a probe looks the name up again
)

// address is a server's address, as net.Dial takes it.
type address struct{ network, address string }

// where is what is known of a server's address. The last good address is kept when the
// name can't be resolved any more.
type where struct {
	address
	known     bool
	literal   bool          // an address or a path: nothing to resolve
	at        time.Duration // time of the last attempt that succeeded
	resolving bool
	waiting   []func() // to be called after the attempt in progress
	failed    bool     // the last attempt failed; so that the log tells it once
}

func newWhere(host string, port int) *where {
	if strings.HasPrefix(host, "/") {
		return &where{address: address{"unix", path.Join(host, fmt.Sprintf(".s.PGSQL.%d", port))}, known: true, literal: true}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return &where{address: address{"tcp", net.JoinHostPort(host, strconv.Itoa(port))}, known: true, literal: true}
	}
	return &where{}
}

// addressOf returns the address of a server, false if its name has never resolved.
func (s *supervisor) addressOf(server int) (address, bool) {
	if server < 0 || server >= len(s.servers.where) {
		return address{}, false
	}
	w := s.servers.where[server]
	return w.address, w.known
}

// startResolving resolves every name now and again at intervals.
func (s *supervisor) startResolving() {
	for i, w := range s.servers.where {
		if !w.literal {
			s.resolve(i, nil)
			s.resolveAgain(i)
		}
	}
}

func (s *supervisor) resolveAgain(server int) {
	s.after(resolveEvery, func() {
		s.resolve(server, nil)
		s.resolveAgain(server)
	})
}

// resolve looks the name up in a goroutine. then, if given, runs when that has
// succeeded or failed.
func (s *supervisor) resolve(server int, then func()) {
	w := s.servers.where[server]
	if then != nil {
		w.waiting = append(w.waiting, then)
	}
	if w.resolving {
		return
	}
	w.resolving = true
	host := s.cfg.Servers[server].Host
	elsewhere(s, func() ([]string, error) {
		ctx, done := context.WithTimeout(context.Background(), resolveLimit)
		defer done()
		return s.env.lookup(ctx, host)
	}, func(found []string, err error) { s.onResolved(server, found, err) })
}

func (s *supervisor) onResolved(server int, found []string, err error) {
	w, sv := s.servers.where[server], s.cfg.Servers[server]
	w.resolving = false
	switch {
	case err != nil || len(found) == 0:
		if !w.failed {
			s.log.Warn("name of a server can't be resolved", "server", sv.Name, "host", sv.Host, "known", w.address.address, "error", err)
		}
		w.failed = true
	default:
		w.failed = false
		s.found(server, found)
	}
	waiting := w.waiting
	w.waiting = nil
	for _, f := range waiting {
		f()
	}
}

// found accepts a new address. The present address stays as long as the name still has
// it among its addresses.
func (s *supervisor) found(server int, found []string) {
	w, sv := s.servers.where[server], s.cfg.Servers[server]
	w.at = s.env.now()
	port := strconv.Itoa(sv.Port)
	for _, ip := range found {
		if w.known && w.address.address == net.JoinHostPort(ip, port) {
			return
		}
	}
	w.address, w.known = address{"tcp", net.JoinHostPort(found[0], port)}, true
	s.log.Debug("server resolved", "server", sv.Name, "address", w.address.address)
	if s.servers.published {
		s.sendServerStates()
	}
}
