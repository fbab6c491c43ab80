package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// onDrain ends all clients and backends, and then the worker. A worker without a client that hands
// everything over hands its backends over first.
func (w *worker) onDrain() {
	if w.passing.on && w.passing.until > 0 && len(w.clients) == 0 {
		w.passSoon()
		return
	}
	w.draining = true
	w.shelf.Drain()
	w.carryOut()
	w.endAll()
	w.checkDrained()
}

// endAll tells every client that pgagroal is shutting down, and closes its connection.
func (w *worker) endAll() {
	w.draining = true
	w.guesses.hurry()
	for _, c := range w.clients {
		w.terminate(c)
	}
	for _, x := range w.shelf.Waiters() {
		if !x.Queued() {
			continue // its session was ended above
		}
		w.refuse(x.Of.(*waiter), pgwire.RefusalTerminated.With())
	}
}

// terminate disconnects a client. After its login it is told why.
func (w *worker) terminate(c *client) {
	s := c.session
	if s == nil {
		c.conn.Close() // the set-up then fails and ends
		return
	}
	if s.state == sessionWaiting {
		w.leave(s.waiter)
	}
	if s.state != sessionLingering {
		s.drop(pgwire.RefusalTerminated.With())
	}
}

func (w *worker) drained() bool { return len(w.clients) == 0 && len(w.backends) == 0 }

// checkDrained tells the supervisor when no client and no backend is left. The
// supervisor then closes the link; if it doesn't, the process ends by itself.
func (w *worker) checkDrained() {
	w.passSoon()
	if !w.draining || w.exit != 0 || !w.drained() || w.emptied {
		return
	}
	w.flushGone()
	w.emptied = true
	w.send(&ipc.Drained{})
	w.loop.After(2*time.Second, w.loop.Stop)
}
