package reactor

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkClose closes all connections of a loop, as at the end of a failover or of the
// process. What one costs must not grow with their number.
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
