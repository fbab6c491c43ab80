package ipc

import "testing"

// BenchmarkSendReceive is one message from one end to the other, both ends in
// this process.
func BenchmarkSendReceive(b *testing.B) {
	key := PoolKey{Database: "app", User: "web"}
	for _, bench := range []struct {
		name string
		m    Message
	}{
		{"LeaseReturn", &LeaseReturn{Lease: 12345}},
		{"LeaseRequest", &LeaseRequest{ID: 7, Key: key, Requested: "app"}},
		{"ReclaimOf500", &Reclaim{ID: 7, Key: key, Leases: make([]uint64, 500)}},
		{"NewClient", &NewClient{ID: 7, Address: "192.0.2.1:54321"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			row := catalogue[bench.m.Number()]
			from, to := connPair(b, row.From, row.To, onePhase(row))
			fds := openFDs(b, row.FDs)
			b.ReportAllocs()
			for b.Loop() {
				if err := from.Send(bench.m, fds...); err != nil {
					b.Fatal(err)
				}
				env, err := to.Receive()
				if err != nil {
					b.Fatal(err)
				}
				env.CloseFDs()
			}
		})
	}
}
