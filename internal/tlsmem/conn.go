package tlsmem

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

const (
	// fullOutput is how much output may wait before the loop stops reading the data that
	// becomes output.
	fullOutput = 64 << 10
	// fullInput bounds the ciphertext that wasn't read yet. The loop stops feeding long
	// before that.
	fullInput = 256 << 10
)

// Conn is one end of a TLS connection in memory. Its methods belong to the loop's
// goroutine, during the handshake as well.
type Conn struct {
	tls      *tls.Conn
	t        transport
	mem      *Memory
	err      error // what ended reading; final
	drained  bool  // the last Read found no complete record
	isServer bool
}

// Server begins a handshake as the server. It calls wake on another goroutine when the
// loop should call Pending and Handshake. wake must not block, and may still be called
// after Abort. mem belongs to the loop. log gets the stack of a panic, which fails the
// handshake.
func Server(config *tls.Config, mem *Memory, gate Gate, log *slog.Logger, wake func()) *Conn {
	return start(&Conn{mem: mem, isServer: true}, config, gate, log, wake, tls.Server)
}

// Client begins a handshake as the client, without a Gate, and is otherwise like Server.
func Client(config *tls.Config, mem *Memory, log *slog.Logger, wake func()) *Conn {
	return start(&Conn{mem: mem}, config, Gate{}, log, wake, tls.Client)
}

func start(c *Conn, config *tls.Config, gate Gate, log *slog.Logger, wake func(), side func(net.Conn, *tls.Config) *tls.Conn) *Conn {
	hs := &handshake{wake: wake, done: make(chan struct{}), gate: gate, aborted: make(chan struct{}), gone: make(chan struct{})}
	hs.input = sync.NewCond(&hs.mu)
	c.t.hs, c.t.mem = hs, c.mem
	c.tls = side(&c.t, config)
	go func() { // ends with the handshake, which Abort ends at the latest
		defer wake()
		defer close(hs.done)
		defer hs.leave()
		hs.err = logline.Guarded(log, func() error { return c.tls.HandshakeContext(context.Background()) })
	}()
	return c
}

// Accept does the server's part of a handshake on the caller's own goroutine: a coroutine of
// the loop, and a handshake that is too cheap to be worth the switches between threads.
// whenDry is called when the peer's bytes are used up. It sends what is Pending, and returns
// after Feed or End, or with an error that ends the handshake. c is for whenDry and for
// Pending, which may hold an alert after an error.
func Accept(config *tls.Config, mem *Memory, begun []byte, whenDry func(c *Conn) error) (c *Conn, err error) {
	c = &Conn{mem: mem, isServer: true}
	c.t.mem = mem
	c.tls = tls.Server(&c.t, config)
	if err := c.Feed(begun); err != nil {
		return c, err
	}
	var gaveUp error
	c.t.whenDry = func() error {
		gaveUp = whenDry(c)
		return gaveUp
	}
	err = c.tls.Handshake()
	c.t.whenDry = nil
	switch {
	case gaveUp != nil:
		c.err = gaveUp
	case err != nil:
		c.err = c.explain(err)
	default:
		c.giveBack()
	}
	return c, c.err
}

// Handshake reports whether the handshake has ended, and its error. Until then the loop
// feeds what arrives and sends Pending. After an error Pending may hold an alert for the
// peer.
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

// Ended returns a channel that is closed when the handshake has ended, for callers that
// wait for it. It returns nil once Handshake has reported the end.
func (c *Conn) Ended() <-chan struct{} {
	if c.t.hs == nil {
		return nil
	}
	return c.t.hs.done
}

// Feed takes a copy of ciphertext that has arrived. It is for the handshake and for
// callers that read message by message. Others use Receive, which doesn't copy.
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

// End tells the connection that the peer will send no more: the descriptor is at its end
// of file.
func (c *Conn) End() {
	defer c.t.lock()()
	if hs := c.t.hs; hs != nil {
		if !c.t.ended && !hs.wrote {
			close(hs.gone)
		}
		hs.input.Signal()
	}
	c.t.ended, c.drained = true, false
}

