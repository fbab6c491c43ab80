package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
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

// maxAddresses bounds the addresses that are kept of a name.
const maxAddresses = 8

// where is what is known of a server's addresses. When the name can't be resolved any
// more, the last good addresses are kept.
type where struct {
	addresses []address     // the preferred one first; empty until the name has resolved
	literal   bool          // an address or a path: nothing to resolve
	at        time.Duration // time of the last attempt that succeeded
	resolving bool
	waiting   []func() // to be called after the attempt in progress
	failed    bool     // the last attempt failed; only the first failure in a row is logged
}

func newWhere(host string, port int) *where {
	if strings.HasPrefix(host, "/") {
		return &where{addresses: []address{{"unix", path.Join(host, fmt.Sprintf(".s.PGSQL.%d", port))}}, literal: true}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return &where{addresses: []address{{"tcp", net.JoinHostPort(host, strconv.Itoa(port))}}, literal: true}
	}
	return &where{}
}

// addressesOf returns all addresses of a server, the preferred one first; none if its
// name has never resolved.
func (s *supervisor) addressesOf(server int) []address {
	if server < 0 || server >= len(s.servers.where) {
		return nil
	}
	return s.servers.where[server].addresses
}

// known returns the addresses for the log.
func (w *where) known() []string {
	texts := make([]string, len(w.addresses))
	for i, a := range w.addresses {
		texts[i] = a.address
	}
	return texts
}

// startResolving resolves every name now and again at intervals.
func (s *supervisor) startResolving() {
	for i := range s.servers.where {
		s.keepResolving(i)
	}
}

func (s *supervisor) keepResolving(server int) {
	if !s.servers.where[server].literal {
		s.resolve(server, nil)
		s.resolveAgain(server)
	}
}

// resolveAgain goes on until the slot has another server.
func (s *supervisor) resolveAgain(server int) {
	w := s.servers.where[server]
	s.after(resolveEvery, func() {
		if s.servers.where[server] == w {
			s.resolve(server, nil)
			s.resolveAgain(server)
		}
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
	host := s.cfg.Slot(server).Host
	elsewhere(s, func() ([]string, error) {
		ctx, done := context.WithTimeout(context.Background(), resolveLimit)
		defer done()
		return s.env.lookup(ctx, host)
	}, func(found []string, err error) {
		if s.servers.where[server] == w {
			s.onResolved(server, found, err)
		}
	})
}

func (s *supervisor) onResolved(server int, found []string, err error) {
	w, sv := s.servers.where[server], s.cfg.Slot(server)
	w.resolving = false
	switch {
	case err != nil || len(found) == 0:
		if !w.failed {
			s.log.Warn("name of a server can't be resolved", "server", sv.Name, "host", sv.Host, "known", w.known(), "error", err)
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

// found accepts the addresses that a name has now. Addresses that it had before keep their
// order, with the preferred one first. New addresses follow.
func (s *supervisor) found(server int, found []string) {
	w, sv := s.servers.where[server], s.cfg.Slot(server)
	w.at = s.env.now()
	var has []address
	for _, ip := range found[:min(len(found), maxAddresses)] {
		has = append(has, address{"tcp", net.JoinHostPort(ip, strconv.Itoa(sv.Port))})
	}
	var all []address
	for _, a := range slices.Concat(w.addresses, has) {
		if slices.Contains(has, a) && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	if !slices.Equal(all, w.addresses) {
		s.addressesChanged(server, all)
	}
}

// prefer puts the address that a server has answered at first.
func (s *supervisor) prefer(server int, a address) {
	w := s.servers.where[server]
	i := slices.Index(w.addresses, a)
	if i <= 0 { // it is the first, or the name no longer has it
		return
	}
	s.log.Info("server answers at another of its addresses", "server", s.serverName(server), "address", a.address,
		"before", w.addresses[0].address)
	s.addressesChanged(server, slices.Concat([]address{a}, w.addresses[:i], w.addresses[i+1:]))
}

func (s *supervisor) addressesChanged(server int, all []address) {
	w := s.servers.where[server]
	w.addresses = all
	s.log.Debug("server resolved", "server", s.serverName(server), "addresses", w.known())
	if s.servers.published {
		s.sendServerStates()
	}
}
