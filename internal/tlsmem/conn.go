package tlsmem

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

const (
	// fullOutput is how much output may wait before the loop stops to read what adds to it.
	fullOutput = 64 << 10
	// fullInput bounds ciphertext that nobody has read: the loop stops feeding long before.
	fullInput = 256 << 10
)

// Conn is one end of a TLS connection in memory. Its methods belong to the loop's
// goroutine, during the handshake as well.
type Conn struct {
	tls      *tls.Conn
	t        transport
	mem      *Memory
	err      error // what ended reading; it stays
	drained  bool  // the last Read found no complete record
	isServer bool
}

// Server begins a handshake as the server. wake is called by another goroutine, must
// not block, and may be called after Abort; see Handshake. mem belongs to the loop.
func Server(config *tls.Config, mem *Memory, wake func()) *Conn {
	return start(&Conn{mem: mem, isServer: true}, config, wake, tls.Server)
}

// Client begins a handshake as the client; otherwise like Server.
func Client(config *tls.Config, mem *Memory, wake func()) *Conn {
	return start(&Conn{mem: mem}, config, wake, tls.Client)
}

func start(c *Conn, config *tls.Config, wake func(), side func(net.Conn, *tls.Config) *tls.Conn) *Conn {
	hs := &handshake{wake: wake, done: make(chan struct{})}
	hs.input = sync.NewCond(&hs.mu)
	c.t.hs, c.t.mem = hs, c.mem
	c.tls = side(&c.t, config)
	go func() { // ends when the handshake has ended, which Abort brings about
		defer wake()
		defer close(hs.done)
		hs.err = c.tls.HandshakeContext(context.Background())
	}()
	return c
}

// Handshake says whether the handshake has ended, and how. While it hasn't, the loop
// feeds what arrives and sends Pending. When it failed, Pending may hold an alert that
// is still to be sent.
func (c *Conn) Handshake() (done bool, err error) {
	hs := c.t.hs
	if hs == nil {
		return true, c.err
	}
	select {
	case <-hs.done:
	default:
		return false, nil
	}
	c.t.hs = nil
	if hs.err != nil {
		c.err = c.explain(hs.err)
		return true, c.err
	}
	c.giveBack()
	return true, nil
}

// Ended is closed when the handshake's goroutine is about to end. It is for callers
// which must not go on before; it returns nil once Handshake said so.
func (c *Conn) Ended() <-chan struct{} {
	if c.t.hs == nil {
		return nil
	}
	return c.t.hs.done
}

// Feed gives ciphertext that has arrived; it copies. It is for the handshake and for
// callers which read message by message; others use Receive, which doesn't copy.
func (c *Conn) Feed(ciphertext []byte) error {
	defer c.t.lock()()
	if len(c.t.in)+len(ciphertext) > fullInput {
		return ErrFull
	}
	if len(ciphertext) == 0 {
		return nil
	}
	c.t.feed(ciphertext)
	c.drained = false
	if c.t.hs != nil {
		c.t.hs.input.Signal()
	}
	return nil
}

// End says that the peer will send no more (end of file on the descriptor).
func (c *Conn) End() {
	defer c.t.lock()()
	c.t.ended, c.drained = true, false
	if c.t.hs != nil {
		c.t.hs.input.Signal()
	}
}

// Receive decrypts ciphertext, together with what was left over before, and calls
// deliver with each piece of plaintext, which lies in buf. When deliver returns false,
// Receive stops and keeps the rest; the caller goes on with Receive(nil, ...). It
// returns nil when everything was read, or the error that ended reading.
func (c *Conn) Receive(ciphertext, buf []byte, deliver func(plain []byte) bool) error {
	if len(c.t.in) > 0 {
		if err := c.Feed(ciphertext); err != nil {
			return err
		}
	} else if len(ciphertext) > 0 {
		c.t.in, c.drained = ciphertext, false // of the caller, until this call returns
		defer c.keep()
	}
	for {
		n, err := c.Read(buf)
		switch {
		case n > 0:
			if !deliver(buf[:n]) {
				return nil
			}
		case errors.Is(err, ErrWouldBlock):
			return nil
		case err != nil:
			return err
		}
	}
}

