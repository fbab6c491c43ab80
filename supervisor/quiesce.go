package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// quiesceLimit is how long workers have to count their transactions.
const quiesceLimit = 500 * time.Millisecond

// calm is the round that counts running transactions, for a planned switchover. The
// machine asks again only after an answer, so there is at most one.
type calm struct {
	round *round
	epoch uint64
	busy  int
}

// quiesce asks all workers how many transactions are running. Quiesced answers the
// machine. A round in progress is dropped.
func (s *supervisor) quiesce(a failover.Quiesce) {
	q := &s.calm
	s.dropRound(q.round)
	q.epoch, q.busy = a.Epoch, 0
	q.round = s.newRound(quiesceLimit, s.endQuiesce)
	s.ask(q.round, s.everyReady(), &ipc.Quiesce{ID: q.round.id, Epoch: q.epoch})
}

func (s *supervisor) onQuiesced(c *child, m *ipc.Quiesced) {
	q := &s.calm
	if !q.round.awaits(c) || m.ID != q.round.id {
		return
	}
	if m.Busy < 0 || m.Busy > len(c.clients) {
		s.violation(c, "a number of transactions that it has no clients for")
		return
	}
	q.busy += m.Busy
	s.answered(q.round, c)
}

// endQuiesce answers the machine. A worker that has not answered counts as busy.
func (s *supervisor) endQuiesce() {
	q := &s.calm
	busy := q.busy + len(q.round.missing)
	q.round = nil
	s.feed(failover.Quiesced{Epoch: q.epoch, Busy: busy})
}
