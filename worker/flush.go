package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// onFlush closes idle backends, and, unless only these are meant, has all others closed
// when their clients don't need them any more. A backend that is being opened or moved
// counts, too: it may have logged in before what the flush is for has changed.
func (w *worker) onFlush(m *ipc.Flush) {
	answer := &ipc.Flushed{ID: m.ID}
	if m.Mode != ipc.FlushMarked {
		answer.Closed = w.shelf.CloseIdle(pool.EvictFlush, func(idle *shelved) bool { return flushes(m, idle.Pool) })
		w.carryOut()
		answer.Marked = w.markBackends(m)
	}
	if m.Mode != ipc.FlushIdle {
		n := w.moveFlushed(m)
		answer.Closed += n
		answer.Marked = max(answer.Marked-n, 0)
	}
	if m.Mode == ipc.FlushAll || m.Mode == ipc.FlushMarked {
		n := w.dropFlushed(m)
		answer.Closed += n
		answer.Marked = max(answer.Marked-n, 0)
	}
	w.send(answer)
}

// flushes reports whether a flush is about a pool.
func flushes(m *ipc.Flush, p *pool.Pool) bool {
	return m.Database == "" || p.Key.Database == m.Database
}

// markBackends marks the backends that aren't idle, and returns how many they are. One that is being
// reset, or is on its way to another worker, is one that no client has.
func (w *worker) markBackends(m *ipc.Flush) (marked int) {
	for _, b := range w.backends {
		if b.state == backendClosed || !flushes(m, b.Pool) || m.Mode == ipc.FlushIdle && b.session != nil {
			continue
		}
		b.Flushed = true
		marked++
	}
	if m.Mode == ipc.FlushIdle {
		return marked
	}
	for o := range w.outbounds {
		if o.pool != nil && flushes(m, o.pool) {
			o.flushed = true
			marked++
		}
	}
	return marked
}

// moveFlushed closes the marked backends of kept sessions that can go on with others, and returns how
// many they are. The others follow at the end of their transaction (boundary), or when the server was asked
// what they have left there (rests).
func (w *worker) moveFlushed(m *ipc.Flush) (closed int) {
	for _, b := range w.backends {
		if !b.Flushed || b.session == nil || !flushes(m, b.Pool) || !b.session.mayReplace() {
			continue
		}
		if moved, _ := b.session.moveAside(); moved {
			w.stats.evicted[pool.EvictFlush]++
			closed++
		}
	}
	return closed
}

// dropFlushed disconnects the clients of marked backends, and returns how many they are.
func (w *worker) dropFlushed(m *ipc.Flush) (dropped int) {
	for _, b := range w.backends {
		if b.Flushed && b.session != nil && flushes(m, b.Pool) {
			b.session.drop(pgwire.RefusalFlushed.With())
			w.stats.evicted[pool.EvictFlush]++
			dropped++
		}
	}
	return dropped
}
