package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// This file passes the supervisor's messages about leases to the shelf, which decides what
// they mean for backends and waiters.

// askLease asks for a lease for a waiter.
func (w *worker) askLease(request uint64, wt *waiter) {
	w.send(&ipc.LeaseRequest{
		ID: request, Key: ipc.PoolKey(wt.Pool.Key), Requested: wt.requested, NoWait: w.cfg.BlockingTimeoutMS == 0,
		WaitedMS: (w.now() - wt.Since).Milliseconds(), Unproven: wt.Bare,
	})
}

func (w *worker) onLeaseGrant(m *ipc.LeaseGrant) {
	x := w.shelf.Grant(m.ID, m.Epoch > w.fenced, w.now())
	if x == nil {
		w.returnLease(m.Lease)
	} else if wt := x.Of.(*waiter); wt.granted != nil {
		wt.granted(m)
	} else {
		w.open(wt, m)
	}
	w.carryOut()
}

func (w *worker) onLeaseRefuse(m *ipc.LeaseRefuse) {
	if x := w.shelf.Refuse(m.ID, w.now()); x != nil {
		w.refuse(x.Of.(*waiter), pgwire.Refusal(m.Refusal).WithWords(m.Words))
	}
	w.carryOut()
}

// returnLease returns a lease that has no backend.
func (w *worker) returnLease(lease uint64) {
	w.shelf.Returned(lease)
	w.send(&ipc.LeaseReturn{Lease: lease})
}

// onReclaim gives up an idle backend that a client of another worker needs, or makes the
// shelf give up the next one.
func (w *worker) onReclaim(m *ipc.Reclaim) {
	w.shelf.Reclaim(pool.Reclaim{
		ID: m.ID, Key: pool.Key(m.Key), Leases: m.Leases, Own: m.Own, Since: w.now() - ms(m.WaitedMS), Size: m.Size,
	})
	w.carryOut()
}

func (w *worker) onReclaimCancel(m *ipc.ReclaimCancel) { w.shelf.ReclaimCancel(m.ID) }
