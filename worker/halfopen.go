package worker

import (
	"time"

	"golang.org/x/sys/unix"
)

// halfOpenEvery is how often backends in use are looked at. One counts as dead once
// the kernel has sent something again halfOpenTries times in a row without an answer
// of the server's host: after 51 s where a round trip takes a moment, since the
// pauses begin with 200 ms and double.
const (
	halfOpenEvery = 5 * time.Second
	halfOpenTries = 8
)

// watchHalfOpen gives up connections that the server's host, or a firewall on the
// way, doesn't know any more and says nothing about. Without it who waits there for
// an answer does so for as long as the kernel tries, a quarter of an hour.
// TCP_USER_TIMEOUT would end them as well, but it also ends those whose server is
// there and doesn't read, such as a COPY that waits for a lock. Idle connections
// have keep-alive.
func (w *worker) watchHalfOpen() {
	w.loop.After(halfOpenEvery, w.watchHalfOpen)
	var dead []*backend
	for _, b := range w.backends {
		if (b.state == backendAttached || b.script != nil) && b.conn.Unanswered() >= halfOpenTries {
			dead = append(dead, b)
		}
	}
	for _, b := range dead {
		w.log.Warn("connection given up: the server's host acknowledges nothing", "server", b.server, "pid", b.pid)
		(*backendEnd)(b).Ended(unix.ETIMEDOUT)
	}
}
