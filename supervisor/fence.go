package supervisor

import (
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// fence is the last Fence of the machine.
type fence struct {
	asked   bool
	done    bool
	epoch   uint64
	upTo    uint64 // epochs up to this one are not to be reached any more
	seq     uint64
	waiting map[*child]bool // has not acknowledged and its exit isn't seen
	limit   *timer
}

// startFence has every worker abort its backends. A worker that isn't ready has
// never been told of a server and so has none; one that is killed but not yet
// gone may still have them.
func (s *supervisor) startFence(a failover.Fence) {
	if s.fence.asked && s.fence.seq == a.Seq {
		if s.fence.done {
			s.feed(failover.Fenced(a))
		}
		return
	}
	s.timers.stop(s.fence.limit)
	s.fence = fence{asked: true, epoch: a.Epoch, upTo: a.Epoch, seq: a.Seq, waiting: map[*child]bool{}}
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.up {
			s.fence.waiting[c] = true
		}
	}
	s.ready(func(c *child) { s.send(c, &ipc.Fence{Epoch: a.Epoch, Seq: a.Seq}) })
	for x := range s.cancels.orphans {
		if x.epoch <= a.Epoch {
			x.stop()
		}
	}
	s.fence.limit = s.after(s.cfg.FenceTimeout, s.fenceLate)
	s.checkFenced()
}

// onFenced takes an acknowledgement of this very fence.
func (s *supervisor) onFenced(c *child, m *ipc.Fenced) {
	if !s.fence.waiting[c] || m.Seq != s.fence.seq {
		return
	}
	s.log.Info("worker has let go of the old primary", "worker", c.index, "epoch", m.Epoch, "backends", m.Aborted, "sessions", m.Sessions)
	delete(s.fence.waiting, c)
	s.checkFenced()
}

// fenceLate takes one more look before anything is killed, which costs all clients
// of a worker: where processors are scarce an answer that came in time may not have
// been read. The later we are ourselves the later is that look.
func (s *supervisor) fenceLate() {
	own := s.env.now() - s.fence.limit.when
	s.fence.limit = s.after(min(max(own, s.cfg.FenceTimeout/5), s.cfg.FenceTimeout), s.fenceKill)
}

// fenceKill kills the workers that haven't answered: the kernel then closes
// what they had, which their exit proves.
func (s *supervisor) fenceKill() {
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && s.fence.waiting[c] {
			s.killWorker(c, "it did not let go of the old primary within "+s.cfg.FenceTimeout.String())
		}
	}
}

func (s *supervisor) fenceWithout(c *child) {
	if s.fence.waiting[c] {
		delete(s.fence.waiting, c)
		s.checkFenced()
	}
}

// fenced says that nothing of ours may reach servers of that epoch any more.
func (s *supervisor) fenced(epoch uint64) bool { return s.fence.asked && epoch <= s.fence.upTo }

// liftFence takes a fence back: a primary that answers again before anything was
// run keeps its epoch.
func (s *supervisor) liftFence(epoch uint64) { s.fence.upTo = min(s.fence.upTo, epoch-1) }

// checkFenced tells the machine once all workers have let go, and our own cancel
// requests have ended: they were stopped, so that takes a moment only.
func (s *supervisor) checkFenced() {
	if !s.fence.asked || s.fence.done || len(s.fence.waiting) > 0 {
		return
	}
	for x := range s.cancels.orphans {
		if x.epoch <= s.fence.epoch {
			return
		}
	}
	s.fence.done = true
	s.timers.stop(s.fence.limit)
	s.feed(failover.Fenced{Epoch: s.fence.epoch, Seq: s.fence.seq})
}
