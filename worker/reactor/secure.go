package reactor

import (
	"errors"
	"io"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// Secure encrypts the connection from now on: everything that is sent, and everything that
// wasn't delivered yet. The handshake of t must be complete, and c must not be armed.
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

// Memory returns the memory that the encrypted connections of the loop share.
func (l *Loop) Memory() *tlsmem.Memory { return &l.memory }

// Secured returns the TLS connection, nil if the connection isn't encrypted.
func (c *Conn) Secured() *tlsmem.Conn { return c.secure }

// received passes incoming bytes to the Handler, decrypted if necessary.
func (c *Conn) received(b []byte) {
	if c.secure == nil {
		c.handler.Received(b)
		return
	}
	c.decrypt(b)
}

// decrypt decrypts b, after bytes that were left before, and passes the plaintext to the
// Handler until the connection is paused.
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

// catchUpSecure delivers bytes that weren't delivered because the connection was paused. It
// returns false if it has reported them to a connection that awaits bytes.
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

// readSecure is Read for an encrypted connection.
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

// recordSize is about the size of the largest record.
const recordSize = 17 << 10

// sendSecure is Send for an encrypted connection. It encrypts all of b or nothing: the
// encryption fails only after sayGoodbye, or if the connection has failed before.
func (c *Conn) sendSecure(b []byte) {
	if err := c.secure.Write(b); err != nil {
		c.fail(err)
		return
	}
	c.flushSecure()
}

// flushSecure sends the ciphertext that is pending.
func (c *Conn) flushSecure() {
	if out := c.secure.Pending(); len(out) > 0 && !c.closed && c.broken == nil {
		c.loop.drv.send(c, out)
		c.secure.Sent(len(out))
	}
}

// sayGoodbye sends a close_notify, once, which tells the peer that nothing more will come.
func (c *Conn) sayGoodbye() {
	if c.broken == nil && c.secure.CloseNotify() == nil {
		c.flushSecure()
	}
}
