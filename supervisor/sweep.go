package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// sweep is one probe of a server at all of its addresses. The preferred address is looked at first. The next one follows
// when the one before has failed or has kept silent for its share of the time. The first answer is the result of the
// probe. If no address answers, combined decides what the server is.
type sweep struct {
	s         *supervisor
	probe     failover.Probe
	started   time.Duration
	addresses []address
	of        *where               // whose addresses these are
	next      int                  // address to be looked at next
	pending   int                  // looks in progress
	seen      []failover.ProbeDone // results of the addresses that didn't answer
	over      bool
}

// begin looks at the next address, and in a while at the one after it. It does nothing if a reload has removed or moved
// the server: nobody knows any more how to reach these addresses.
func (x *sweep) begin() {
	if x.over || x.next == len(x.addresses) || x.s.servers.where[x.probe.Server] != x.of {
		return
	}
	a := x.addresses[x.next]
	x.next++
	x.pending++
	left := max(x.probe.Timeout-(x.s.env.now()-x.started), time.Millisecond)
	x.s.probeAt(x.probe, a, left, func(seen failover.ProbeDone) { x.end(a, seen) })
	if at := x.next; at < len(x.addresses) {
		x.s.after(x.probe.Timeout/time.Duration(len(x.addresses)+1), func() {
			if x.next == at {
				x.begin()
			}
		})
	}
}

// end takes the result of one look.
func (x *sweep) end(a address, seen failover.ProbeDone) {
	if x.over {
		return
	}
	x.pending--
	if answered(seen.Outcome) {
		x.s.prefer(seen.Server, a)
		x.finish(seen)
		return
	}
	x.seen = append(x.seen, seen)
	x.begin()
	if x.pending == 0 {
		x.finish(combined(x.seen))
	}
}

func (x *sweep) finish(seen failover.ProbeDone) {
	x.over = true
	x.s.onProbed(seen)
}

func answered(o failover.Outcome) bool {
	switch o {
	case failover.SawPrimary, failover.SawStandby, failover.SawAlive, failover.SawStarting, failover.SawShutdown:
		return true
	}
	return false
}

// combined returns the result for a server of which no address answered. The server refuses only if all of its addresses
// refuse: behind a silent address there may be a server that others still reach. An address that couldn't be tried, such
// as an IPv6 address where there is no IPv6, says nothing if others were tried.
func combined(seen []failover.ProbeDone) failover.ProbeDone {
	weight := func(o failover.Outcome) int {
		switch o {
		case failover.SawNoAddress:
			return 0
		case failover.SawRefused:
			return 1
		}
		return 2
	}
	least, started := seen[0], seen[0].Started
	for _, d := range seen[1:] {
		started = min(started, d.Started)
		if weight(d.Outcome) > weight(least.Outcome) {
			least = d
		}
	}
	least.Started, least.Ended = started, seen[len(seen)-1].Ended
	return least
}
