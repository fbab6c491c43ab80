package pool

import "testing"

// BenchmarkGrantAndReturn requests and returns a lease while nobody waits and there are 5000
// other leases.
func BenchmarkGrantAndReturn(b *testing.B) {
	l := opened(10000, Rule{Max: 8000})
	for id := range uint64(5000) {
		l.Request(int(id%8), id, keyA, 0, 0)
	}
	b.ReportAllocs()
	for b.Loop() {
		g := l.Request(1, 1<<40, keyA, 0, 0)[0].(Grant)
		if _, err := l.Return(1, g.Lease); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTurnover returns a lease, which serves the oldest of 2000 requests, and makes a new
// request. There are 4000 leases of one full rule on 8 workers.
func BenchmarkTurnover(b *testing.B) {
	const leases, waiting = 4000, 2000
	l := opened(10000, Rule{Max: leases})
	var fifo []Grant
	request := uint64(0)
	ask := func() []Effect {
		request++
		return l.Request(int(request%8), request, keyA, 0, 0)
	}
	for range leases {
		fifo = append(fifo, ask()[0].(Grant))
	}
	for range waiting {
		ask()
	}
	b.ReportAllocs()
	for b.Loop() {
		effects, err := l.Return(fifo[0].Worker, fifo[0].Lease)
		if err != nil {
			b.Fatal(err)
		}
		fifo = fifo[1:]
		for _, e := range effects {
			if g, ok := e.(Grant); ok {
				fifo = append(fifo, g)
			}
		}
		ask()
	}
}
