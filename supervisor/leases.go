package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// maxRefused is more clients than a worker can refuse before it reports them.
	maxRefused = 1 << 24
	// maxPassed is how many users without an entry the log names.
	maxPassed = 1000
	// holdersEvery bounds how often the holders of the pool are logged.
	holdersEvery = 5 * time.Second
	// cancelLimit bounds a CancelRequest to a server, including the wait until the
	// server closes the connection.
	cancelLimit = 2 * time.Second
)

// leases is what the supervisor keeps beside the Ledger.
type leases struct {
	// hasty are the requests that must not queue, each with the timer that refuses it.
	// They aren't refused at once, because an idle backend of another pool or worker
	// takes a moment to come back. They end with their worker at the latest.
	hasty map[hasty]*timer
	// holdersAt is when the holders were logged last, 0 for never. refused counts the
	// clients that got no backend since then.
	holdersAt time.Duration
	refused   int
	// passed are the users without an entry that servers have let in, maxPassed at most.
	passed map[string]bool
	// aheadSaid has the reason that was logged last why backends of a rule can't be opened
	// ahead, by rule; none while they can.
	aheadSaid map[int]string
	// moving is the backend that onHandOver has to pass on.
	moving *moving
}

// hasty identifies a request with NoWait. It names the process that made the request,
// because the next process in the slot counts its requests from 1 again.
type hasty struct {
	worker *child
	id     uint64
}

func newLedger(c *config.Config) *pool.Ledger {
	return pool.NewLedger(c.MaxConnections, rulesOf(c))
}

func rulesOf(c *config.Config) []pool.Rule {
	rules := make([]pool.Rule, len(c.Limits))
	for i := range c.Limits {
		rules[i] = ledgerRule(c.Limits, i)
	}
	return rules
}

func poolKey(k ipc.PoolKey) pool.Key {
	return pool.Key{Database: k.Database, User: k.User, Params: k.Params}
}

