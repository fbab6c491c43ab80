package reactor

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const generous = 30 * time.Second

// recorder is a Handler that records its calls.
type recorder struct {
	got      bytes.Buffer
	ended    chan error
	flushed  chan struct{}
	received func(b []byte)
}

func newRecorder() *recorder {
	return &recorder{ended: make(chan error, 10), flushed: make(chan struct{}, 10)}
}

func (r *recorder) Received(b []byte) {
	r.got.Write(b)
	if r.received != nil {
		r.received(b)
	}
}
func (r *recorder) Ended(err error) { r.ended <- err }
func (r *recorder) Flushed()        { r.flushed <- struct{}{} }

// both runs a test on each kind of loop. They must behave the same.
func both(t *testing.T, test func(*testing.T, string)) {
	for _, kind := range []string{"epoll", "io_uring"} {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// rig is a loop that runs, with helpers to act on its goroutine.
type rig struct {
	t    testing.TB
	loop *Loop
	done chan struct{}
}

func newRig(t testing.TB, kind string) *rig {
	t.Helper()
	l, err := New(kind)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, loop: l, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		l.Run()
	}()
	t.Cleanup(func() {
		l.Stop()
		r.wait(r.done, "the loop to stop")
	})
	return r
}

func (r *rig) wait(ch <-chan struct{}, what string) {
	r.t.Helper()
	select {
	case <-ch:
	case <-time.After(generous):
		r.t.Fatalf("waited in vain for %s", what)
	}
}

// do runs f on the loop's goroutine and waits for it.
func (r *rig) do(f func()) {
	r.t.Helper()
	ch := make(chan struct{})
	r.loop.Post(func() {
		defer close(ch)
		f()
	})
	r.wait(ch, "a posted function")
}

// pair returns a connection of the loop and the descriptor of its peer.
func (r *rig) pair(h Handler) (*Conn, int) {
	r.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[1], false); err != nil {
		r.t.Fatal(err)
	}
	var c *Conn
	r.do(func() { c, err = r.loop.Add(fds[0], h) })
	if err != nil {
		r.t.Fatal(err)
	}
	return c, fds[1]
}

func (r *rig) ended(h *recorder) error {
	r.t.Helper()
	select {
	case err := <-h.ended:
		return err
	case <-time.After(generous):
		r.t.Fatal("the end of the connection wasn't told")
		return nil
	}
}

func mustWrite(t *testing.T, fd int, b []byte) {
	t.Helper()
	if n, err := unix.Write(fd, b); err != nil || n != len(b) {
		t.Fatalf("wrote %d of %d: %v", n, len(b), err)
	}
}

// tcpPair returns both ends of a connection on the loopback.
func tcpPair(tb testing.TB) (int, int) {
	tb.Helper()
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(ln)
	if err := errors.Join(unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(ln, 1)); err != nil {
		tb.Fatal(err)
	}
	sa, err := unix.Getsockname(ln)
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		tb.Fatal(err)
	}
	peer, _, err := unix.Accept(ln)
	if err != nil {
		tb.Fatal(err)
	}
	return fd, peer
}