// Receive decrypts ciphertext, after what an earlier call left over, and calls deliver
// with the plaintext of as many records as fit into buf, where it lies. When deliver
// returns false, Receive keeps the rest and returns nil; the caller continues with
// Receive(nil, ...). Otherwise it returns nil when everything was read, or the error that
// ended reading.
func (c *Conn) Receive(ciphertext, buf []byte, deliver func(plain []byte) bool) error {
	if len(c.t.in) > 0 {
		if err := c.Feed(ciphertext); err != nil {
			return err
		}
	} else if len(ciphertext) > 0 {
		c.t.in, c.drained = ciphertext, false // the caller's bytes, used only until this call returns
		defer c.keep()
	}
	for {
		n, err := c.fill(buf)
		switch {
		case n > 0 && !deliver(buf[:n]):
			if err != nil && !errors.Is(err, ErrWouldBlock) {
				c.drained = false // the caller doesn't know of the end yet
			}
			return nil
		case errors.Is(err, ErrWouldBlock):
			return nil
		case err != nil:
			return err
		}
	}
}

// fill reads records until buf is full or nothing more can be read. What is received
// together is then passed on together, in larger records and with fewer sends.
func (c *Conn) fill(buf []byte) (int, error) {
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		if n += m; err != nil || n == len(buf) {
			return n, err
		}
	}
}

// keep copies what Receive left over of the caller's bytes.
func (c *Conn) keep() {
	rest := c.t.in
	c.t.in, c.t.kept = nil, nil
	if len(rest) > 0 {
		c.t.feed(rest)
	}
}

// Read returns plaintext of at most one record, or an error, never both. The error is
// ErrWouldBlock if there is no complete record or the handshake isn't complete, io.EOF
// after a close_notify, and otherwise one that CauseOf explains.
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
		// After a short read crypto/tls has no plaintext left. If it has no ciphertext
		// either, another Read would only cost an allocation.
		if n < len(plain) && len(c.t.in) == 0 && !c.t.ended && c.holdsNoCiphertext() {
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

// settle gives back buffers when nothing can be read without more input.
func (c *Conn) settle() {
	c.drained = true
	c.t.kept = nil
	c.giveBack()
}

// Unread reports whether Read may return bytes or the end of the connection without more
// input.
func (c *Conn) Unread() bool { return !c.drained && c.t.hs == nil }

// explain replaces the errors with which crypto/tls reports an end without close_notify.
func (c *Conn) explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.Is(err, io.EOF) && c.t.sawEnd:
		return ErrNoCloseNotify
	}
	return err
}

// Write encrypts all of plain into Pending.
func (c *Conn) Write(plain []byte) error {
	if c.t.hs != nil {
		return errors.New("tls: write before the handshake is complete")
	}
	_, err := c.tls.Write(plain)
	return err
}

// Pending returns the ciphertext to send. It is valid until Sent, Write, Read or Receive.
// During a handshake a second call may return more, so pass to Sent the length of the
// slice that was sent.
func (c *Conn) Pending() []byte {
	defer c.t.lock()()
	return c.t.out[c.t.outAt:]
}

// Sent removes the first n bytes of Pending, which the caller has sent or copied.
func (c *Conn) Sent(n int) {
	defer c.t.lock()()
	c.t.outAt += n
	if c.t.outAt < len(c.t.out) {
		return
	}
	if c.t.hs == nil {
		c.mem.Put(c.t.out)
	}
	c.t.out, c.t.outAt = nil, 0
}

// Full reports whether so much output waits that the loop should stop reading the data
// that becomes output.
func (c *Conn) Full() bool { return len(c.Pending()) >= fullOutput }

// PeerLeft reports whether Read has found that the peer sends no more.
func (c *Conn) PeerLeft() bool { return errors.Is(c.err, io.EOF) || c.t.sawEnd }

// CloseNotify adds a close_notify to Pending. Nothing can be written afterwards.
func (c *Conn) CloseNotify() error {
	if c.t.hs != nil || c.t.closed {
		return net.ErrClosed
	}
	return c.tls.CloseWrite()
}

// Abort drops the connection and its output, in any state, without close_notify. The
// goroutine of an unfinished handshake ends soon afterwards.
func (c *Conn) Abort() {
	unlock := c.t.lock()
	if c.t.hs != nil && !c.t.closed {
		close(c.t.hs.aborted)
	}
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
