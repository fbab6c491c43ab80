package reactor

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// told is a Handler that counts how often there was something to read.
type told struct {
	recorder
	times chan struct{}
}

func newTold() *told {
	h := &told{recorder: *newRecorder(), times: make(chan struct{}, 10)}
	h.received = func([]byte) { h.times <- struct{}{} }
	return h
}

// read reads from a connection of the loop.
func (r *rig) read(c *Conn, n int) (string, error) {
	r.t.Helper()
	b := make([]byte, n)
	var got int
	var err error
	r.do(func() { got, err = c.Read(b) })
	return string(b[:got]), err
}

func (r *rig) reads(c *Conn, n int, want string, wantErr error) {
	r.t.Helper()
	if got, err := r.read(c, n); got != want || !errors.Is(err, wantErr) {
		r.t.Errorf("read %q and %v, want %q and %v", got, err, want, wantErr)
	}
}

// What comes is left in the kernel until somebody reads it, and told of once for each
// Await.
func TestAwaitTellsOnceAndTakesNothing(t *testing.T) { both(t, testAwait) }

func testAwait(t *testing.T, kind string) {
	r := newRig(t, kind)
	h := newTold()
	c, peer := r.pair(h)
	defer unix.Close(peer)
	r.reads(c, 8, "", nil)
	r.do(c.Await)
	mustWrite(t, peer, []byte("one"))
	r.wait(h.times, "the first bytes")
	mustWrite(t, peer, []byte("two"))
	r.reads(c, 4, "onet", nil)
	// Some is there before the call.
	r.do(c.Await)
	r.wait(h.times, "the rest")
	r.reads(c, 8, "wo", nil)
	r.reads(c, 8, "", nil)
	// And from now on the loop reads.
	r.do(c.Await)
	r.do(c.Resume)
	mustWrite(t, peer, []byte("three"))
	r.wait(h.times, "what the loop reads")
	r.do(func() {
		if h.got.String() != "three" || len(h.times) > 0 {
			t.Errorf("the loop has read %q and told %d times more", h.got.String(), len(h.times))
		}
	})
}

func TestAwaitedConnectionCanBeWatchedAndDetached(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		r := newRig(t, kind)
		h := newTold()
		c, peer := r.pair(h)
		r.do(c.Await)
		r.do(c.Watch)
		mustWrite(t, peer, []byte("unread"))
		r.do(func() {})
		unix.Close(peer)
		if err := r.ended(&h.recorder); !errors.Is(err, ErrGone) {
			t.Errorf("ended with %v, want ErrGone", err)
		}
		other, peer := r.pair(newTold())
		defer unix.Close(peer)
		r.do(other.Await)
		fd := r.detach(other)
		if fd < 0 {
			t.Fatal("not detached")
		}
		unix.Close(fd)
		if len(h.times) > 0 {
			t.Error("bytes were told of although nobody awaits them")
		}
	})
}

func TestAwaitTellsTheEnd(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		r := newRig(t, kind)
		h := newTold()
		c, peer := r.pair(h)
		r.do(c.Await)
		unix.Close(peer)
		r.wait(h.times, "the end")
		r.reads(c, 8, "", io.EOF)
		r.do(c.Close)
		if _, err := r.read(c, 8); err == nil {
			t.Error("a closed connection was read")
		}
	})
}

// A descriptor that is no connection is told of until its function has had enough.
func TestPollCallsUntilItIsToldNotTo(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		r := newRig(t, kind)
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[0])
		calls := make(chan struct{}, 10)
		r.do(func() {
			if err := r.loop.Poll(p[0], func() bool {
				n, err := unix.Read(p[0], make([]byte, 10))
				calls <- struct{}{}
				return n > 0 && err == nil
			}); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			mustWrite(t, p[1], []byte("x"))
			r.wait(calls, "a byte in a pipe")
		}
		unix.Close(p[1])
		r.wait(calls, "the end of a pipe")
		// Its end stays where it is; nobody wants to hear of it.
		for range 3 {
			r.do(func() {})
		}
		if len(calls) > 0 {
			t.Error("called again after it had enough")
		}
	})
}
