package reactor

import (
	"cmp"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// receiving says what the loop does with bytes of a connection.
type receiving uint8

const (
	armed    receiving = iota // read and hand over
	paused                    // leave in the kernel
	watching                  // leave in the kernel, but tell when the peer leaves
	awaiting                  // leave in the kernel, but tell when there is something
)

// highWater is how many bytes may wait in a queue before Full says so. A queue
// holds at most that and one receive.
const highWater = receiveSize / 2

// Conn is one established connection of a loop. There may be very many, so its
// fields are in an order that wastes no space.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int
	broken  error // a send failed: what follows is dropped
	out     []byte
	// detach waits for the descriptor, see Detach.
	detach func(fd int)
	state  receiving
	ended  bool // Ended was told
	closed bool
	// asked: somebody was told that bytes wait, and hears Flushed.
	asked bool
	// set belongs to the epoll driver, which has no more to remember than a pointer takes.
	set epollState
	// ring belongs to the io_uring driver and is nil with any other.
	ring *ringState
}

// ErrGone is the error of Ended when the peer left while the connection was
// only watched.
var ErrGone = errors.New("peer has gone")

// Add puts an established connection under the loop: fd belongs to the loop from
// now on. The connection starts paused; call Resume.
func (l *Loop) Add(fd int, h Handler) (*Conn, error) {
	c := l.drv.newConn()
	c.loop, c.handler, c.fd, c.state = l, h, fd, paused
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

// Queued returns how many bytes wait to be taken by the kernel.
func (c *Conn) Queued() int {
	n := len(c.out) + c.loop.drv.held(c) + c.loop.drv.flying(c)
	c.asked = c.asked || n > 0
	return n
}

// Full reports whether so much waits that the side it comes from should pause
// until Flushed.
func (c *Conn) Full() bool {
	full := len(c.out)+c.loop.drv.held(c) >= highWater
	c.asked = c.asked || full
	return full
}

// Unanswered returns how many times in a row the kernel has sent something, or has
// asked whether there is room, without an answer of the peer's host. It is 0 for
// what isn't TCP.
func (c *Conn) Unanswered() int {
	info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(max(info.Retransmits, info.Probes))
}

// Await leaves what comes in the kernel and tells once that there is something to
// Read: the Handler is given no bytes, and the connection is paused. It is for
// connections of which nothing was received by the loop yet.
func (c *Conn) Await() { c.become(awaiting) }

// Read reads what the kernel has of a connection that isn't armed: 0 bytes without an
// error are none, io.EOF is the end of the peer.
func (c *Conn) Read(b []byte) (int, error) {
	if c.closed || c.broken != nil {
		return 0, cmp.Or(c.broken, net.ErrClosed)
	}
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, e := receive(c.fd, b)
		switch {
		case e == unix.EINTR:
		case e == unix.EAGAIN:
			return 0, nil
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// awaited tells that there is something to read.
func (c *Conn) awaited() {
	c.state = paused
	c.handler.Received(nil)
	if c.state == paused && !c.closed {
		c.loop.drv.update(c)
	}
}

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
	c.loop.drv.send(c, b)
}

// fail notes that the way out is broken. While the connection is being read
// the end comes from there, after what the peer still said.
func (c *Conn) fail(err error) {
	c.broken = err
	c.out = nil
	if c.state != armed {
		c.loop.late = append(c.loop.late, c)
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

// CloseWrite tells the peer that nothing more will come. Bytes are still read.
func (c *Conn) CloseWrite() {
	if !c.closed {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// Close ends the connection in order: the kernel still delivers what it takes
// at once. Bytes that wait in the queue are lost. No call of the Handler follows.
func (c *Conn) Close() { c.end(false) }

// Abort ends the connection at once: when it returns nothing of ours goes to the
// peer any more, not even what the kernel had taken, and the peer sees a reset.
// No call of the Handler follows.
func (c *Conn) Abort() { c.end(true) }

func (c *Conn) end(abort bool) {
	if c.closed {
		return
	}
	c.closed = true
	c.out, c.detach = nil, nil
	c.loop.drv.close(c, abort)
}
