package reactor

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBytesArriveAndAnOrderlyEndIsTold(t *testing.T) {
	both(t, testBytesArriveAndAnOrderlyEndIsTold)
}

func testBytesArriveAndAnOrderlyEndIsTold(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	r.do(c.Resume)
	mustWrite(t, peer, []byte("hello"))
	unix.Close(peer)
	if err := r.ended(h); err != nil {
		t.Errorf("orderly end told as %v", err)
	}
	r.do(func() {
		if h.got.String() != "hello" {
			t.Errorf("got %q", h.got.String())
		}
		c.Close()
	})
}

func TestPausedConnectionLeavesBytesInTheKernel(t *testing.T) {
	both(t, testPausedConnectionLeavesBytesInTheKernel)
}

func testPausedConnectionLeavesBytesInTheKernel(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	mustWrite(t, peer, []byte("early"))
	// When a second connection was served, the loop has made its turns.
	h2 := newRecorder()
	seen := make(chan struct{}, 1)
	h2.received = func([]byte) { seen <- struct{}{} }
	c2, peer2 := r.pair(h2)
	r.do(c2.Resume)
	mustWrite(t, peer2, []byte("x"))
	r.wait(seen, "the second connection")
	r.do(func() {
		if h.got.Len() != 0 {
			t.Errorf("a paused connection handed over %q", h.got.String())
		}
	})
	got := make(chan struct{}, 1)
	r.do(func() {
		h.received = func([]byte) { got <- struct{}{} }
		c.Resume()
	})
	r.wait(got, "the bytes after Resume")
	unix.Close(peer)
	unix.Close(peer2)
}

func TestEndIsNotToldWhilePausedAndBytesComeFirst(t *testing.T) {
	both(t, testEndIsNotToldWhilePausedAndBytesComeFirst)
}

func testEndIsNotToldWhilePausedAndBytesComeFirst(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	mustWrite(t, peer, []byte("last words"))
	unix.Close(peer)
	r.do(c.Resume)
	if err := r.ended(h); err != nil {
		t.Errorf("end told as %v", err)
	}
	r.do(func() {
		if h.got.String() != "last words" {
			t.Errorf("got %q before the end", h.got.String())
		}
		c.Close()
	})
}

func TestWatchTellsThatThePeerHasGone(t *testing.T) { both(t, testWatchTellsThatThePeerHasGone) }

func testWatchTellsThatThePeerHasGone(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	r.do(c.Watch)
	unix.Close(peer)
	if err := r.ended(h); !errors.Is(err, ErrGone) {
		t.Errorf("told %v", err)
	}
	r.do(c.Close)
}

// Bytes that the kernel doesn't accept wait in order, and Flushed reports when they are sent.
func TestSlowReaderGetsEverythingInOrder(t *testing.T) { both(t, testSlowReaderGetsEverythingInOrder) }

func testSlowReaderGetsEverythingInOrder(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	var want bytes.Buffer
	for i := range 64 {
		want.Write(bytes.Repeat([]byte{byte(i)}, 64<<10))
	}
	r.do(func() {
		for b := want.Bytes(); len(b) > 0; b = b[64<<10:] {
			c.Send(b[:64<<10])
		}
		if c.Queued() == 0 {
			t.Error("4 MiB fitted into the socket: the test tests nothing")
		}
	})
	var got bytes.Buffer
	buf := make([]byte, 100_000)
	for got.Len() < want.Len() {
		n, err := unix.Read(peer, buf)
		if err != nil || n == 0 {
			t.Fatalf("read %d: %v", n, err)
		}
		got.Write(buf[:n])
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("bytes were lost, doubled or reordered")
	}
	r.wait(h.flushed, "Flushed")
	r.do(c.Close)
	unix.Close(peer)
}

func TestAbortDropsWhatTheKernelHasQueued(t *testing.T) {
	both(t, testAbortDropsWhatTheKernelHasQueued)
}

func testAbortDropsWhatTheKernelHasQueued(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ln)
	// A small window leaves most bytes in the kernel's queue on this side.
	_ = unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	if err := unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(ln, 1); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(ln)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	peer, _, err := unix.Accept(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	_ = unix.SetNonblock(fd, true)
	sent := 0
	r.do(func() {
		c, err := r.loop.Add(fd, h)
		if err != nil {
			t.Error(err)
			return
		}
		chunk := make([]byte, 64<<10)
		for c.Queued() == 0 {
			c.Send(chunk)
			sent += len(chunk)
		}
		c.Abort()
	})
	total := 0
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(peer, buf)
		total += max(n, 0)
		if err != nil {
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("peer saw %v, not a reset", err)
			}
			break
		}
		if n == 0 {
			t.Error("peer saw an orderly end")
			break
		}
	}
	if total >= sent/2 {
		t.Errorf("%d of %d bytes were delivered after the abort", total, sent)
	}
}

func TestSendToABrokenConnectionEndsIt(t *testing.T) { both(t, testSendToABrokenConnectionEndsIt) }

func testSendToABrokenConnectionEndsIt(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	unix.Close(peer)
	r.do(func() { c.Send([]byte("anybody?")) })
	if err := r.ended(h); !errors.Is(err, unix.EPIPE) {
		t.Errorf("told %v", err)
	}
	r.do(c.Close)
}

func TestLoopGivesItsProcessorBackWhenNothingComes(t *testing.T) {
	both(t, testLoopGivesItsProcessorBackWhenNothingComes)
}

