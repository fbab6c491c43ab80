package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// starvedTime is how much longer than others a worker may take that has something to do and
// gets no processor. A kill would cost all its clients, and when a primary dies under load, its
// machine may be busy as never before.
const starvedTime = 5 * time.Second

// A worker runs, though perhaps too seldom, if it has used a processor for ranTime within ranWindow.
// The runtime of a worker that waits for ever uses less than a fifth of that.
const (
	ranTime   = time.Millisecond
	ranWindow = time.Second
)

// ran is when a worker was last seen to have run.
type ran struct {
	cpu  time.Duration // of the processor, at that time
	last time.Duration
}

// fence is the machine's last Fence.
type fence struct {
	asked bool
	done  bool
	epoch uint64
	upTo  uint64 // servers of epochs up to this one must not be reached any more
	seq   uint64
	round *round        // of the workers that may have backends
	until time.Duration // when even a worker that starves is killed
	ran   map[int]ran   // of those workers, by process id
}

// startFence tells every worker to cut its backends. A worker that was never ready has
// never been told of a server, and so has no backends. A worker that was killed but
// hasn't exited may still have some: its exit counts as its answer.
func (s *supervisor) startFence(a failover.Fence) {
	if s.fence.asked && s.fence.seq == a.Seq {
		if s.fence.done {
			s.feed(failover.Fenced(a))
		}
		return
	}
	s.dropRound(s.fence.round)
	var mayReach []*child
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.up {
			mayReach = append(mayReach, c)
		}
	}
	s.fence = fence{asked: true, epoch: a.Epoch, upTo: a.Epoch, seq: a.Seq}
	s.fence.round = s.newRound(s.cfg.FenceTimeout, s.checkFenced)
	s.fence.round.atLimit = s.fenceLate
	for x := range s.cancels.orphans {
		if x.epoch <= a.Epoch {
			s.stopOrphanCancel(x)
		}
	}
	s.stopLookUps(a.Epoch)
	s.fence.ran = map[int]ran{}
	for _, c := range mayReach {
		s.starves(c) // remembers what it has used so far
	}
	s.ask(s.fence.round, mayReach, &ipc.Fence{Epoch: a.Epoch, Seq: a.Seq})
}

// onFenced takes the acknowledgement of the present fence.
func (s *supervisor) onFenced(c *child, m *ipc.Fenced) {
	if !s.fence.round.awaits(c) || m.Seq != s.fence.seq {
		return
	}
	if wrong := s.claimOfFenced(c, m); wrong != "" {
		s.violation(c, wrong)
		return
	}
	s.console.figures.fenced += uint64(min(m.Sessions, s.cfg.MaxConnections)) // a worker that lies must not make the counter fall
	s.log.Info("worker has let go of the old primary", "worker", c.index, "epoch", m.Epoch, "backends", m.Aborted, "sessions", m.Sessions)
	s.answered(s.fence.round, c)
}

// fenceLate gives workers a little more time before it kills them, because a kill costs
// all of a worker's clients. On a busy machine an answer may have come in time without
// having been read. The later the supervisor itself is, the more time workers get.
func (s *supervisor) fenceLate() {
	r := s.fence.round
	own := s.env.now() - r.timer.when
	s.fence.until = s.env.now() + starvedTime
	r.timer = s.after(min(max(own, s.cfg.FenceTimeout/5), s.cfg.FenceTimeout), s.fenceKill)
}

// fenceKill kills the workers that haven't answered, and looks again soon at those that starve.
// The kernel then closes the connections of the killed ones, and their exits prove that.
func (s *supervisor) fenceKill() {
	r, starves := s.fence.round, false
	for _, sl := range s.workers.slots {
		c := sl.child
		switch {
		case !r.awaits(c) || c.ending():
		case s.env.now() < s.fence.until && s.starves(c):
			starves = true
		default:
			s.killWorker(c, "it did not let go of the old primary within "+s.cfg.FenceTimeout.String())
		}
	}
	if starves {
		r.timer = s.after(s.cfg.FenceTimeout/5, s.fenceKill)
	}
}

// starves reports whether a worker has something to do rather than hangs: it has run since the
// last look, or /proc shows that it would like to. /proc may hide workers, and what their clocks
// show doesn't tell that one waits for a disk.
func (s *supervisor) starves(c *child) bool {
	if c.started == nil {
		return false
	}
	now, pid := s.env.now(), c.started.pid
	before, known := s.fence.ran[pid]
	switch cpu := s.env.cpuTime(pid); {
	case !known:
		before = ran{cpu, now - ranWindow}
	case cpu >= before.cpu+ranTime:
		before = ran{cpu, now}
	}
	s.fence.ran[pid] = before
	return now-before.last < ranWindow || s.env.starves(pid)
}

// fenced reports whether this pgagroal must not reach servers of that epoch any more.
func (s *supervisor) fenced(epoch uint64) bool { return s.fence.asked && epoch <= s.fence.upTo }

// liftFence lets servers of that epoch be reached again: a primary that answers again
// before a script was run keeps its epoch.
func (s *supervisor) liftFence(epoch uint64) { s.fence.upTo = min(s.fence.upTo, epoch-1) }

// checkFenced tells the machine when all workers have cut their backends and our own
// cancel requests have ended. These were stopped, so this takes only a moment.
func (s *supervisor) checkFenced() {
	if !s.fence.asked || s.fence.done || len(s.fence.round.missing) > 0 {
		return
	}
	for x := range s.cancels.orphans {
		if x.epoch <= s.fence.epoch {
			return
		}
	}
	s.fence.done = true
	s.feed(failover.Fenced{Epoch: s.fence.epoch, Seq: s.fence.seq})
}
