package reactor

import (
	"errors"

	"golang.org/x/sys/unix"
)

// receiving says what the loop does with bytes of a connection.
type receiving uint8

const (
	armed    receiving = iota // read and hand over
	paused                    // leave in the kernel
	watching                  // leave in the kernel, but tell when the peer leaves
)

// Conn is one established connection of a loop.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int
	state   receiving
	// events is what the kernel was last told; ignored while out of the set.
	events uint32
	inSet  bool
	ended  bool // Ended was told
	closed bool
	broken error // a send failed: what follows is dropped
	out    []byte
}

// ErrGone is the error of Ended when the peer left while the connection was
// only watched.
var ErrGone = errors.New("peer has gone")

// Add puts an established connection under the loop: fd is non-blocking and
// belongs to the loop from now on. The connection starts paused; call Resume.
func (l *Loop) Add(fd int, h Handler) (*Conn, error) {
	c := &Conn{loop: l, handler: h, fd: fd, state: paused}
	if err := l.drv.add(c); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

// SetHandler gives the connection to another handler.
func (c *Conn) SetHandler(h Handler) { c.handler = h }

// FD returns the descriptor, for information only.
func (c *Conn) FD() int { return c.fd }

// Resume has bytes read and handed over again.
func (c *Conn) Resume() { c.become(armed) }

// Pause leaves what comes in the kernel. The end of the peer isn't noticed
// before Resume.
func (c *Conn) Pause() { c.become(paused) }

// Watch leaves what comes in the kernel but tells when the peer leaves.
func (c *Conn) Watch() { c.become(watching) }

// Paused reports whether bytes are left in the kernel.
func (c *Conn) Paused() bool { return c.state != armed }

// Queued returns how many bytes wait to be sent.
func (c *Conn) Queued() int { return len(c.out) }

func (c *Conn) become(s receiving) {
	if c.state == s || c.closed {
		return
	}
	c.state = s
	c.loop.drv.update(c)
}

// Send sends b, which may be reused after the call. What the kernel doesn't
// take is copied and sent later, in order; Queued tells how much that is. After
// a failed send everything is dropped, and Ended follows.
func (c *Conn) Send(b []byte) {
	if c.closed || c.broken != nil || len(b) == 0 {
		return
	}
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return
	}
	n, err := write(c.fd, b)
	if err != nil {
		c.fail(err)
		return
	}
	if n < len(b) {
		c.out = append(c.out, b[n:]...)
		c.loop.drv.update(c)
	}
}

// flush sends what waits; called when the kernel has room again.
func (c *Conn) flush() {
	n, err := write(c.fd, c.out)
	if err != nil {
		c.fail(err)
		return
	}
	if n < len(c.out) {
		c.out = c.out[:copy(c.out, c.out[n:])]
		return
	}
	c.out = nil
	c.loop.drv.update(c)
	c.handler.Flushed()
}

// fail notes that the way out is broken. While the connection is being read
// the end comes from there, after what the peer still said.
func (c *Conn) fail(err error) {
	c.broken = err
	c.out = nil
	if c.state != armed {
		c.loop.ended = append(c.loop.ended, c)
		return
	}
	c.loop.drv.update(c)
}

func (c *Conn) tellEnd(err error) {
	if c.ended || c.closed {
		return
	}
	c.ended = true
	c.loop.drv.update(c)
	c.handler.Ended(err)
}

// Drop throws the bytes away that wait to be sent.
func (c *Conn) Drop() { c.out = nil }

// Close ends the connection in order: the kernel still delivers what it has
// taken. Bytes that wait in the queue are lost. No call of the Handler follows.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.out = nil
	c.loop.drv.remove(c)
	unix.Close(c.fd)
	c.fd = -1
}

// Abort ends the connection at once: what the kernel has taken but not sent is
// dropped, and the peer sees a reset. No call of the Handler follows.
func (c *Conn) Abort() {
	if c.closed {
		return
	}
	// A plain close still delivers queued bytes, a COMMIT included.
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
	c.Close()
}

// CloseWrite tells the peer that nothing more will come. Bytes are still read.
func (c *Conn) CloseWrite() {
	if !c.closed {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}