func testLoopGivesItsProcessorBackWhenNothingComes(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	seen := make(chan struct{}, 100)
	h.received = func([]byte) { seen <- struct{}{} }
	c, peer := r.pair(h)
	r.do(c.Resume)
	for start := time.Now(); time.Since(start) < 5*tickTime; { // the first tick alone would prove nothing
		mustWrite(t, peer, []byte("x"))
		r.wait(seen, "a byte")
	}
	quiet := make(chan struct{})
	var look func()
	look = func() {
		ticking := true
		switch d := r.loop.drv.(type) {
		case *epoll:
			ticking = d.ticking
		case *uring:
			ticking = d.ticking
		}
		if ticking {
			r.loop.After(5*tickTime, look)
			return
		}
		close(quiet)
	}
	r.do(func() { r.loop.After(5*tickTime, look) })
	r.wait(quiet, "the end of the ticks")
	unix.Close(peer)
}

func TestTrimLosesNothing(t *testing.T) { both(t, testTrimLosesNothing) }

func testTrimLosesNothing(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	const want = 400 * 1000
	all := make(chan struct{})
	h.received = func([]byte) {
		if h.got.Len() == want {
			close(all)
		}
	}
	r.do(c.Resume)
	for i := range 400 { // more than there are buffers
		part := bytes.Repeat([]byte{byte(i)}, 1000)
		mustWrite(t, peer, part)
		r.do(func() {
			r.loop.Trim()
			c.Send(part[:1])
			r.loop.Trim() // this send is under way
		})
	}
	r.wait(all, "all bytes")
	for i, b := range h.got.Bytes() {
		if b != byte(i/1000) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	got := make([]byte, 1000)
	for n := 0; n < 400; {
		k, err := unix.Read(peer, got)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range got[:k] {
			if b != byte(n+i) {
				t.Fatalf("byte %d that came back is %d", n+i, b)
			}
		}
		n += k
	}
	unix.Close(peer)
}

func TestTimersRunInOrderAndStoppedOnesDoNot(t *testing.T) {
	both(t, testTimersRunInOrderAndStoppedOnesDoNot)
}

func testTimersRunInOrderAndStoppedOnesDoNot(t *testing.T, kind string) {
	r := newRig(t, kind)
	var order []int
	done := make(chan struct{})
	r.do(func() {
		// So far apart that this function may lose its processor in between.
		r.loop.After(600*time.Millisecond, func() { order = append(order, 3); close(done) })
		r.loop.After(100*time.Millisecond, func() { order = append(order, 1) })
		stopped := r.loop.After(200*time.Millisecond, func() { order = append(order, 99) })
		r.loop.After(300*time.Millisecond, func() { order = append(order, 2) })
		stopped.Stop()
		stopped.Stop()
		var none *Timer
		none.Stop()
	})
	r.wait(done, "the last timer")
	r.do(func() {
		if len(order) != 3 || order[0] != 1 || order[1] != 2 || order[2] != 3 {
			t.Errorf("order %v", order)
		}
	})
}

// A handler may close its own connection, or the other one of the same turn.
func TestHandlersMayCloseConnectionsOfTheSameTurn(t *testing.T) {
	both(t, testHandlersMayCloseConnectionsOfTheSameTurn)
}

func testHandlersMayCloseConnectionsOfTheSameTurn(t *testing.T, kind string) {
	r := newRig(t, kind)
	h1, h2 := newRecorder(), newRecorder()
	c1, p1 := r.pair(h1)
	c2, p2 := r.pair(h2)
	closed := make(chan struct{}, 2)
	kill := func([]byte) {
		c1.Close()
		c2.Close()
		closed <- struct{}{}
	}
	h1.received, h2.received = kill, kill
	mustWrite(t, p1, []byte("a"))
	mustWrite(t, p2, []byte("b"))
	r.do(func() {
		c1.Resume()
		c2.Resume()
	})
	r.wait(closed, "the first handler")
	r.do(func() {
		if len(closed) != 0 {
			t.Error("a closed connection was served")
		}
	})
	unix.Close(p1)
	unix.Close(p2)
}

// echo is the smallest form of the hot path: it sends back what it receives.
type echo struct{ c *Conn }

func (e *echo) Received(b []byte) { e.c.Send(b) }
func (e *echo) Ended(error)       {}
func (e *echo) Flushed()          {}

func TestMovingBytesAllocatesNothing(t *testing.T) { both(t, testMovingBytesAllocatesNothing) }

func testMovingBytesAllocatesNothing(t *testing.T, kind string) {
	runtime.LockOSThread() // as Run does: a ring belongs to a thread
	defer runtime.UnlockOSThread()
	l, err := New(kind)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	e := &echo{}
	if e.c, err = l.Add(fds[0], e); err != nil {
		t.Fatal(err)
	}
	e.c.Resume()
	msg, buf := []byte("Q\x00\x00\x00\x0dSELECT 1\x00"), make([]byte, 100)
	n := testing.AllocsPerRun(1000, func() {
		_, _ = unix.Write(fds[1], msg)
		l.drv.turn(l.limit())
		if l.drv.name() == "io_uring" { // the next turn submits what this one has sent
			l.drv.turn(0)
		}
		if k, err := unix.Read(fds[1], buf); err != nil || k != len(msg) {
			t.Fatalf("echoed %d: %v", k, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for one message", n)
	}
	l.drv.shut()
}
