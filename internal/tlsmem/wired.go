package tlsmem

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// Wired is the client's end of a TLS connection over a blocking one, for the goroutine
// that sets it up: it connects, does the handshake and logs in. After that Memory gives
// the connection to a loop. Deadlines and addresses are those of the connection below;
// Close closes that one, without a close_notify.
type Wired struct {
	net.Conn
	c *Conn
}

// Dial does the client's part of a handshake over wire, and blocks for as long as wire's
// deadline allows. Errors of wire come back unchanged; CauseOf names the others.
func Dial(wire net.Conn, config *tls.Config) (*Wired, error) {
	c := &Conn{}
	c.t.wire = wire
	c.tls = tls.Client(&c.t, config)
	if err := c.tls.Handshake(); err != nil {
		return nil, c.explain(err)
	}
	return &Wired{Conn: wire, c: c}, nil
}

// Read implements io.Reader. The end of the connection is io.EOF, also without a
// close_notify: the messages of PostgreSQL's protocol say whether something is missing.
func (w *Wired) Read(b []byte) (int, error) {
	n, err := w.c.tls.Read(b)
	if err = w.c.explain(err); errors.Is(err, ErrNoCloseNotify) {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (w *Wired) Write(b []byte) (int, error) { return w.c.tls.Write(b) }

// Facts returns what is known of the session.
func (w *Wired) Facts() Facts { return w.c.Facts() }

// Memory gives the connection to the loop that mem belongs to. The goroutine doesn't use
// w any more; what was received and not read is kept.
func (w *Wired) Memory(mem *Memory) *Conn {
	w.c.t.wire, w.c.mem, w.c.t.mem = nil, mem, mem
	return w.c
}
