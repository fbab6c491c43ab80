package reactor

import (
	"testing"

	"golang.org/x/sys/unix"
)

// However many peers don't read, another one must still be served.
func TestPeersThatDoNotReadHoldUpNobodyElse(t *testing.T) {
	both(t, testPeersThatDoNotReadHoldUpNobodyElse)
}

func testPeersThatDoNotReadHoldUpNobodyElse(t *testing.T, kind string) {
	r := newRig(t, kind)
	big := make([]byte, 16<<10)
	for range smallCount + slotCount + 1 {
		c, peer := r.pair(newRecorder())
		defer unix.Close(peer)
		r.do(func() {
			_ = unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
			c.Send(big)
		})
	}
	r.do(func() {}) // one more turn, which finishes the sends that can finish
	c, peer := r.pair(newRecorder())
	defer unix.Close(peer)
	r.do(func() { c.Send([]byte("hello")) })
	_ = unix.SetsockoptTimeval(peer, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(generous.Seconds())})
	b := make([]byte, 10)
	if n, err := unix.Read(peer, b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("got %q, %v", b[:max(n, 0)], err)
	}
}
