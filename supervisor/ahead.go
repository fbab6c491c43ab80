package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Backends that are opened ahead of clients. The Ledger decides when and where; a worker
// opens them.

// ledgerRule returns the Ledger's part of a line of pgagroal_databases.conf. Backends are
// opened ahead only if the line is also the one that counts for their clients.
func ledgerRule(limits []config.Limit, at int) pool.Rule {
	l := limits[at]
	r := pool.Rule{Max: l.MaxSize}
	database, user, ok := l.Ahead()
	if ok && config.FindLimit(limits, database, user) == at {
		r.Key, r.Initial, r.Min = pool.Key{Database: database, User: user}, l.InitialSize, l.MinSize
	}
	return r
}

// keptBy returns how many idle backends of a rule a worker keeps: its share of MIN_SIZE.
func keptBy(r pool.Rule, worker, workers int) int {
	n := r.Min / workers
	if worker < r.Min%workers {
		n++
	}
	return n
}

func (s *supervisor) onAheadFailed(c *child, m *ipc.AheadFailed) {
	if len(m.Error) > ipc.MaxAheadError {
		s.violation(c, "a reason of a failure that is too long")
		return
	}
	held, _ := s.ledger.Lease(m.Lease)
	effects, rule, pause, err := s.ledger.AheadFailed(c.index, m.Lease)
	if err != nil {
		s.violation(c, err.Error())
		return
	}
	if pause.For > 0 {
		s.noteAhead(rule, held.Key, m.Error, pause.For)
		s.after(pause.For, func() { s.carryOut(s.ledger.ResumeAhead(pause)) })
	}
	s.carryOut(effects)
}

// noteAhead logs why backends of a rule can't be opened ahead, once for each reason. While no
// primary is open the failover's own lines say more.
func (s *supervisor) noteAhead(rule int, key pool.Key, reason string, pause time.Duration) {
	if s.leases.aheadSaid[rule] == reason || !s.servers.snapshot.Open || s.stop.mode == stopNow {
		return
	}
	if s.leases.aheadSaid == nil {
		s.leases.aheadSaid = map[int]string{}
	}
	s.leases.aheadSaid[rule] = reason
	s.log.Warn("connections can't be opened ahead of clients; further attempts follow, at most a minute apart",
		"database", key.Database, "user", key.User, "error", reason, "next", pause)
}

// aheadWorks forgets the reason of a rule, because a backend of the rule was opened.
func (s *supervisor) aheadWorks(rule int) { delete(s.leases.aheadSaid, rule) }
