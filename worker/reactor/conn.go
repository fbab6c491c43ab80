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
	armed    receiving = iota // read them and hand them over
	paused                    // leave in the kernel
	watching                  // leave them in the kernel, but report when the peer leaves
	awaiting                  // leave them in the kernel, but report once that there are some
)

// highWater is how many bytes may be queued before Full reports true. A queue holds
// at most that and one receive.
const highWater = receiveSize / 2

// Conn is one established connection of a loop. There may be very many, so the
// order of its fields wastes no space.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int
	broken  error // a send has failed: later bytes are dropped
	out     []byte
	// secure encrypts what is sent and decrypts what is received, nil for neither.
	secure *tlsmem.Conn
	// detach waits for the descriptor, see Detach.
	detach func(fd int)
	state  receiving
	ended  bool // Ended was called
	closed bool
	// asked: a caller has learned that bytes are queued, and expects Flushed.
	asked bool
	// set belongs to the epoll driver, whose state is no larger than a pointer.
	set epollState
	// ring belongs to the io_uring driver; it is nil with the other driver.
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

// Resume starts reading bytes and handing them over again.
func (c *Conn) Resume() { c.become(armed) }

// Pause leaves incoming bytes in the kernel. The loop doesn't notice the end of the
// peer before Resume.
func (c *Conn) Pause() { c.become(paused) }

// Watch leaves incoming bytes in the kernel, but reports when the peer leaves.
func (c *Conn) Watch() { c.become(watching) }

// Queued returns how many bytes the kernel has not taken yet.
func (c *Conn) Queued() int {
	n := len(c.out) + c.loop.drv.held(c) + c.loop.drv.flying(c)
	c.asked = c.asked || n > 0
	return n
}

// Full reports whether so many bytes are queued that their source should pause
// until Flushed.
func (c *Conn) Full() bool {
	full := len(c.out)+c.loop.drv.held(c) >= highWater
	c.asked = c.asked || full
	return full
}

// Unanswered returns how many times in a row the kernel has sent data again, or
// asked whether there is room, without an answer from the peer's host. It is 0 for
// connections other than TCP.
func (c *Conn) Unanswered() int {
	info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(max(info.Retransmits, info.Probes))
}

// Await leaves incoming bytes in the kernel, and reports once that there is
// something to Read: the Handler gets no bytes, and the connection is paused. It is
// for connections from which the loop has received nothing yet.
func (c *Conn) Await() { c.become(awaiting) }

// Read reads what the kernel has received on a connection that isn't armed. 0 bytes
// without an error mean that there is nothing, io.EOF that the peer has ended.
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

// catchUp delivers, at the end of a turn, what was kept while c was paused.
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

// Send sends b, which may be reused after the call. Bytes that the kernel doesn't
// take are copied and sent later, in order; Queued returns their number. After a
// failed send everything is dropped, and Ended follows.
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

// fail records that sending has failed. While the connection is being read, reading
// reports the end, after the peer's last bytes.
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
		c.decrypt(nil) // what came before the end
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

// CloseWrite tells the peer that nothing more will come. Bytes are still read.
func (c *Conn) CloseWrite() {
	switch {
	case c.closed:
	case c.secure != nil:
		c.sayGoodbye() // a shutdown could overtake it, and without it a client takes the end for an attack
	default:
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	}
}

// Close ends the connection in an orderly way: the kernel still delivers what it
// can take at once. Queued bytes are lost. No call of the Handler follows.
func (c *Conn) Close() { c.end(false) }

// Abort ends the connection at once: once it has returned, the peer is sent nothing
// more, not even what the kernel had taken, and sees a reset. No call of the
// Handler follows.
func (c *Conn) Abort() { c.end(true) }

func (c *Conn) end(abort bool) {
	if c.closed {
		return
	}
	if c.secure != nil {
		if !abort {
			c.sayGoodbye()
		}
		c.secure.Abort()
	}
	c.closed = true
	c.out, c.detach = nil, nil
	c.loop.drv.close(c, abort)
}
