package pgtest

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echo is a server that sends back what it reads, and ends with the test.
func echo(t *testing.T) string {
	t.Helper()
	f := NewFake(t, Script{Steps: []Step{func(p *Peer) error {
		_, err := io.Copy(p.conn, p.conn)
		return err
	}}})
	return f.Addr()
}

func through(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	exchange(t, conn, "hello") // the link to the target exists now
	return conn.(*net.TCPConn)
}

func exchange(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	check(t, err)
	expectText(t, conn, text)
}

func expectText(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(generous)))
	got := make([]byte, len(text))
	_, err := io.ReadFull(conn, got)
	check(t, err)
	if string(got) != text {
		t.Fatalf("got %q, want %q", got, text)
	}
}

func expectNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(patience)))
	n, err := conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Fatalf("read %d bytes and %v, want silence on an open connection", n, err)
	}
}

func TestProxySilenceHoldsBytesAndKeepsConnections(t *testing.T) {
	for name, way := range map[string]Direction{"to server": ToServer, "to client": ToClient, "both ways": BothWays} {
		t.Run(name, func(t *testing.T) {
			p := NewProxy(t, echo(t))
			conn := through(t, p)
			p.Silence(way)
			_, err := io.WriteString(conn, "late")
			check(t, err)
			check(t, conn.CloseWrite())
			expectNothing(t, conn)
			p.Unsilence()
			expectText(t, conn, "late")
			if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
				t.Errorf("after the text: %q and %v, want the end", rest, err)
			}
		})
	}
}

func TestProxyIsSilentAfterBytes(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := through(t, p)
	silent := p.SilenceAfter(5)
	exchange(t, conn, "one")
	select {
	case <-silent:
		t.Fatal("silent after three bytes")
	default:
	}
	exchange(t, conn, "two")
	<-silent
	_, err := conn.Write([]byte("three"))
	check(t, err)
	expectNothing(t, conn)
	p.Unsilence()
	expectText(t, conn, "three")
	exchange(t, conn, "four")
}

func TestProxyDelaysEachWay(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := through(t, p)
	const delay = 60 * time.Millisecond
	p.Delay(delay)
	begin := time.Now()
	exchange(t, conn, "slow")
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("a round trip took %v, want twice %v at least", took, delay)
	}
}

func TestProxyResetsAllConnections(t *testing.T) {
	for name, silence := range map[string]Direction{"in service": 0, "in silence": BothWays} {
		t.Run(name, func(t *testing.T) {
			p := NewProxy(t, echo(t))
			conns := []*net.TCPConn{through(t, p), through(t, p)}
			p.Silence(silence)
			if p.Connections() != len(conns) {
				t.Errorf("%d connections, want %d", p.Connections(), len(conns))
			}
			p.ResetAll()
			for _, conn := range conns {
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read: %v, want a reset", err)
				}
			}
			WaitUntil(t, generous, "the links to go", func() bool { return p.Connections() == 0 })
			p.Unsilence()
			through(t, p)
		})
	}
}

func TestProxyRefusesNewAndKeepsOldConnections(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := through(t, p)
	p.Refuse()
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want it refused", err)
	}
	exchange(t, conn, "old")
	check(t, p.Accept())
	through(t, p)
}

func TestProxySplitsAtEveryByte(t *testing.T) {
	p := NewProxy(t, echo(t))
	p.Split(1)
	conn := through(t, p)
	exchange(t, conn, "every byte by itself")
	sizes := &writeSizes{}
	l := &link{gone: make(chan struct{})}
	if !p.forward(l, sizes, []byte("abc"), ToServer) {
		t.Fatal("forward failed")
	}
	if len(sizes.seen) != 3 {
		t.Errorf("writes of %v bytes, want three of one", sizes.seen)
	}
}

// writeSizes records the size of each write.
type writeSizes struct {
	net.Conn
	seen []int
}

func (w *writeSizes) Write(b []byte) (int, error) {
	w.seen = append(w.seen, len(b))
	return len(b), nil
}

func TestProxyResetsWhenTheTargetRefuses(t *testing.T) {
	p := NewProxy(t, RefusedAddr(t))
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil { // else the reset was quicker than the end of connect
		defer func() { _ = conn.Close() }()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connect and read: %v, want a reset", err)
	}
}

func TestProxyForwardsAResetOfTheServer(t *testing.T) {
	f := NewFake(t, Script{Steps: []Step{Startup(), Reset()}})
	p := NewProxy(t, f.Addr())
	_, err := Connect(t.Context(), ClientConfig{Addr: p.Addr(), User: "u"})
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connect: %v, want a reset", err)
	}
}

func TestProxyEndsWhileItHoldsBytes(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := through(t, p)
	p.Silence(BothWays)
	_, err := io.WriteString(conn, "never")
	check(t, err)
	expectNothing(t, conn)
	p.Close() // TestMain looks for what is left
	p.Close()
	if err := p.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func TestProxySilenceMakesARealLoginHang(t *testing.T) {
	c := New(t, Options{})
	p := NewProxy(t, c.Primary().Addr())
	cfg := c.Primary().Config("", "", "postgres")
	cfg.Addr = p.Addr()
	p.Split(1)
	client, err := Connect(t.Context(), cfg)
	check(t, err)
	defer func() { check(t, client.Close()) }()
	p.Silence(ToClient)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := Connect(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connect: %v, want it to hang", err)
	}
	p.Unsilence()
	_, err = client.Query(t.Context(), "SELECT 1")
	check(t, err)
}
