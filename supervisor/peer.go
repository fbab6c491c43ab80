package supervisor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// Workers look no name up. When a rule of pgagroal_hba.conf names a host, samehost or
// samenet, and could decide about a client, its worker asks here. Look-ups run outside
// the loop.

const (
	// maxLooking is how many addresses are looked up at a time.
	maxLooking = 16
	// peerKept is how long the names of an address are kept, peerUnknownKept how long it
	// is kept that an address has none. maxPeers bounds the number of addresses.
	peerKept        = time.Minute
	peerUnknownKept = 10 * time.Second
	maxPeers        = 4096
	// ownKept is how long the addresses of this machine are kept.
	ownKept = 5 * time.Second
)

// peers are the questions of workers about clients' addresses.
type peers struct {
	known   map[netip.Addr]peerNames
	asked   map[netip.Addr]*peerLook // look-ups that run or wait
	queue   []*peerLook              // look-ups that wait, oldest first
	looking int                      // how many run

	own        []netip.Prefix
	ownAt      time.Duration
	ownWaiting []func()
}

// peerNames are the confirmed names of an address.
type peerNames struct {
	hosts []string
	until time.Duration
}

// peerLook is a look-up of an address. A worker has ipc.MaxPeerRequests at most.
type peerLook struct {
	address netip.Addr
	at      time.Duration
	waiting []func(hosts []string)
}

func (s *supervisor) onPeerRequest(c *child, m *ipc.PeerRequest) {
	address, err := netip.ParseAddr(m.Address)
	switch {
	case c.peers >= ipc.MaxPeerRequests:
		s.violation(c, "it asks about more addresses than a worker may at a time")
		return
	case err != nil || address.Zone() != "" || address.Is4In6():
		s.violation(c, "it asks about an address that is none")
		return
	}
	c.peers++
	answer := &ipc.PeerAnswer{ID: m.ID}
	if m.Hosts {
		s.hostsOf(address, func(hosts []string) {
			answer.Hosts = hosts
			s.answerPeer(c, answer)
		})
		return
	}
	s.withOwn(func() {
		answer.Own = s.ownAround(address)
		s.answerPeer(c, answer)
	})
}

func (s *supervisor) answerPeer(c *child, m *ipc.PeerAnswer) {
	c.peers--
	if c.state != childKilled && c.state != childGone {
		s.send(c, m)
	}
}

// hostsOf calls then with the confirmed names of an address.
func (s *supervisor) hostsOf(address netip.Addr, then func(hosts []string)) {
	x := &s.service.peers
	if k, ok := x.known[address]; ok && s.env.now() < k.until {
		then(k.hosts)
		return
	}
	if look := x.asked[address]; look != nil {
		look.waiting = append(look.waiting, then)
		return
	}
	look := &peerLook{address: address, at: s.env.now(), waiting: []func([]string){then}}
	if x.asked == nil {
		x.asked = map[netip.Addr]*peerLook{}
	}
	x.asked[address] = look
	x.queue = append(x.queue, look)
	s.lookNext()
}

// lookNext starts look-ups until maxLooking run. It gives up a look-up that has waited too
// long: its client would not wait for it any more.
func (s *supervisor) lookNext() {
	x := &s.service.peers
	for x.looking < maxLooking && len(x.queue) > 0 {
		look := x.queue[0]
		x.queue = x.queue[1:]
		if s.env.now()-look.at > resolveLimit {
			s.log.Warn("the names of a client are not looked up: too many look-ups take long", "address", look.address)
			s.looked(look, nil)
			continue
		}
		x.looking++
		elsewhere(s, func() ([]string, error) {
			ctx, done := context.WithTimeout(context.Background(), resolveLimit)
			defer done()
			return confirmedHosts(ctx, s.env, look.address)
		}, func(hosts []string, err error) {
			x.looking--
			if err != nil {
				s.log.Info("the names of a client can't be looked up", "address", look.address, "error", err)
			}
			s.keepHosts(look.address, hosts)
			s.looked(look, hosts)
			s.lookNext()
		})
	}
}

func (s *supervisor) looked(look *peerLook, hosts []string) {
	delete(s.service.peers.asked, look.address)
	for _, then := range look.waiting {
		then(hosts)
	}
}

func (s *supervisor) keepHosts(address netip.Addr, hosts []string) {
	x := &s.service.peers
	if x.known == nil || len(x.known) >= maxPeers {
		x.known = map[netip.Addr]peerNames{}
	}
	kept := peerUnknownKept
	if len(hosts) > 0 {
		kept = peerKept
	}
	x.known[address] = peerNames{hosts, s.env.now() + kept}
}

// confirmedHosts returns those names of an address that resolve to this address again. The
// owner of an address can give it any name, but can't make somebody else's name resolve to
// it. A name that can't be looked up now says nothing about the others.
func confirmedHosts(ctx context.Context, e env, address netip.Addr) ([]string, error) {
	names, err := e.lookupAddr(ctx, address.String())
	if err != nil && !noSuchName(err) {
		return nil, err
	}
	var hosts []string
	var failed error
	for _, name := range names[:min(len(names), ipc.MaxPeerHosts)] {
		found, err := e.lookup(ctx, name)
		if err != nil && !noSuchName(err) {
			failed = err
		}
		if slices.ContainsFunc(found, func(text string) bool {
			addr, err := netip.ParseAddr(text)
			return err == nil && addr.WithZone("").Unmap() == address
		}) {
			hosts = append(hosts, name)
		}
	}
	return hosts, failed
}

func noSuchName(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// withOwn calls then when the addresses of this machine are known.
func (s *supervisor) withOwn(then func()) {
	x := &s.service.peers
	if x.own != nil && s.env.now()-x.ownAt < ownKept {
		then()
		return
	}
	if x.ownWaiting = append(x.ownWaiting, then); len(x.ownWaiting) > 1 {
		return
	}
	elsewhere(s, s.env.interfaces, func(own []netip.Prefix, err error) {
		if err != nil {
			s.log.Warn("the addresses of this machine are not known, so samehost and samenet fit no client", "error", err)
		}
		x.own, x.ownAt = own, s.env.now()
		waiting := x.ownWaiting
		x.ownWaiting = nil
		for _, f := range waiting {
			f()
		}
	})
}

// ownAround returns the addresses of this machine whose network holds an address, that
// address itself first.
func (s *supervisor) ownAround(address netip.Addr) []string {
	var around []string
	for _, p := range s.service.peers.own {
		switch {
		case p.Addr() == address:
			around = slices.Insert(around, 0, p.String())
		case p.Contains(address):
			around = append(around, p.String())
		}
	}
	return around[:min(len(around), ipc.MaxPeerOwn)]
}

// interfaces returns the addresses of this machine, each with its network.
func interfaces() ([]netip.Prefix, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := []netip.Prefix{}
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p)
		}
	}
	return own, nil
}
