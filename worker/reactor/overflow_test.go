package reactor

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// In one turn there are more completions than the queue holds, and those of failed sends
// come last. These sends must not count as done while their completions are missing.
func TestSendsAreNotLostBehindMoreCompletionsThanTheQueueHolds(t *testing.T) {
	both(t, testSendsAreNotLostBehindMoreCompletionsThanTheQueueHolds)
}

func testSendsAreNotLostBehindMoreCompletionsThanTheQueueHolds(t *testing.T, kind string) {
	const closing, sending = 10_000, 200
	r := newRig(t, kind)
	many := r.copies(closing)
	var full [sending]*Conn
	var peers [sending]int
	var filled [sending]int
	for i := range full {
		full[i], peers[i] = r.pair(newRecorder())
		defer unix.Close(peers[i])
		filled[i] = fill(t, full[i].FD())
	}
	last := []byte("the last words")
	r.do(func() {
		for _, c := range many {
			c.Close()
		}
		for _, c := range full {
			c.Send(last)
		}
	})
	for i, peer := range peers {
		got := mustRead(t, peer, filled[i]+len(last))
		if !bytes.HasSuffix(got, last) {
			t.Fatalf("connection %d: the last bytes are %q", i, got[len(got)-len(last):])
		}
	}
	r.checkTable(sending)
}

// copies returns armed connections that all lead to the same peer. The test needs many, and
// separate pairs would need too many descriptors.
func (r *rig) copies(n int) []*Conn {
	r.t.Helper()
	first, peer := r.pair(newRecorder())
	r.t.Cleanup(func() { unix.Close(peer) })
	conns := []*Conn{first}
	var err error
	r.do(func() {
		for len(conns) < n && err == nil {
			var fd int
			var c *Conn
			if fd, err = unix.FcntlInt(uintptr(first.FD()), unix.F_DUPFD_CLOEXEC, 0); err != nil {
				return
			}
			if c, err = r.loop.Add(fd, newRecorder()); err == nil {
				conns = append(conns, c)
			}
		}
		for _, c := range conns {
			c.Resume()
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.do(func() {}) // the kernel has the receives now
	return conns
}

// fill fills the queue of a socket, and returns how many bytes that took.
func fill(t *testing.T, fd int) int {
	t.Helper()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	for n, b := 0, make([]byte, 1024); ; {
		k, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT)
		switch err {
		case nil:
			n += k
		case unix.EAGAIN:
			return n
		default:
			t.Fatal(err)
		}
	}
}

func mustRead(t *testing.T, fd, n int) []byte {
	t.Helper()
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(generous.Seconds())})
	got := make([]byte, n)
	for at := 0; at < n; {
		k, err := unix.Read(fd, got[at:])
		if err != nil || k == 0 {
			t.Fatalf("read %d of %d bytes: %v", at, n, err)
		}
		at += k
	}
	return got
}

// checkTable checks that each place in the driver's table is either free or taken by one of
// the remaining connections, and that the kernel has no operation on these.
func (r *rig) checkTable(left int) {
	r.t.Helper()
	u, ok := r.loop.drv.(*uring)
	if !ok {
		return
	}
	r.do(func() {
		free := map[int32]bool{}
		for _, i := range u.free {
			if free[i] || u.conns[i] != nil {
				r.t.Errorf("place %d was given back while it was in use", i)
			}
			free[i] = true
		}
		if n := len(u.conns) - len(free); n != left {
			r.t.Errorf("%d places are taken, not %d", n, left)
		}
		for _, c := range u.conns {
			if c != nil && c.ring.pending != 0 {
				r.t.Errorf("the kernel holds %d operations of a connection, by our count", c.ring.pending)
			}
		}
	})
}
