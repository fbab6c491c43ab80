package reactor

import (
	"cmp"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// receiving says what the loop does with a connection's incoming bytes.
type receiving uint8

const (
	armed    receiving = iota // read them and pass them to the Handler
	paused                    // leave them in the kernel
	watching                  // leave them in the kernel, but report when the peer leaves
	awaiting                  // leave them in the kernel, but report once that there are some
)

// highWater is how many queued bytes make Full true. If the source then pauses, a queue
// holds at most highWater and the bytes of one receive.
const highWater = receiveSize / 2

// Conn is one established connection of a loop. There may be very many, so its fields are
// in an order that wastes no space.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int
	broken  error // why a send has failed; later bytes are dropped
	out     []byte
	// secure encrypts what is sent and decrypts what is received; nil for a connection
	// that isn't encrypted.
	secure *tlsmem.Conn
	// detach is the caller of Detach that waits for the descriptor, or nil.
	detach func(fd int)
	state  receiving
	ended  bool // Ended was called
	closed bool
	// asked says that a caller has learned that bytes are queued, and expects Flushed.
	asked bool
	// set belongs to the epoll driver. It is here because it is no larger than a pointer.
	set epollState
	// ring belongs to the io_uring driver; it is nil with epoll.
	ring *ringState
}

// ErrGone is the error of Ended if the peer has left while the connection was only
// watched.
var ErrGone = errors.New("peer has gone")

// Add adds an established connection to the loop, which owns fd from now on. The
// connection starts paused; call Resume.
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

// Resume makes the loop read bytes and pass them to the Handler.
func (c *Conn) Resume() { c.become(armed) }

// Pause leaves incoming bytes in the kernel. The loop doesn't notice that the peer has left
// before Resume.
func (c *Conn) Pause() { c.become(paused) }

// Watch leaves incoming bytes in the kernel, but reports when the peer leaves.
func (c *Conn) Watch() { c.become(watching) }

// Queued returns how many bytes the kernel hasn't accepted yet.
func (c *Conn) Queued() int {
	n := len(c.out) + c.loop.drv.held(c) + c.loop.drv.flying(c)
	c.asked = c.asked || n > 0
	return n
}

// Full reports whether so many bytes are queued that their source should pause until the
// Handler's Flushed.
func (c *Conn) Full() bool {
	full := len(c.out)+c.loop.drv.held(c) >= highWater
	c.asked = c.asked || full
	return full
}

// Unanswered returns how many times in a row the kernel has retransmitted data, or probed
// a closed window, without an answer from the peer's host. It is 0 for connections other
// than TCP.
func (c *Conn) Unanswered() int {
	info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(max(info.Retransmits, info.Probes))
}

// Await leaves incoming bytes in the kernel, and reports once that there is something to
// Read: it calls Received without bytes, and the connection is then paused. It is for
// connections that the loop hasn't received from yet.
func (c *Conn) Await() { c.become(awaiting) }

// Read reads from a connection that isn't armed, without waiting. It returns 0 bytes and no
// error if there is nothing to read, and io.EOF if the peer has ended.
func (c *Conn) Read(b []byte) (int, error) {
	if c.closed || c.broken != nil {
		return 0, cmp.Or(c.broken, net.ErrClosed)
	}
	if len(b) == 0 {
		return 0, nil
	}
	if c.secure != nil {
		return c.readSecure(b)
	}
	return c.readPlain(b)
}

func (c *Conn) readPlain(b []byte) (int, error) {
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

// catchUp delivers, at the end of a turn, the bytes that were kept while c was paused.
func (c *Conn) catchUp() {
	if c.secure != nil && !c.catchUpSecure() || c.closed || c.ended || c.state != armed {
		return
	}
	c.loop.drv.catchUp(c)
}

// awaited reports that there is something to read.
func (c *Conn) awaited() {
	c.state = paused
	c.handler.Received(nil)
	if c.state == paused && !c.closed {
		c.loop.drv.update(c)
	}
}

func (c *Conn) become(s receiving) {
	if c.closed {
		return
	}
	if c.secure != nil && (s == armed || s == awaiting) && c.secure.Unread() {
		c.loop.late = append(c.loop.late, c)
	}
	if c.state == s {
		return
	}
	c.state = s
	c.loop.drv.update(c)
}

// Send sends b, which may be reused after the call. It copies the bytes that the kernel
// doesn't accept, and sends them later, in order. After a failed send it drops all queued
// and later bytes, and Ended follows.
func (c *Conn) Send(b []byte) {
	if c.closed || c.broken != nil || len(b) == 0 {
		return
	}
	if c.secure != nil {
		c.sendSecure(b)
		return
	}
	c.loop.drv.send(c, b)
}

// longQueue is from how many bytes on a queue is in one of the loop's buffers: such queues
// come and go with every large result, and would keep the garbage collector busy.
const longQueue = 4 << 10

// queue appends bytes to c.out.
func (c *Conn) queue(b []byte) {
	if len(c.out)+len(b) < longQueue {
		c.out = append(c.out, b...)
		return
	}
	c.out = c.loop.memory.Append(c.out, b)
}

// unqueue gives back the memory of c.out, which was sent.
func (c *Conn) unqueue() {
	c.loop.memory.Put(c.out)
	c.out = nil
}

// fail records that sending has failed. If the connection is being read, the Handler gets
// the peer's last bytes before Ended.
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
	if c.secure != nil && !c.ended && !c.closed && c.state == armed && c.secure.Unread() {
		c.decrypt(nil) // bytes from before the end
	}
	if c.ended || c.closed {
		return
	}
	c.ended = true
	c.loop.drv.update(c)
	c.handler.Ended(err)
}

// Drop discards the bytes that wait to be sent.
func (c *Conn) Drop() { c.out = nil }

// CloseWrite tells the peer that nothing more will come. Receiving continues.
func (c *Conn) CloseWrite() {
	switch {
	case c.closed:
	case c.secure != nil:
		c.sayGoodbye() // no shutdown, which could overtake the close_notify: the end would look like an attack
	default:
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// Close ends the connection in an orderly way: the kernel still delivers the bytes that it
// has accepted or can accept at once. Bytes in the loop's queue are lost. No call of the
// Handler follows.
func (c *Conn) Close() { c.end(false) }

// Abort ends the connection at once with a reset. When Abort has returned, nothing more is
// sent to the peer, not even bytes that the kernel had accepted. No call of the Handler
// follows.
func (c *Conn) Abort() { c.end(true) }

func (c *Conn) end(abort bool) {
	if c.closed {
		return
	}
	if c.secure != nil {
		if !abort && !c.secure.PeerLeft() { // who has left and closed its end would answer with a reset
			c.sayGoodbye()
		}
		c.secure.Abort()
	}
	c.closed = true
	c.out, c.detach = nil, nil
	c.loop.drv.close(c, abort)
}
