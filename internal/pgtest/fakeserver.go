package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Script is what a Fake does with one connection. At the end of the steps it closes the
// connection. If the client has sent bytes that no step has read, the kernel then
// resets it.
type Script struct {
	Steps []Step
	// ResetAfterSent and ResetAfterReceived reset the connection once so many bytes
	// were sent or received, in the middle of any step; 0 means never. Only bytes that
	// a step reads count as received.
	ResetAfterSent, ResetAfterReceived int
}

// Step is one thing that a Fake does; the functions that return one are below.
type Step func(*Peer) error

// Peer is the connection that a step acts on.
type Peer struct {
	conn    *scriptedConn
	backend *pgproto3.Backend
	fake    *Fake
}

// Fake is a scripted server: it does what a real server can't be made to do.
type Fake struct {
	port     *reservedPort
	listener *net.TCPListener
	scripts  []Script
	ended    chan struct{}
	running  sync.WaitGroup
	closing  sync.Once

	mu       sync.Mutex // guards what follows
	accepted int
	startups []map[string]string
	failures []error
	conns    []*net.TCPConn
}

// NewFake starts a Fake that ends with the test. The test fails if a client sends
// something else than the script expects.
func NewFake(t testing.TB, scripts ...Script) *Fake {
	t.Helper()
	f, err := StartFake(scripts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		for _, err := range f.Failures() {
			t.Errorf("scripted server: %v", err)
		}
	})
	return f
}

// StartFake starts a Fake: its first connection runs the first script, the second
// one the second, and all further ones the last. The caller closes it.
func StartFake(scripts ...Script) (*Fake, error) {
	if len(scripts) == 0 {
		return nil, errors.New("start scripted server: no script")
	}
	port, err := reservePort()
	if err != nil {
		return nil, err
	}
	l, err := port.listen()
	if err != nil {
		port.close()
		return nil, err
	}
	f := &Fake{port: port, listener: l, scripts: scripts, ended: make(chan struct{})}
	f.running.Go(f.accept)
	return f, nil
}

// Addr returns host:port.
func (f *Fake) Addr() string { return f.port.addr() }

// Port returns the port; the host is 127.0.0.1.
func (f *Fake) Port() int { return f.port.port }

// Accepted returns how many connections were accepted so far.
func (f *Fake) Accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted
}

// Startups returns the parameters of the start-up messages so far.
func (f *Fake) Startups() []map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.startups)
}

// Failures returns where clients have not followed the script. A client that leaves,
// and a reset, are no failures.
func (f *Fake) Failures() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.failures)
}

// Close closes the listener and all connections, and returns when every script
// has ended. A second call does nothing.
func (f *Fake) Close() { f.closing.Do(f.close) }

func (f *Fake) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	close(f.ended)
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
	f.port.close()
}

// accept ends when Close closes the listener.
func (f *Fake) accept() {
	for {
		conn, err := f.listener.AcceptTCP()
		if err != nil {
			return
		}
		script, ok := f.admit(conn)
		if !ok {
			_ = conn.Close()
			return
		}
		f.running.Go(func() { f.play(conn, script) })
	}
}

// admit records conn for Close, unless Close was called already.
func (f *Fake) admit(conn *net.TCPConn) (Script, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ended:
		return Script{}, false
	default:
	}
	script := f.scripts[min(f.accepted, len(f.scripts)-1)]
	f.accepted++
	f.conns = append(f.conns, conn)
	return script, true
}

func (f *Fake) play(conn *net.TCPConn, script Script) {
	sc := &scriptedConn{tcp: conn, sendLeft: script.ResetAfterSent, receiveLeft: script.ResetAfterReceived}
	defer func() { _ = conn.Close() }()
	p := &Peer{conn: sc, backend: pgproto3.NewBackend(sc, sc), fake: f}
	for _, step := range script.Steps {
		if err := step(p); err != nil {
			if _, unexpected := errors.AsType[*unexpectedError](err); unexpected {
				f.mu.Lock()
				f.failures = append(f.failures, err)
				f.mu.Unlock()
			}
			return
		}
	}
}

func (f *Fake) addStartup(params map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.startups = append(f.startups, maps.Clone(params))
}

// unexpectedError says that the client has not followed the script.
type unexpectedError struct{ what string }

func (e *unexpectedError) Error() string { return e.what }

func unexpected(format string, args ...any) error {
	return &unexpectedError{fmt.Sprintf(format, args...)}
}

// errReset ends a script whose connection was reset on purpose.
var errReset = errors.New("reset by the script")

// scriptedConn counts bytes and resets the connection when a count is used up. It
// belongs to the goroutine of its script. It embeds no connection, so that no bytes
// bypass the counters.
type scriptedConn struct {
	tcp                   *net.TCPConn
	sendLeft, receiveLeft int // 0: not counted
}

func (c *scriptedConn) Read(b []byte) (int, error) {
	if c.receiveLeft > 0 && len(b) > c.receiveLeft {
		b = b[:c.receiveLeft]
	}
	n, err := c.tcp.Read(b)
	if c.receiveLeft > 0 {
		if c.receiveLeft -= n; c.receiveLeft == 0 {
			return n, c.reset()
		}
	}
	return n, err
}

func (c *scriptedConn) Write(b []byte) (int, error) {
	if c.sendLeft == 0 {
		return c.tcp.Write(b)
	}
	n, err := c.tcp.Write(b[:min(len(b), c.sendLeft)])
	if c.sendLeft -= n; c.sendLeft == 0 {
		return n, c.reset()
	}
	return n, err
}

// reset closes with RST instead of FIN and always returns errReset.
func (c *scriptedConn) reset() error {
	resetConn(c.tcp)
	return errReset
}

// resetConn closes so that the peer reads ECONNRESET. What was sent before can
// still be read; what is on its way to us is lost.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
