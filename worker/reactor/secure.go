package reactor

import (
	"errors"
	"io"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// Secure encrypts the connection from now on: all that is sent, and all that is received
// and wasn't delivered yet. t's handshake is complete. The connection isn't armed.
func (c *Conn) Secure(t *tlsmem.Conn) {
	c.secure = t
	if l := c.loop; l.plain == nil {
		l.plain, l.encrypted = make([]byte, receiveSize), make([]byte, recordSize)
		l.deliver = func(plain []byte) bool {
			c := l.decrypting
			c.handler.Received(plain)
			return c.state == armed && !c.closed && !c.ended
		}
	}
}

// Memory is shared by the encrypted connections of a loop.
func (l *Loop) Memory() *tlsmem.Memory { return &l.memory }

// Secured returns what encrypts the connection, nil for nothing.
func (c *Conn) Secured() *tlsmem.Conn { return c.secure }

// received hands incoming bytes over.
func (c *Conn) received(b []byte) {
	if c.secure == nil {
		c.handler.Received(b)
		return
	}
	c.decrypt(b)
}

// decrypt hands over what can be decrypted now, until the connection is paused.
func (c *Conn) decrypt(b []byte) {
	c.loop.decrypting = c
	err := c.secure.Receive(b, c.loop.plain, c.loop.deliver)
	c.loop.decrypting = nil
	if c.closed {
		return
	}
	c.flushSecure()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		c.tellEnd(nil)
	default:
		c.tellEnd(err)
	}
}

// catchUpSecure hands over what was decrypted, or can be, but was not delivered, because
// the connection was paused. It reports whether the connection may go on.
func (c *Conn) catchUpSecure() bool {
	if c.closed || c.ended || !c.secure.Unread() {
		return true
	}
	switch c.state {
	case armed:
		c.decrypt(nil)
	case awaiting:
		c.awaited()
		return false
	}
	return true
}

// readSecure is Read.
func (c *Conn) readSecure(b []byte) (int, error) {
	defer c.flushSecure()
	for {
		n, err := c.secure.Read(b)
		if n > 0 || !errors.Is(err, tlsmem.ErrWouldBlock) {
			return n, err
		}
		raw := c.loop.encrypted
		n, err = c.readPlain(raw)
		if n == 0 || err != nil {
			return 0, err
		}
		if err := c.secure.Feed(raw[:n]); err != nil {
			return 0, err
		}
	}
}

// recordSize is about that of the largest record.
const recordSize = 17 << 10

// sendSecure is Send. Nothing of b is lost: encryption fails only after a goodbye, or if
// the connection has failed before.
func (c *Conn) sendSecure(b []byte) {
	if err := c.secure.Write(b); err != nil {
		c.fail(err)
		return
	}
	c.flushSecure()
}

// flushSecure sends what encryption has made.
func (c *Conn) flushSecure() {
	if out := c.secure.Pending(); len(out) > 0 && !c.closed && c.broken == nil {
		c.loop.drv.send(c, out)
		c.secure.Sent(len(out))
	}
}

// sayGoodbye tells the peer, once, that nothing more will come.
func (c *Conn) sayGoodbye() {
	if c.broken == nil && c.secure.CloseNotify() == nil {
		c.flushSecure()
	}
}
