package reactor

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detach detaches a connection and returns the descriptor, -1 for none.
func (r *rig) detach(c *Conn) int {
	r.t.Helper()
	got := make(chan int, 1)
	r.do(func() { c.Detach(func(fd int) { got <- fd }) })
	select {
	case fd := <-got:
		return fd
	case <-time.After(generous):
		r.t.Fatal("the connection was never detached")
		return -1
	}
}

// prepare are the states in which a connection may be when it is detached.
var prepare = map[string]func(r *rig, c *Conn){
	"paused":  func(*rig, *Conn) {},
	"armed":   func(r *rig, c *Conn) { r.do(c.Resume) },
	"watched": func(r *rig, c *Conn) { r.do(c.Watch) },
	"receiving at length": func(r *rig, c *Conn) {
		for _, f := range []func(){c.Resume, c.Pause, c.Resume} {
			r.do(f)
			r.do(func() { r.loop.After(time.Millisecond, func() {}) })
		}
	},
	"being paused": func(r *rig, c *Conn) {
		r.do(c.Resume)
		r.do(c.Pause)
	},
}

func TestDetachedConnectionGoesOnInAnotherLoop(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for name, before := range prepare {
			for _, other := range []string{"epoll", "io_uring"} {
				t.Run(name+" to "+other, func(t *testing.T) { testDetachedConnectionGoesOn(t, kind, other, before) })
			}
		}
	})
}

func testDetachedConnectionGoesOn(t *testing.T, kind, other string, before func(*rig, *Conn)) {
	from, to := newRig(t, kind), newRig(t, other)
	old := newRecorder()
	c, peer := from.pair(old)
	defer unix.Close(peer)
	before(from, c)
	fd := from.detach(c)
	if fd < 0 {
		t.Fatal("not detached although nothing was said")
	}
	mustWrite(t, peer, []byte("ping"))
	h := newRecorder()
	came := make(chan struct{})
	h.received = func([]byte) { close(came) }
	to.do(func() {
		c, err := to.loop.Add(fd, h)
		if err != nil {
			t.Error(err)
			return
		}
		c.Resume()
		c.Send([]byte("pong"))
	})
	to.wait(came, "what the peer has said")
	var b [10]byte
	if n, err := unix.Read(peer, b[:]); err != nil || string(b[:n]) != "pong" {
		t.Errorf("the peer got %q, %v", b[:max(n, 0)], err)
	}
	from.do(func() {
		c.Close() // must do nothing
		if old.got.Len() > 0 {
			t.Errorf("the old loop has read %q", old.got.String())
		}
		if u, ok := from.loop.drv.(*uring); ok && len(u.conns) != len(u.free) {
			t.Errorf("%d of %d places are free", len(u.free), len(u.conns))
		}
	})
	to.do(func() {
		if h.got.String() != "ping" {
			t.Errorf("the new loop has read %q", h.got.String())
		}
	})
}

// Bytes that arrive while a connection is being detached must be either delivered or still
// in the kernel. None may be lost.
func TestNothingIsLostWhileDetaching(t *testing.T) { both(t, testNothingIsLostWhileDetaching) }

func testNothingIsLostWhileDetaching(t *testing.T, kind string) {
	const size = 100_000 // more than one receive takes
	r := newRig(t, kind)
	h := newRecorder()
	c, peer := r.pair(h)
	defer unix.Close(peer)
	fds, all := make(chan int, 1), make(chan struct{})
	read := false
	h.received = func([]byte) {
		if !read {
			read = true
			c.Detach(func(fd int) { fds <- fd })
		}
		if h.got.Len() == size {
			close(all)
		}
	}
	r.do(func() {
		c.Resume()
		mustWrite(t, peer, make([]byte, size))
	})
	var fd int
	select {
	case fd = <-fds:
	case <-time.After(generous):
		t.Fatal("the connection was never detached")
	}
	if fd < 0 {
		r.do(c.Resume)
		r.wait(all, "what was read")
		r.do(c.Close)
		return
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(generous / time.Second)})
	var first int
	r.do(func() { first = h.got.Len() })
	for rest := size - first; rest > 0; {
		n, err := unix.Read(fd, make([]byte, rest))
		if err != nil || n == 0 {
			t.Fatalf("%d bytes were read, and %d of %d are missing: %v", first, rest, size, err)
		}
		rest -= n
	}
}

func TestAbortEndsADetach(t *testing.T) {
	r := newRig(t, "io_uring")
	c, peer := r.pair(newRecorder())
	defer unix.Close(peer)
	r.do(c.Resume)
	r.do(func() { r.loop.After(time.Millisecond, func() {}) })
	called := false
	r.do(func() {
		c.Detach(func(int) { called = true })
		if called {
			t.Error("detached at once: the test tests nothing")
		}
		c.Abort()
	})
	var b [1]byte
	if n, _ := unix.Read(peer, b[:]); n > 0 {
		t.Errorf("the peer got %q", b)
	}
	r.do(func() {
		if called {
			t.Error("an aborted connection was handed out")
		}
	})
}

func TestConnectionThatStillHasToSendIsNotDetached(t *testing.T) {
	both(t, testConnectionThatStillHasToSendIsNotDetached)
}

func testConnectionThatStillHasToSendIsNotDetached(t *testing.T, kind string) {
	r := newRig(t, kind)
	c, peer := r.pair(newRecorder())
	defer unix.Close(peer)
	r.do(func() {
		for c.Queued() == 0 || kind == "io_uring" && c.Queued() < 1<<20 {
			c.Send(make([]byte, 64<<10))
		}
	})
	if fd := r.detach(c); fd >= 0 {
		t.Error("detached with bytes in its queue")
	}
	r.do(c.Abort)
}
