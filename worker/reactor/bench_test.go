package reactor

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkEcho(b *testing.B) {
	for _, kind := range []string{"epoll", "io_uring"} {
		b.Run(kind, func(b *testing.B) { benchmarkEcho(b, kind) })
	}
}

func benchmarkEcho(b *testing.B, kind string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l, err := New(kind)
	if err != nil {
		b.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fds[1])
	e := &echo{}
	if e.c, err = l.Add(fds[0], e); err != nil {
		b.Fatal(err)
	}
	e.c.Resume()
	msg, buf := make([]byte, 100), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = unix.Write(fds[1], msg)
		l.drv.turn(l.limit())
		if kind == "io_uring" {
			l.drv.turn(0)
		}
		_, _ = unix.Read(fds[1], buf)
	}
	l.drv.shut()
}

// side is one end of a small relay.
type side struct {
	from, to *Conn
}

func (s *side) Received(b []byte) {
	s.to.Send(b)
	if s.to.Full() {
		s.from.Pause()
	}
}
func (s *side) Ended(error) {}
func (s *side) Flushed()    { s.to.Resume() } // we are the handler of from: its queue is empty

// BenchmarkBulk relays a megabyte at a time from one peer to another.
func BenchmarkBulk(b *testing.B) {
	for _, kind := range []string{"epoll", "io_uring"} {
		b.Run(kind, func(b *testing.B) { benchmarkBulk(b, kind) })
	}
}

func benchmarkBulk(b *testing.B, kind string) {
	l, err := New(kind)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run()
	}()
	server, serverPeer := tcpPair(b)
	client, clientPeer := tcpPair(b)
	up, down := &side{}, &side{}
	ready := make(chan struct{})
	l.Post(func() {
		defer close(ready)
		s, _ := l.Add(server, down)
		c, _ := l.Add(client, up)
		down.from, down.to, up.from, up.to = s, c, c, s
		s.Resume()
		c.Resume()
	})
	<-ready
	msg, buf := make([]byte, 1<<20), make([]byte, 256<<10)
	b.SetBytes(1 << 20)
	for b.Loop() {
		go func() {
			for m := msg; len(m) > 0; {
				n, err := unix.Write(serverPeer, m)
				if err != nil {
					return
				}
				m = m[n:]
			}
		}()
		for got := 0; got < len(msg); {
			n, err := unix.Read(clientPeer, buf)
			if err != nil || n == 0 {
				b.Fatal(n, err)
			}
			got += n
		}
	}
	l.Stop()
	<-done
	unix.Close(serverPeer)
	unix.Close(clientPeer)
}

// BenchmarkClose closes all connections of a loop, as at the end of a failover or of the
// process. The cost of one must not grow with their number.
func BenchmarkClose(b *testing.B) {
	for _, kind := range []string{"epoll", "io_uring"} {
		for _, n := range []int{100, 4000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				r := newRig(b, kind)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					conns, peers := make([]*Conn, n), make([]int, n)
					for i := range conns {
						conns[i], peers[i] = r.pair(newRecorder())
					}
					r.do(func() {
						for _, c := range conns {
							c.Await()
						}
					})
					b.StartTimer()
					r.do(func() {
						for _, c := range conns {
							c.Close()
						}
					})
					var one [1]byte
					for _, fd := range peers {
						if got, err := unix.Read(fd, one[:]); got != 0 || err != nil {
							b.Fatalf("read %d bytes and %v, want the end", got, err)
						}
					}
					b.StopTimer()
					for _, fd := range peers {
						unix.Close(fd)
					}
					b.StartTimer()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/conn")
			})
		}
	}
}
