package worker

import (
	"time"

	"golang.org/x/sys/unix"
)

// halfOpenEvery is how often backends in use are checked. A backend counts as dead if two
// conditions hold. The kernel has sent the same bytes again halfOpenTries times without an
// answer from the server's host; that takes 51 s on a fast network, because the pauses
// begin with 200 ms and double. And every check during halfOpenTime has found unanswered
// tries, because a route or a kernel may be configured for much shorter pauses.
const (
	halfOpenEvery = 5 * time.Second
	halfOpenTries = 8
	halfOpenTime  = 40 * time.Second
)

// watchHalfOpen gives up connections that the server's host, or a firewall between, has
// forgotten without a reset. Otherwise a client would wait for an answer as long as the
// kernel tries, a quarter of an hour. TCP_USER_TIMEOUT would end such connections, too, but
// also those to a server that is alive and doesn't read, such as a COPY that waits for a
// lock. Idle connections have keep-alive.
func (w *worker) watchHalfOpen() {
	w.loop.After(halfOpenEvery, w.watchHalfOpen)
	now := time.Now()
	var dead []*backend
	for _, b := range w.backends {
		tries := 0
		if b.state == backendAttached || b.script != nil {
			tries = b.conn.Unanswered()
		}
		switch {
		case tries == 0:
			b.unanswered = time.Time{}
		case b.unanswered.IsZero():
			b.unanswered = now
		case tries >= halfOpenTries && now.Sub(b.unanswered) >= halfOpenTime:
			dead = append(dead, b)
		}
	}
	for _, b := range dead {
		w.giveUpHalfOpen(b)
	}
}

// giveUpHalfOpen closes a backend without waiting for the server. A cancel request ends its
// query, because the server may be alive. giveUpHalfOpen also closes the idle backends of
// the server, because their connections have probably been forgotten, too.
func (w *worker) giveUpHalfOpen(b *backend) {
	w.log.Warn("connection given up: the server's host acknowledges nothing", "server", w.serverName(b.server), "backend", b.pid)
	w.hintOf(b.server, b.Epoch, unix.ETIMEDOUT)
	s := b.session
	busy := b.script != nil || s != nil && s.busy()
	b.retire()
	if busy {
		w.partBy(b)
		w.cancelBackend(b, func() { w.finishClose(b) })
	} else {
		w.finishClose(b)
	}
	w.closeIdleOf(b.server)
	if s != nil {
		s.serverGone()
	}
}
