package reactor

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that doesn't read still answers the kernel's probes of its closed window. It counts
// as alive, however long that lasts.
func TestAPeerThatDoesNotReadIsNotUnanswered(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		peer, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := nc.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		fd := -1
		if err := raw.Control(func(of uintptr) { fd, _ = unix.Dup(int(of)) }); err != nil || fd < 0 {
			t.Fatal(err)
		}
		nc.Close()

		r := newRig(t, kind)
		var c *Conn
		r.do(func() {
			if c, err = r.loop.Add(fd, newRecorder()); err == nil {
				for b := make([]byte, 64<<10); !c.Full(); {
					c.Send(b)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		limit := time.After(generous)
		for asked, most := 0, 0; asked < 4; {
			r.do(func() {
				info, ierr := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
				if ierr != nil {
					t.Error(ierr)
					return
				}
				asked, most = int(info.Backoff), max(most, c.Unanswered())
			})
			if most > 1 {
				t.Fatalf("%d questions in a row count as unanswered", most)
			}
			select {
			case <-tick.C:
			case <-limit:
				t.Fatal("the kernel has not asked for room")
			}
		}
		r.do(func() { c.Abort() })
	})
}