func (s *supervisor) onLeaseRequest(c *child, m *ipc.LeaseRequest) {
	if wrong := s.claimOfRequest(c, m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	name := m.Requested
	if name == "" || config.RealDatabase(s.cfg.Limits, name) != m.Key.Database {
		name = m.Key.Database // the alias isn't there any more since a reload
	}
	rule := config.FindLimit(s.cfg.Limits, name, m.Key.User)
	request := s.ledger.Request
	if m.Unproven {
		request = s.ledger.RequestUnproven
	}
	effects := request(c.index, m.ID, poolKey(m.Key), rule, s.since(c, m.WaitedMS))
	s.carryOut(effects)
	if !m.NoWait || settled(effects, c.index, m.ID) {
		return
	}
	if !s.servers.snapshot.Open {
		s.hastyOver(c, m.ID)
		return
	}
	s.makeHasty(c, m.ID)
}

// makeHasty refuses a request that isn't granted in a moment.
func (s *supervisor) makeHasty(c *child, id uint64) {
	if s.leases.hasty == nil {
		s.leases.hasty = map[hasty]*timer{}
	}
	s.leases.hasty[hasty{c, id}] = s.after(s.cfg.ConnectionRetryDelay, func() { s.hastyOver(c, id) })
}

// hastyOver refuses a request that was not granted in time.
func (s *supervisor) hastyOver(c *child, id uint64) {
	s.hastyDone(c, id)
	s.carryOut(s.ledger.Abandon(c.index, id))
	s.refuseNow(c, id)
}

func (s *supervisor) hastyDone(c *child, id uint64) {
	k := hasty{c, id}
	if t := s.leases.hasty[k]; t != nil {
		s.timers.stop(t)
		delete(s.leases.hasty, k)
	}
}

// leasesWithout removes a dead worker's requests, and turns its leases into orphans.
func (s *supervisor) leasesWithout(c *child) {
	for k, t := range s.leases.hasty {
		if k.worker == c {
			s.timers.stop(t)
			delete(s.leases.hasty, k)
		}
	}
	s.leasesOfDeadWorker(c.index)
}

// refuseNow refuses a client that must not wait, and says why: the pool can be full
// only while a primary is open.
func (s *supervisor) refuseNow(c *child, id uint64) {
	if s.servers.snapshot.Open {
		s.refuse(c, id, "all backends are in use")
		return
	}
	s.refuseLease(c, id, pgwire.RefusalNotAvailable, s.servers.machine.Status(s.env.now()).Public)
}

// settled reports whether the request was granted or refused.
func settled(effects []pool.Effect, worker int, id uint64) bool {
	for _, e := range effects {
		switch e := e.(type) {
		case pool.Grant:
			if e.Worker == worker && e.Request == id {
				return true
			}
		case pool.Refuse:
			if e.Worker == worker && e.Request == id {
				return true
			}
		}
	}
	return false
}

// carryOut tells the workers what the Ledger has decided, in the Ledger's order.
func (s *supervisor) carryOut(effects []pool.Effect) {
	for _, e := range effects {
		c := s.readyAt(e.Target())
		if c == nil {
			continue // the worker has just died: its leases become orphans when its exit is seen
		}
		switch e := e.(type) {
		case pool.Grant:
			s.hastyDone(c, e.Request)
			s.send(c, &ipc.LeaseGrant{ID: e.Request, Lease: e.Lease, Server: e.Server, Epoch: e.Epoch})
		case pool.Ahead:
			s.send(c, &ipc.OpenAhead{Lease: e.Lease, Key: ipc.PoolKey(e.Key), Server: e.Server, Epoch: e.Epoch})
		case pool.Move:
			s.passOn(c, e)
		case pool.Refuse:
			s.hastyDone(c, e.Request)
			s.refuse(c, e.Request, e.Reason.String())
		case pool.Reclaim:
			key := ipc.PoolKey{Database: e.Key.Database, User: e.Key.User, Params: e.Key.Params}
			waited := (s.env.now() - e.Since).Milliseconds()
			s.send(c, &ipc.Reclaim{ID: e.ID, Key: key, Leases: e.Leases, Own: e.Own, WaitedMS: waited, Size: e.Size})
		case pool.ReclaimCancel:
			s.send(c, &ipc.ReclaimCancel{ID: e.ID})
		}
	}
	if len(s.clients.pauses) > 0 {
		s.checkPauses()
	}
}

// refuseLease has a worker refuse a client. words are what the text of the refusal needs.
func (s *supervisor) refuseLease(c *child, id uint64, r pgwire.Refusal, words ...string) {
	s.send(c, &ipc.LeaseRefuse{ID: id, Refusal: uint8(r), Words: words})
}

// refuse refuses a client, and logs who holds the leases.
func (s *supervisor) refuse(c *child, id uint64, why string) {
	s.refuseLease(c, id, pgwire.RefusalPoolFull)
	s.logHolders(why, 1)
}

// logHolders logs who has the leases, at most once every few seconds.
func (s *supervisor) logHolders(why string, refused int) {
	s.leases.refused += refused
	now := s.env.now()
	if s.leases.holdersAt != 0 && now-s.leases.holdersAt < holdersEvery {
		return
	}
	counts := s.ledger.Counts()
	s.log.Warn("pool is full", "reason", why, "refused", s.leases.refused, "full", s.fullGates(counts),
		"leases", counts.Total, "max_connections", counts.Max, "waiting", counts.Waiting, "workers", describeWorkers(counts.Workers, counts.Orphans),
		"holders", describeHolders(s.ledger.Holders()))
	s.leases.holdersAt, s.leases.refused = max(now, 1), 0
}

// fullGates names what allows no further backend, with its limit and where that is set: max_connections, and lines of
// pgagroal_databases.conf.
func (s *supervisor) fullGates(counts pool.Counts) string {
	const most = 5
	var full []string
	if counts.Total >= counts.Max {
		full = append(full, fmt.Sprintf("max_connections (%s): %d of %d", s.cfg.Place("max_connections"), counts.Total, counts.Max))
	}
	more := 0
	for i, r := range counts.Rules {
		if r.Used < r.Max {
			continue
		}
		if len(full) >= most {
			more++
			continue
		}
		l := s.cfg.Limits[i]
		full = append(full, fmt.Sprintf("%s:%d (%s %s): %d of %d", s.cfg.Paths.Limits, l.Line, l.Database, l.User, r.Used, r.Max))
	}
	switch {
	case more > 0:
		full = append(full, fmt.Sprintf("and %d more", more))
	case len(full) == 0 && counts.Unproven > 0:
		return "the quarter for logins that have proven nothing"
	case len(full) == 0:
		return "nothing any more"
	}
	return strings.Join(full, "; ")
}

// describeWorkers lists how many leases each worker has.
func describeWorkers(list map[int]int, orphans int) string {
	var parts []string
	for _, i := range slices.Sorted(maps.Keys(list)) {
		if i >= 0 {
			parts = append(parts, fmt.Sprintf("%d: %d", i, list[i]))
		}
	}
	if orphans > 0 {
		parts = append(parts, fmt.Sprintf("dead: %d", orphans))
	}
	return strings.Join(parts, ", ")
}

// describeHolders lists the largest pools, and the workers that have them.
func describeHolders(list []pool.Holder) string {
	const most = 5
	var parts []string
	for i, h := range list {
		if i == most {
			return strings.Join(parts, "; ") + fmt.Sprintf("; and %d more", len(list)-most)
		}
		parts = append(parts, fmt.Sprintf("%s/%s %d (%s)", h.Key.Database, h.Key.User, h.Total,
			describeWorkers(h.Workers, h.Workers[-1])))
	}
	return strings.Join(parts, "; ")
}

func (s *supervisor) onLeaseAbandon(c *child, m *ipc.LeaseAbandon) {
	if m.Refused < 0 || m.Refused > maxRefused {
		s.violation(c, "a number of refused clients that can't be")
		return
	}
	if m.Refused > 0 {
		s.logHolders("no backend was free in time", m.Refused)
	}
	s.hastyDone(c, m.ID)
	s.carryOut(s.ledger.Abandon(c.index, m.ID))
}

func (s *supervisor) onLeaseOpened(c *child, m *ipc.LeaseOpened) {
	if len(m.Key) > maxSecret {
		s.violation(c, "a cancel key that no server gives")
		return
	}
	asked, _ := s.ledger.Lease(m.Lease)
	effects, err := s.ledger.Opened(c.index, m.Lease, m.PID, pool.CancelKey(m.Key.Reveal()))
	if err != nil {
		s.violation(c, err.Error())
		return
	}
	if asked.Unproven {
		s.logPassed(asked.Key)
	}
	s.aheadWorks(asked.Rule)
	s.carryOut(effects)
}

// logPassed logs once for each user that only a server could authenticate: such users are easily taken for users of the
// pool.
func (s *supervisor) logPassed(key pool.Key) {
	passed := s.leases.passed
	if passed == nil {
		passed = map[string]bool{}
		s.leases.passed = passed
	}
	if passed[key.User] || len(passed) == maxPassed {
		return
	}
	passed[key.User] = true
	s.log.Info("a server lets in a user that has no entry in the users file: its connections are not shared if the server asks for a password",
		"user", key.User, "database", key.Database, "hint", "pgagroal-admin user add")
	if len(passed) == maxPassed {
		s.log.Info("further users without an entry are not named", "users", maxPassed)
	}
}

func (s *supervisor) onLeaseReturn(c *child, m *ipc.LeaseReturn) {
	effects, err := s.ledger.Return(c.index, m.Lease)
	if err != nil {
		s.violation(c, err.Error())
		return
	}
	s.carryOut(effects)
	s.closeDrained(c)
}
