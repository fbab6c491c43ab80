package worker

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// handshakesAtOnce is how many handshakes of clients may compute at a time. A signature with
// RSA takes most of a millisecond, and several at once would take every processor from the
// event loops of all workers.
const handshakesAtOnce = 1

// encrypt does the server's part of a TLS handshake. begun are bytes of the handshake that
// were already read. Unless the handshake is quick, the cryptography runs in a goroutine,
// because a signature with RSA would stop the loop for a millisecond. A quick one costs less
// than waking another thread for each of its flights.
func (d *dialogue) encrypt(cfg *config, log *slog.Logger, begun []byte) error {
	var c *tlsmem.Conn
	var err error
	if cfg.quick {
		c, err = d.shakeQuickly(cfg.tls, begun)
	} else {
		c = tlsmem.Server(cfg.tls, d.loop.Memory(), cfg.handshakes, log, func() { d.loop.Post(d.wake) })
		if err = c.Feed(begun); err == nil {
			err = d.shake(c)
		}
	}
	if err != nil {
		d.conn.Send(c.Pending()) // the alert
		c.Abort()
		return err
	}
	d.conn.Secure(c)
	return nil
}

// shake carries the bytes of a handshake between client and c until the handshake ends. A
// client that was sent an alert closes at once, often before the handshake's goroutine has
// ended, so the end of the connection is left to c: its error says why.
func (d *dialogue) shake(c *tlsmem.Conn) error {
	ended := false
	for {
		done, err := c.Handshake()
		if err == nil {
			d.sendPending(c)
		}
		if done {
			return err
		}
		switch {
		case d.expired || errors.Is(d.err, net.ErrClosed):
			return d.over()
		case ended:
			d.park()
			continue
		}
		switch _, err := d.feed(c); {
		case errors.Is(err, tlsmem.ErrFull):
			return err
		case err != nil:
			c.End()
			ended = true
		}
	}
}

// shakeQuickly does the whole handshake on the loop. The coroutine parks while the client
// has its turn.
func (d *dialogue) shakeQuickly(config *tls.Config, begun []byte) (*tlsmem.Conn, error) {
	c, err := tlsmem.Accept(config, d.loop.Memory(), begun, func(c *tlsmem.Conn) error {
		d.sendPending(c)
		for {
			if fed, err := d.feed(c); fed || err != nil {
				return err
			}
		}
	})
	if err == nil {
		d.sendPending(c)
	}
	return c, err
}

func (d *dialogue) sendPending(c *tlsmem.Conn) {
	if out := c.Pending(); len(out) > 0 {
		d.conn.Send(out)
		c.Sent(len(out))
	}
}

// feed gives c what the client has sent. If there is nothing, it waits for the next wake and
// returns false.
func (d *dialogue) feed(c *tlsmem.Conn) (bool, error) {
	if err := d.over(); err != nil {
		return false, err
	}
	var buf [4096]byte
	n, err := d.conn.Read(buf[:])
	if err != nil {
		return false, err
	}
	if n == 0 {
		d.conn.Await()
		d.park()
		return false, nil
	}
	return true, c.Feed(buf[:n])
}

// remote is a client's encrypted connection while a goroutine uses it. The connection stays
// in the loop, which carries out the reads and writes.
type remote struct {
	d *dialogue
	// into is the buffer of the goroutine's Read, got the channel on which it waits. Both
	// are nil without a Read. They belong to the loop.
	into []byte
	got  chan received
}

type received struct {
	n   int
	err error
}

// Read implements io.Reader. Only one goroutine reads.
func (r *remote) Read(b []byte) (int, error) {
	got := make(chan received, 1)
	r.d.loop.Post(func() {
		r.into, r.got = b, got
		r.look()
	})
	x := <-got // comes at the latest when the dialogue's time is up
	return x.n, x.err
}

// look ends the goroutine's Read if there is something to read or the connection is over.
func (r *remote) look() {
	if r.got == nil {
		return
	}
	x := received{err: r.d.over()}
	if x.err == nil {
		x.n, x.err = r.d.conn.Read(r.into)
	}
	if x.n == 0 && x.err == nil {
		r.d.conn.Await()
		return
	}
	r.got <- x
	r.into, r.got = nil, nil
}

// do calls f on the loop and waits for its result.
func (r *remote) do(f func() error) error {
	done := make(chan error, 1)
	r.d.loop.Post(func() { done <- f() })
	return <-done
}

// Write implements io.Writer.
func (r *remote) Write(b []byte) (int, error) {
	b = bytes.Clone(b) // the loop may send it later
	err := r.do(func() error {
		if err := r.d.over(); err != nil {
			return err
		}
		r.d.conn.Send(b)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// SetDeadline, CloseWrite and Close implement socket.
func (r *remote) SetDeadline(t time.Time) error {
	return r.do(func() error { return r.d.SetDeadline(t) })
}

func (r *remote) CloseWrite() error {
	return r.do(func() error {
		r.d.conn.CloseWrite()
		return r.d.over()
	})
}

func (r *remote) Close() error { return r.do(r.d.Close) }

// connected implements away.
func (r *remote) connected() bool { return r.d.over() == nil }

// giveBack implements away.
func (r *remote) giveBack(loop *reactor.Loop, done func(*reactor.Conn, error)) {
	loop.Post(func() {
		r.d.remote = nil
		done(r.d.release())
	})
}
