package reactor

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// told is a Handler that counts how often the loop reported something to read.
type told struct {
	recorder
	times chan struct{}
}

func newTold() *told {
	h := &told{recorder: *newRecorder(), times: make(chan struct{}, 10)}
	h.received = func([]byte) { h.times <- struct{}{} }
	return h
}

// toldPair is a loop of a kind with a connection whose Handler is told, and the
// descriptor of its peer.
func toldPair(t *testing.T, kind string) (r *rig, h *told, c *Conn, peer int) {
	t.Helper()
	r, h = newRig(t, kind), newTold()
	c, peer = r.pair(h)
	return r, h, c, peer
}

// turns lets the loop make enough turns to see what has arrived.
func (r *rig) turns() {
	r.t.Helper()
	for range 3 {
		r.do(func() {})
	}
}

// bytePipe returns the end to read and the end to write of a pipe.
func (r *rig) bytePipe() (from, to int) {
	r.t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		r.t.Fatal(err)
	}
	return p[0], p[1]
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

// The loop leaves incoming bytes in the kernel until somebody reads them, and reports them
// once per Await.
func TestAwaitTellsOnceAndTakesNothing(t *testing.T) { both(t, testAwait) }

func testAwait(t *testing.T, kind string) {
	r, h, c, peer := toldPair(t, kind)
	defer unix.Close(peer)
	r.reads(c, 8, "", nil)
	r.do(c.Await)
	mustWrite(t, peer, []byte("one"))
	r.wait(h.times, "the first bytes")
	mustWrite(t, peer, []byte("two"))
	r.reads(c, 4, "onet", nil)
	// Some bytes have arrived before the call.
	r.do(c.Await)
	r.wait(h.times, "the rest")
	r.reads(c, 8, "wo", nil)
	r.reads(c, 8, "", nil)
	// From now on the loop reads.
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
		r, h, c, peer := toldPair(t, kind)
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
		r, h, c, peer := toldPair(t, kind)
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

func TestAwaitAfterWatchTellsOfWhatIsThere(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		r, h, c, peer := toldPair(t, kind)
		defer unix.Close(peer)
		r.do(c.Watch)
		mustWrite(t, peer, []byte("there"))
		r.turns()
		r.do(c.Await)
		r.wait(h.times, "the bytes")
		r.reads(c, 8, "there", nil)
		if len(h.ended) > 0 {
			t.Error("bytes were told as an end")
		}
	})
}

// The loop neither reports bytes that nobody awaits any more nor takes them for the end.
func TestWatchAfterAwaitLeavesWhatIsThere(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for name, await := range map[string]func(*rig, *Conn){
			"in one turn":      func(*rig, *Conn) {},
			"in the next turn": func(r *rig, c *Conn) { r.do(c.Await); r.turns() },
		} {
			t.Run(name, func(t *testing.T) {
				r, h, c, peer := toldPair(t, kind)
				await(r, c)
				r.do(func() {
					c.Await()
					mustWrite(t, peer, []byte("there"))
					c.Watch()
				})
				r.turns()
				if len(h.times) > 0 || len(h.ended) > 0 {
					t.Errorf("told of bytes %d times and of an end %d times", len(h.times), len(h.ended))
				}
				r.do(func() {
					if c.set.events&unix.EPOLLIN != 0 {
						t.Error("the loop gets no rest from bytes that nobody awaits")
					}
				})
				r.reads(c, 8, "there", nil)
				unix.Close(peer)
				if err := r.ended(&h.recorder); !errors.Is(err, ErrGone) {
					t.Errorf("ended with %v, want ErrGone", err)
				}
			})
		}
	})
}

// Bytes that were reported stay readable until somebody reads them. They must not keep the
// loop busy.
func TestWhatWasToldOfIsNotInTheEpollSet(t *testing.T) {
	r, h, c, peer := toldPair(t, "epoll")
	defer unix.Close(peer)
	r.do(c.Await)
	mustWrite(t, peer, []byte("unread"))
	r.wait(h.times, "the bytes")
	r.do(func() {
		if c.set.watched {
			t.Error("the kernel still tells of a descriptor that nobody awaits")
		}
	})
	r.do(c.Await)
	r.wait(h.times, "the same bytes")
}

// A polled function may close a connection and add another one with the same descriptor
// number. The second must not get this turn's event of the first.
func TestANumberThatIsUsedAgainInATurnHasNoOldEvents(t *testing.T) {
	r := newRig(t, "epoll")
	old, young := newRecorder(), newRecorder()
	c, peer := r.pair(old)
	fd, otherPeer := tcpPair(t)
	from, to := r.bytePipe()
	defer unix.Close(from)
	defer unix.Close(to)
	replaced := make(chan struct{})
	replace := func() bool {
		defer close(replaced)
		number := c.FD()
		c.Abort()
		if err := unix.Dup3(fd, number, unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		unix.Close(fd)
		other, err := r.loop.Add(number, young)
		if err != nil {
			t.Error(err)
			return false
		}
		other.Watch()
		return false
	}
	r.do(func() {
		c.Watch()
		if err := r.loop.Poll(from, replace); err != nil {
			t.Error(err)
		}
	})
	r.do(func() { // both are there when the next turn begins, in this order
		mustWrite(t, to, []byte("x"))
		unix.Close(peer)
	})
	r.wait(replaced, "the polled function")
	r.turns()
	if len(young.ended) > 0 {
		t.Fatalf("a new connection was told of another's end: %v", <-young.ended)
	}
	unix.Close(otherPeer)
	if err := r.ended(young); !errors.Is(err, ErrGone) {
		t.Errorf("ended with %v, want ErrGone", err)
	}
}

// The loop reports a polled descriptor until its function returns false.
func TestPollCallsUntilItIsToldNotTo(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		r := newRig(t, kind)
		from, to := r.bytePipe()
		defer unix.Close(from)
		calls := make(chan struct{}, 10)
		r.do(func() {
			if err := r.loop.Poll(from, func() bool {
				n, err := unix.Read(from, make([]byte, 10))
				calls <- struct{}{}
				return n > 0 && err == nil
			}); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			mustWrite(t, to, []byte("x"))
			r.wait(calls, "a byte in a pipe")
		}
		unix.Close(to)
		r.wait(calls, "the end of a pipe")
		// The descriptor stays at its end, which the loop must not report any more.
		r.turns()
		if len(calls) > 0 {
			t.Error("called again after it had enough")
		}
	})
}