// keep copies what is left of the caller's bytes.
func (c *Conn) keep() {
	rest := c.t.in
	c.t.in, c.t.kept = nil, nil
	if len(rest) > 0 {
		c.t.feed(rest)
	}
}

// Read returns plaintext of at most one record. Without a complete one it returns
// ErrWouldBlock; io.EOF is a close_notify; see CauseOf for others. Never both bytes and
// an error. Before the handshake is complete, it returns ErrWouldBlock.
func (c *Conn) Read(plain []byte) (int, error) {
	if c.err != nil {
		c.drained = true
		return 0, c.err
	}
	if c.drained || c.t.hs != nil {
		return 0, ErrWouldBlock
	}
	c.lend()
	n, err := c.tls.Read(plain)
	if err == nil {
		// A short read has emptied crypto/tls's plaintext. If there is no ciphertext
		// either, asking again would only cost an allocation.
		if n < len(plain) && len(c.t.in) == 0 && !c.t.ended && c.readsNothing() {
			c.settle()
		}
		return n, nil
	}
	if errors.Is(err, errEmpty) {
		c.settle()
		if n > 0 {
			return n, nil
		}
		return 0, ErrWouldBlock
	}
	c.err = c.explain(err)
	if n > 0 {
		return n, nil
	}
	c.drained = true
	return 0, c.err
}

// settle is for a connection of which nothing can be read without more input.
func (c *Conn) settle() {
	c.drained = true
	c.t.kept = nil
	c.giveBack()
}

// Unread says whether Read may return something without more input: bytes, or how the
// connection has ended.
func (c *Conn) Unread() bool { return !c.drained && c.t.hs == nil }

// explain tells apart the ends of a connection that look alike to crypto/tls.
func (c *Conn) explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.Is(err, io.EOF) && c.t.sawEnd:
		return ErrNoCloseNotify
	}
	return err
}

// Write encrypts plain, all of it, into what Pending returns.
func (c *Conn) Write(plain []byte) error {
	if c.t.hs != nil {
		return errors.New("tls: write before the handshake is complete")
	}
	_, err := c.tls.Write(plain)
	return err
}

// Pending returns what is to be sent. It is valid until Sent, Write, Read or Receive.
// During a handshake, a second call may return more: pass Sent the length of the slice
// that was sent.
func (c *Conn) Pending() []byte {
	defer c.t.lock()()
	return c.t.out[c.t.outAt:]
}

// Sent says that the first n bytes of Pending have been sent, or copied.
func (c *Conn) Sent(n int) {
	defer c.t.lock()()
	c.t.outAt += n
	if c.t.outAt < len(c.t.out) {
		return
	}
	if c.t.hs == nil {
		c.mem.put(c.t.out)
	}
	c.t.out, c.t.outAt = nil, 0
}

// Full says that enough output waits: stop reading what would add to it.
func (c *Conn) Full() bool { return len(c.Pending()) >= fullOutput }

// CloseNotify adds a close_notify to Pending. Nothing can be written afterwards.
func (c *Conn) CloseNotify() error {
	if c.t.hs != nil || c.t.closed {
		return net.ErrClosed
	}
	return c.tls.CloseWrite()
}

// Abort drops the connection without close_notify, in whichever state it is. A
// handshake's goroutine ends by itself soon afterwards. Nothing is pending any more.
func (c *Conn) Abort() {
	unlock := c.t.lock()
	c.t.closed = true
	c.t.in, c.t.kept, c.t.out, c.t.outAt = nil, nil, nil, 0
	if c.err == nil {
		c.err = net.ErrClosed
	}
	if c.t.hs != nil {
		c.t.hs.input.Signal()
	}
	unlock()
}
