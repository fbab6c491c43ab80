package tlsmem

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// Wired is the client's end of a TLS connection over a blocking connection. It is for the
// goroutine that connects, does the handshake and logs in; then Memory gives the TLS
// connection to a loop. Deadlines and addresses are those of the underlying connection.
// Close closes the underlying connection, without a close_notify.
type Wired struct {
	net.Conn
	c *Conn
}

// Dial does the client's part of a handshake over wire, and blocks at most until wire's
// deadline. It returns errors of wire unchanged; CauseOf explains the others.
func Dial(wire net.Conn, config *tls.Config) (*Wired, error) {
	c := &Conn{}
	c.t.wire = wire
	c.tls = tls.Client(&c.t, config)
	if err := c.tls.Handshake(); err != nil {
		return nil, c.explain(err)
	}
	return &Wired{Conn: wire, c: c}, nil
}

// Read implements io.Reader. It returns io.EOF at the end of the connection, even without a
// close_notify, because PostgreSQL's protocol shows whether data is missing.
func (w *Wired) Read(b []byte) (int, error) {
	n, err := w.c.tls.Read(b)
	if err = w.c.explain(err); errors.Is(err, ErrNoCloseNotify) {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (w *Wired) Write(b []byte) (int, error) { return w.c.tls.Write(b) }

// Facts returns the facts of the session.
func (w *Wired) Facts() Facts { return w.c.Facts() }

// Memory gives the connection to the loop that mem belongs to, with the bytes that were
// received but not read. The goroutine must not use w afterwards.
func (w *Wired) Memory(mem *Memory) *Conn {
	w.c.t.wire, w.c.mem, w.c.t.mem = nil, mem, mem
	return w.c
}
