package supervisor

import (
	"errors"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// After a worker's death the servers are asked which of its backends are left: first
// after orphanFirst, in which most of them end, and then every orphanEvery.
const (
	orphanFirst = 250 * time.Millisecond
	orphanEvery = time.Second
)

// orphanWatch are the backends of a dead worker on one server.
type orphanWatch struct {
	server int
	leases map[uint32]uint64 // leases of the backends that may be left, by process id
	until  time.Duration     // when their leases are returned anyway
}

// leasesOfDeadWorker cancels what the backends of a dead worker may still be doing.
// Their leases count until the server doesn't show the backends any more, or until
// orphan_grace is over.
func (s *supervisor) leasesOfDeadWorker(index int) {
	orphans, effects := s.ledger.WorkerGone(index)
	s.carryOut(effects)
	if len(orphans) == 0 {
		return
	}
	s.log.Warn("backends of a dead worker count as orphans", "worker", index, "backends", len(orphans), "for", s.cfg.OrphanGrace)
	s.cancels.queued = append(s.cancels.queued, orphans...)
	s.cancelOrphans()
	s.watchAll(orphans)
}

// watchAll returns the leases of orphans when their servers don't show them any more, or when
// orphan_grace is over.
func (s *supervisor) watchAll(orphans []pool.Orphan) {
	watches := map[int]*orphanWatch{}
	for _, o := range orphans {
		s.after(s.cfg.OrphanGrace, func() { s.carryOut(s.ledger.OrphanGone(o.Lease)) })
		w := watches[o.Server]
		if w == nil {
			w = &orphanWatch{server: o.Server, leases: map[uint32]uint64{}, until: s.env.now() + s.cfg.OrphanGrace}
			watches[o.Server] = w
		}
		if o.PID != 0 { // otherwise the backend was being opened, and can't be found
			w.leases[o.PID] = o.Lease
		}
	}
	for _, w := range watches {
		s.watchOrphans(w, orphanFirst)
	}
}

// watchOrphans asks the server again after d, unless orphan_grace is over by then.
func (s *supervisor) watchOrphans(w *orphanWatch, d time.Duration) {
	if len(w.leases) > 0 && s.env.now()+d < w.until {
		s.after(d, func() { s.lookAtOrphans(w) })
	}
}

// lookAtOrphans asks the server which orphans are left. If the server can't be asked,
// it isn't asked again, and the orphans' leases return when orphan_grace is over.
func (s *supervisor) lookAtOrphans(w *orphanWatch) {
	if len(s.probeLogins(w.server)) == 0 || s.stop.mode == stopNow {
		return
	}
	pids := make([]uint32, 0, len(w.leases))
	for pid := range w.leases {
		if len(pids) < ipc.MaxBackends { // the others are looked for when these are gone
			pids = append(pids, pid)
		}
	}
	lookAround(s, w.server, s.cfg.FailoverProbeTimeout,
		func(id uint64, t ipc.Target) ipc.Message {
			return &ipc.BackendsRequest{ID: id, Target: t, PIDs: pids}
		},
		func(m *ipc.BackendsDone) string { return m.Error },
		func(m *ipc.BackendsDone, err error) { s.onOrphansSeen(w, pids, m, err) })
}

// onOrphansSeen returns the leases of the backends that the server was asked for and does
// not show.
func (s *supervisor) onOrphansSeen(w *orphanWatch, asked []uint32, m *ipc.BackendsDone, err error) {
	if err != nil {
		s.log.Debug("orphans can't be looked for", "server", s.serverName(w.server), "error", err)
		return
	}
	gone := 0
	for _, pid := range asked {
		if lease, ok := w.leases[pid]; ok && !slices.Contains(m.PIDs, pid) {
			gone++
			delete(w.leases, pid)
			s.carryOut(s.ledger.OrphanGone(lease))
		}
	}
	s.log.Debug("orphans looked for", "server", s.serverName(w.server), "gone", gone, "left", len(w.leases))
	s.watchOrphans(w, orphanEvery)
}

// orphanCancels is how many CancelRequests for orphans may be in progress at one
// server.
const orphanCancels = 4

// orphanCancel is a CancelRequest for an orphan in progress.
type orphanCancel struct {
	server int
	epoch  uint64
	sent   *around[*ipc.ServerCancelDone]
}

// cancelOrphans cancels the queries of orphans, each once and a few at a time. It spares
// orphans of a fenced epoch, because a cancel there would acknowledge a commit that waits
// for a standby. Most orphans end by themselves before their turn comes.
func (s *supervisor) cancelOrphans() {
	busy := map[int]int{}
	for x := range s.cancels.orphans {
		busy[x.server]++
	}
	var later []pool.Orphan
	for _, o := range s.cancels.queued {
		_, counts := s.ledger.Lease(o.Lease)
		switch {
		case o.PID == 0 || s.fenced(o.Epoch) || len(s.addressesOf(o.Server)) == 0 || !counts:
		case busy[o.Server] >= orphanCancels:
			later = append(later, o)
		default:
			busy[o.Server]++
			s.cancelOrphan(o)
		}
	}
	s.cancels.queued = later
}

func (s *supervisor) cancelOrphan(o pool.Orphan) {
	x := &orphanCancel{server: o.Server, epoch: o.Epoch}
	if s.cancels.orphans == nil {
		s.cancels.orphans = map[*orphanCancel]bool{}
	}
	s.cancels.orphans[x] = true
	x.sent = lookAround(s, o.Server, cancelLimit,
		func(id uint64, t ipc.Target) ipc.Message {
			t.Logins = nil // a cancel request needs none
			return &ipc.ServerCancel{ID: id, Target: t, PID: o.PID, Key: ipc.Secret(o.Cancel.Reveal())}
		},
		func(m *ipc.ServerCancelDone) string { return m.Error },
		func(_ *ipc.ServerCancelDone, err error) {
			delete(s.cancels.orphans, x)
			s.checkFenced()
			if err != nil {
				s.log.Info("orphan can't be cancelled", "server", s.serverName(o.Server), "backend", o.PID, "error", err)
			}
			s.cancelOrphans()
		})
}

var errFenced = errors.New("a fence came first")

// stopOrphanCancel takes a CancelRequest back. Its done function is called as always; only
// then can nothing of it reach the server any more.
func (s *supervisor) stopOrphanCancel(x *orphanCancel) {
	x.sent.stop()
	l := x.sent.look
	if !l.sent {
		s.withdrawLook(l, errFenced)
		return
	}
	if p := s.servers.prober.end; p != nil && p.up {
		s.sendAide(p, &ipc.ServerCancelStop{ID: l.id})
	}
}
