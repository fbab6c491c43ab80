package pgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Direction is a way through a Proxy; both can be given at once, with '|'.
type Direction uint8

// The two ways through a Proxy.
const (
	ToServer Direction = 1 << iota
	ToClient
	BothWays = ToServer | ToClient
)

// Proxy forwards TCP connections to one address and breaks them on request. Its
// methods can be called from any goroutine and apply to connections that exist
// as well as to later ones.
type Proxy struct {
	target  string
	port    *reservedPort
	running sync.WaitGroup
	closing sync.Once
	ended   chan struct{}

	mu       sync.Mutex // guards what follows
	listener *net.TCPListener
	links    map[*link]struct{}
	faults   faults
	changed  chan struct{} // closed and replaced when faults change
	left     int64         // bytes to clients until the silence, 0 for no such limit
	silenced chan struct{} // closed when left is used up
}

// faults are what a pump checks before each write.
type faults struct {
	silent Direction
	delay  time.Duration
	chunk  int // bytes; 0: as they came
}

// link is one client's connection with its connection to the target.
type link struct {
	client, server *net.TCPConn
	gone           chan struct{} // closed with the connections: ends a pump that waits
	ending         sync.Once
}

// close closes both connections in an orderly way, once.
func (l *link) close() {
	l.ending.Do(func() {
		_ = l.client.Close()
		_ = l.server.Close()
		close(l.gone)
	})
}

// reset ends both connections with RST.
func (l *link) reset() {
	l.ending.Do(func() {
		resetConn(l.client)
		resetConn(l.server)
		close(l.gone)
	})
}

// NewProxy starts a proxy that ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy starts a proxy to the host:port target, which need not answer yet.
// The caller closes it.
func StartProxy(target string) (*Proxy, error) {
	port, err := reservePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		target: target, port: port, ended: make(chan struct{}),
		links: map[*link]struct{}{}, changed: make(chan struct{}),
	}
	if err := p.Accept(); err != nil {
		port.close()
		return nil, err
	}
	return p, nil
}

// Addr returns the host:port that clients connect to.
func (p *Proxy) Addr() string { return p.port.addr() }

// Port returns the port; the host is 127.0.0.1.
func (p *Proxy) Port() int { return p.port.port }

// Connections returns how many clients are connected through to the target.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Silence holds back all bytes in the given directions, and ends of connections too,
// while connections stay open and new ones are accepted. Nothing is lost.
func (p *Proxy) Silence(ways Direction) { p.change(func(f *faults) { f.silent |= ways }) }

// SilenceAfter is Silence(ToClient) once n more bytes, and the rest of the piece that
// contains the last of them, have gone to clients. The channel is closed when the
// silence begins.
func (p *Proxy) SilenceAfter(n int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.silenced = n, make(chan struct{})
	return p.silenced
}

// Unsilence ends the silence, and first forwards what was held back.
func (p *Proxy) Unsilence() { p.change(func(f *faults) { f.silent = 0 }) }

// Delay holds each piece of bytes for d before it is forwarded.
func (p *Proxy) Delay(d time.Duration) { p.change(func(f *faults) { f.delay = d }) }

// Split writes at most size bytes at a time, each write a segment of its own; 1 splits
// messages at every byte, 0 ends the splitting.
func (p *Proxy) Split(size int) { p.change(func(f *faults) { f.chunk = size }) }

// ResetAll resets the existing connections on both sides.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Refuse refuses new connections until Accept; those that exist stay.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// Accept accepts connections again after Refuse, on the same port.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hasEnded() {
		return fmt.Errorf("proxy to %s: %w", p.target, net.ErrClosed)
	}
	if p.listener != nil {
		return nil
	}
	l, err := p.port.listen()
	if err != nil {
		return err
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
	return nil
}

// Close ends everything and returns when all goroutines have ended. A second
// call does nothing.
func (p *Proxy) Close() { p.closing.Do(p.close) }

func (p *Proxy) close() {
	p.Refuse()
	p.mu.Lock()
	close(p.ended)
	for l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.port.close()
}

func (p *Proxy) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *Proxy) change(set func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) current() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// accept ends when Refuse or Close closes l.
func (p *Proxy) accept(l *net.TCPListener) {
	for {
		client, err := l.AcceptTCP()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve connects a client to the target. If the target refuses, the client sees a
// reset.
func (p *Proxy) serve(client *net.TCPConn) {
	conn, err := net.DialTimeout("tcp", p.target, dialLimit)
	if err != nil {
		resetConn(client)
		return
	}
	l := &link{client: client, server: conn.(*net.TCPConn), gone: make(chan struct{})}
	if !p.register(l) {
		l.close()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, l.client, l.server, ToServer) })
	pumps.Go(func() { p.pump(l, l.server, l.client, ToClient) })
	pumps.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// dialLimit is the time limit for connecting to the target, which is on this machine.
const dialLimit = 10 * time.Second

func (p *Proxy) register(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hasEnded() {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// pump forwards one direction. It forwards the end of the stream as an end, and an
// error as a reset of the whole link. Both wait while the direction is silent.
func (p *Proxy) pump(l *link, from, to *net.TCPConn, way Direction) {
	buf := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buf)
		if !p.forward(l, to, buf[:n], way) {
			l.reset()
			return
		}
		switch {
		case readErr == nil:
		case errors.Is(readErr, io.EOF):
			_ = to.CloseWrite()
			return
		default:
			l.reset()
			return
		}
	}
}

// forward waits for the end of silence and delay, then writes; false means that the
// link is no longer usable.
func (p *Proxy) forward(l *link, to net.Conn, b []byte, way Direction) bool {
	for {
		f, ok := p.waitAudible(l, way)
		if !ok {
			return false
		}
		if len(b) == 0 {
			return true
		}
		if !l.pause(f.delay) {
			return false
		}
		// Silence may have begun during the delay.
		if now, _ := p.current(); now.silent&way != 0 {
			continue
		}
		piece := b
		if f.chunk > 0 {
			piece = b[:min(f.chunk, len(b))]
		}
		if way == ToClient {
			p.count(len(piece))
		}
		if _, err := to.Write(piece); err != nil {
			return false
		}
		if b = b[len(piece):]; len(b) == 0 {
			return true
		}
	}
}

// count counts n bytes to clients, and starts the silence of SilenceAfter.
func (p *Proxy) count(n int) {
	p.mu.Lock()
	before := p.left
	p.left = max(before-int64(n), 0)
	last, silenced := before > 0 && p.left == 0, p.silenced
	p.mu.Unlock()
	if last {
		p.Silence(ToClient)
		close(silenced)
	}
}

// waitAudible returns the faults in force once way isn't silent, or false when
// the link has ended.
func (p *Proxy) waitAudible(l *link, way Direction) (faults, bool) {
	for {
		f, changed := p.current()
		if f.silent&way == 0 {
			return f, true
		}
		select {
		case <-changed:
		case <-l.gone:
			return f, false
		}
	}
}

// pause waits for d; it returns false if the link ends before.
func (l *link) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	}
}
