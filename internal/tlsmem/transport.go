package tlsmem

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// handshake is the state that exists only until the handshake ends.
type handshake struct {
	mu    sync.Mutex
	input *sync.Cond // with mu; signalled after Feed, End and Abort
	wake  func()     // tells the loop to call Pending and Handshake; must not block
	done  chan struct{}
	err   error // valid when done is closed

	gate    Gate
	inside  bool          // the goroutine has a place in gate
	aborted chan struct{} // closed by Abort
	wrote   bool          // the peer was sent something
	gone    chan struct{} // closed by End if the peer was sent nothing before
}

// transport is the net.Conn that crypto/tls sees. While hs is set, the handshake's
// goroutine blocks in Read, and hs.mu guards the other fields. While wire is set, another
// connection carries the bytes. While whenDry is set, Read calls it for more bytes. Without
// all three, everything belongs to the loop's goroutine and Read never blocks.
type transport struct {
	hs      *handshake
	whenDry func() error // of Accept
	wire    net.Conn     // of Dial; nothing else is used while it is set
	mem     *Memory
	in      []byte // ciphertext that crypto/tls hasn't read
	kept    []byte // the array of in, unless it is that of Receive's caller
	out     []byte // ciphertext to send, from outAt on
	outAt   int
	ended   bool   // the peer sends no more
	sawEnd  bool   // crypto/tls has read the end
	closed  bool   // by Abort
	ownCert []byte // certificate that this side showed, in DER
}

func (t *transport) Read(p []byte) (int, error) {
	if t.wire != nil {
		n, err := t.wire.Read(p)
		t.sawEnd = errors.Is(err, io.EOF)
		return n, err
	}
	if hs := t.hs; hs != nil {
		t.awaitInput()
		entered := hs.enter()
		hs.mu.Lock()
		defer hs.mu.Unlock()
		switch {
		case !entered && t.closed:
			return 0, net.ErrClosed
		case !entered:
			t.sawEnd = true
			return 0, io.EOF
		}
	}
	for t.whenDry != nil && len(t.in) == 0 && !t.ended && !t.closed {
		if err := t.whenDry(); err != nil {
			return 0, err
		}
	}
	switch {
	case t.closed:
		return 0, net.ErrClosed
	case len(t.in) > 0:
		n := copy(p, t.in)
		t.in = t.in[n:]
		return n, nil
	case t.ended:
		t.sawEnd = true
		return 0, io.EOF
	}
	return 0, errEmpty
}

// awaitInput waits, outside the gate, until Read has something to return.
func (t *transport) awaitInput() {
	hs := t.hs
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for len(t.in) == 0 && !t.ended && !t.closed {
		hs.leave()
		hs.input.Wait()
	}
}

// Write accepts everything, because crypto/tls treats any error of its transport as final.
// The loop bounds the output: it stops reading when Full.
func (t *transport) Write(p []byte) (int, error) {
	if t.wire != nil {
		return t.wire.Write(p)
	}
	hs := t.hs
	if hs == nil {
		if t.closed {
			return 0, net.ErrClosed
		}
		t.out = t.mem.Append(t.out, p)
		return len(p), nil
	}
	hs.mu.Lock()
	closed := t.closed
	if !closed {
		t.out = append(t.out, p...) // mem belongs to the loop
		hs.wrote = true
	}
	hs.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	hs.wake()
	return len(p), nil
}

// lock returns the function that unlocks. After the handshake both do nothing.
func (t *transport) lock() func() {
	if t.hs == nil {
		return func() {}
	}
	t.hs.mu.Lock()
	return t.hs.mu.Unlock
}

// feed appends a copy of b to the input.
func (t *transport) feed(b []byte) {
	if len(t.in) == 0 {
		t.kept = append(t.kept[:0], b...)
		t.in = t.kept
		return
	}
	if t.kept == nil {
		panic("tlsmem: Feed during Receive")
	}
	t.kept = append(append(make([]byte, 0, len(t.in)+len(b)), t.in...), b...)
	t.in = t.kept
}

// NoteCertificate keeps the certificate that this side shows, for channel binding.
// Config.GetConfigForClient calls it during the handshake, also for a resumed session.
func (t *transport) NoteCertificate(der []byte) { t.ownCert = der }

func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return memoryAddr{} }
func (t *transport) RemoteAddr() net.Addr             { return memoryAddr{} }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
