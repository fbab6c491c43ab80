package supervisor

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// poorListener has no descriptor left for a connection.
type poorListener struct{ calls int }

func (l *poorListener) Accept() (net.Conn, error) {
	l.calls++
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: unix.EMFILE}
}

func (l *poorListener) Close() error   { return nil }
func (l *poorListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestWantOfDescriptorsPausesAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l, failed := &poorListener{}, 0
		a := &acceptor{ln: l, gate: newGate([]net.Listener{l}), fail: func(err error) {
			if errors.Is(err, unix.EMFILE) {
				failed++
			}
		}}
		done := make(chan struct{})
		go func() { defer close(done); a.run(ctx) }()
		synctest.Wait()
		if l.calls != 0 {
			t.Error("accepted through a closed gate")
		}
		a.gate.set(true)
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		if l.calls != 10 || failed != 10 {
			t.Errorf("%d attempts and %d complaints in a second", l.calls, failed)
		}
		cancel()
		<-done
	})
}

func TestClosedGateLeavesClientsInTheBacklog(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan accepted, 4)
	a := &acceptor{
		ln: ln, gate: newGate([]net.Listener{ln}), take: func(c accepted) bool { taken <- c; return true },
		fail: func(err error) { t.Error(err) },
	}
	done := make(chan struct{})
	go func() { defer close(done); a.run(ctx) }()
	connect := func() {
		t.Helper()
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
	}
	take := func() {
		t.Helper()
		select {
		case c := <-taken:
			if fl, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err != nil || fl&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor flags %d, %v", fl, err)
			}
			unix.Close(c.fd)
		case <-time.After(limit):
			t.Fatal("not accepted")
		}
	}
	connect()
	a.gate.set(true)
	take()
	// Closing wakes the accept that waits; the next client stays in the backlog.
	a.gate.set(false)
	connect()
	a.gate.set(true)
	take()
	cancel()
	a.gate.shut()
	<-done
	if len(taken) != 0 {
		t.Error("a client was taken twice")
	}
}
