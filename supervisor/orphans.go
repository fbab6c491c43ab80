package supervisor

import (
	"context"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
)

// A server is asked for the backends of a dead worker a moment after its death,
// which is all that most of them need to end, and then at this pace.
const (
	orphanFirst = 250 * time.Millisecond
	orphanEvery = time.Second
)

// orphanWatch are the backends of a dead worker on one server.
type orphanWatch struct {
	server int
	leases map[uint32]uint64 // by process id
	until  time.Duration     // when they are returned anyway
}

// leasesOfDeadWorker cancels what the backends of a dead worker may still be
// doing, and counts them until their server doesn't show them any more, or
// until orphan_grace is over.
func (s *supervisor) leasesOfDeadWorker(index int) {
	orphans, effects := s.ledger.WorkerGone(index)
	s.carryOut(effects)
	if len(orphans) == 0 {
		return
	}
	s.log.Warn("backends of a dead worker count as orphans", "worker", index, "backends", len(orphans), "for", s.cfg.OrphanGrace)
	watches := map[int]*orphanWatch{}
	for _, o := range orphans {
		s.after(s.cfg.OrphanGrace, func() { s.carryOut(s.ledger.OrphanGone(o.Lease)) })
		w := watches[o.Server]
		if w == nil {
			w = &orphanWatch{server: o.Server, leases: map[uint32]uint64{}, until: s.env.now() + s.cfg.OrphanGrace}
			watches[o.Server] = w
		}
		if o.PID != 0 { // else it was being opened, and no look can find it
			w.leases[o.PID] = o.Lease
		}
	}
	s.cancels.queued = append(s.cancels.queued, orphans...)
	s.cancelOrphans()
	for _, w := range watches {
		s.watchOrphans(w, orphanFirst)
	}
}

// watchOrphans looks again after d, unless it is too late for that.
func (s *supervisor) watchOrphans(w *orphanWatch, d time.Duration) {
	if len(w.leases) > 0 && s.env.now()+d < w.until {
		s.after(d, func() { s.lookAtOrphans(w) })
	}
}

// lookAtOrphans asks the server. If it can't be asked, which the next time
// would hardly change, the orphans wait for their time.
func (s *supervisor) lookAtOrphans(w *orphanWatch) {
	t, known := s.target(w.server, s.cfg.FailoverProbeTimeout)
	if !known || len(t.Logins) == 0 || s.stop.mode == stopNow {
		return
	}
	pids := make([]uint32, 0, len(w.leases))
	for pid := range w.leases {
		pids = append(pids, pid)
	}
	elsewhere(s, func() ([]uint32, error) {
		ctx, done := context.WithTimeout(context.Background(), t.Timeout+time.Second)
		defer done()
		return s.env.backends(ctx, t, pids)
	}, func(shown []uint32, err error) { s.onOrphansSeen(w, shown, err) })
}

func (s *supervisor) onOrphansSeen(w *orphanWatch, shown []uint32, err error) {
	if err != nil {
		s.log.Debug("orphans can't be looked for", "server", s.serverName(w.server), "error", err)
		return
	}
	gone := 0
	for pid, lease := range w.leases {
		if !slices.Contains(shown, pid) {
			gone++
			delete(w.leases, pid)
			s.carryOut(s.ledger.OrphanGone(lease))
		}
	}
	s.log.Debug("orphans looked for", "server", s.serverName(w.server), "gone", gone, "left", len(w.leases))
	s.watchOrphans(w, orphanEvery)
}

// orphanCancels is how many CancelRequests for orphans are under way at one server.
const orphanCancels = 4

// orphanCancel is a CancelRequest of ours that is under way.
type orphanCancel struct {
	server int
	epoch  uint64
	stop   context.CancelFunc
}

// cancelOrphans ends the queries of orphans, each with one request and a few at a time.
// Not those of a fenced epoch: a cancel would acknowledge a commit there that waits for
// a standby. Most orphans end by themselves before their turn comes.
func (s *supervisor) cancelOrphans() {
	busy := map[int]int{}
	for x := range s.cancels.orphans {
		busy[x.server]++
	}
	var later []pool.Orphan
	for _, o := range s.cancels.queued {
		a, known := s.addressOf(o.Server)
		_, counts := s.ledger.Lease(o.Lease)
		switch {
		case o.PID == 0 || s.fenced(o.Epoch) || !known || !counts:
		case busy[o.Server] >= orphanCancels:
			later = append(later, o)
		default:
			busy[o.Server]++
			s.cancelOrphan(o, a)
		}
	}
	s.cancels.queued = later
}

func (s *supervisor) cancelOrphan(o pool.Orphan, a address) {
	ctx, stop := context.WithTimeout(context.Background(), cancelLimit)
	x := &orphanCancel{o.Server, o.Epoch, stop}
	if s.cancels.orphans == nil {
		s.cancels.orphans = map[*orphanCancel]bool{}
	}
	s.cancels.orphans[x] = true
	elsewhere(s, func() (struct{}, error) {
		defer stop()
		return struct{}{}, s.env.cancel(ctx, a.network, a.address, o.PID, []byte(o.Cancel.Reveal()))
	}, func(_ struct{}, err error) {
		delete(s.cancels.orphans, x)
		s.checkFenced()
		if err != nil {
			s.log.Info("orphan can't be cancelled", "server", s.serverName(o.Server), "backend", o.PID, "error", err)
		}
		s.cancelOrphans()
	})
}
