package tlsmem

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestLayoutOfThisReleaseIsKnown(t *testing.T) {
	if err := CanGiveBack(); err != nil {
		t.Fatalf("%v: look at the new crypto/tls, then adapt memory.go", err)
	}
}

func TestUnknownLayoutIsReported(t *testing.T) {
	for want, conn := range map[string]any{
		"no field rawInput": struct{ hand bytes.Buffer }{},
		"no field hand":     struct{ rawInput bytes.Buffer }{},
		"of type []uint8": struct {
			rawInput bytes.Buffer
			hand     []byte
		}{},
	} {
		if _, err := locate(reflect.TypeOf(conn)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v instead of %q", err, want)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestIdleConnectionsAreSmall measures the memory of a server's end after a record of
// 16 KiB.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const count, most = 100, 4 << 10
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			config, mem := serverConfig(certificate(t), version), new(Memory)
			woken := make(chan struct{}, 1)
			wake := func() {
				select {
				case woken <- struct{}{}:
				default:
				}
			}
			held := make([]*Conn, count)
			buf := make([]byte, 16<<10)
			for i := range held {
				p := &pair{woken: woken, chunk: 1 << 20, server: Server(config, mem, Gate{}, discard, wake), client: Client(clientConfig(version), mem, discard, wake)}
				if s, c := p.handshake(t); s != nil || c != nil {
					t.Fatal(s, c)
				}
				if err := p.server.Receive(sealed(t, p.client, buf), buf, func([]byte) bool { return true }); err != nil {
					t.Fatal(err)
				}
				_ = sealed(t, p.server, buf)
				held[i] = p.server
			}
			with := heap()
			runtime.KeepAlive(held)
			held = nil
			each := (int64(with) - int64(heap())) / count
			t.Logf("%d bytes each", each)
			if each > most || each < 1<<10 {
				t.Errorf("an idle connection holds %d bytes, more than %d", each, most)
			}
		})
	}
}

func TestStoppedHeaderHoldsNoLargeBuffer(t *testing.T) {
	p := connected(t, tls.VersionTLS13, 1<<20)
	readAll(t, p.server)
	record := sealed(t, p.client, []byte("x"))
	if err := p.server.Receive(record[:3], make([]byte, 10), func([]byte) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if raw := bufferAt(p.server.tls, fields.rawInput); raw.Len() != 3 || raw.Cap() > 1<<10 {
		t.Errorf("%d bytes in %d", raw.Len(), raw.Cap())
	}
	if n := len(p.server.mem.small); n == 0 {
		t.Error("the buffer didn't come back")
	}
}

// TestQueryAllocatesNothing allows one allocation of crypto/tls per record: a reader of 24
// bytes. The race detector empties sync.Pools at random, so the bound doesn't hold there.
func TestQueryAllocatesNothing(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			p := connected(t, version, 1<<20)
			if n := testing.AllocsPerRun(200, roundTrip(t, p, 200)); n > 2 && !raceDetector {
				t.Errorf("%v allocations a query there and back, more than 2", n)
			}
		})
	}
}

// roundTrip returns a function that sends size bytes there and back.
func roundTrip(t testing.TB, p *pair, size int) func() {
	readAll(t, p.client)
	readAll(t, p.server)
	message, buf := make([]byte, size), make([]byte, 16<<10)
	got := 0
	take := func(b []byte) bool { got += len(b); return true }
	leg := func(from, to *Conn) {
		if err := from.Write(message); err != nil {
			t.Fatal(err)
		}
		if err := to.Receive(from.Pending(), buf, take); err != nil {
			t.Fatal(err)
		}
		from.Sent(len(from.Pending()))
	}
	return func() {
		got = 0
		leg(p.client, p.server)
		leg(p.server, p.client)
		if got != 2*size {
			t.Fatalf("%d bytes of %d", got, 2*size)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, size := range map[string]int{"query": 200, "record": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			trip := roundTrip(b, connected(b, tls.VersionTLS13, 1<<20), size)
			b.ReportAllocs()
			b.SetBytes(int64(2 * size))
			for b.Loop() {
				trip()
			}
		})
	}
}

// TestConnectionsOfALoopShareNoBuffer lets connections of one Memory wait inside records
// while others use buffers that were given back. Each round begins with another connection.
func TestConnectionsOfALoopShareNoBuffer(t *testing.T) {
	mem, pairs := new(Memory), make([]*pair, 4)
	for i := range pairs {
		pairs[i] = connected(t, tls.VersionTLS13, 1<<20)
		readAll(t, pairs[i].client)
		pairs[i].server.mem, pairs[i].server.t.mem = mem, mem
	}
	buf := make([]byte, 700)
	for round := range 20 {
		wires, got, want := make([][]byte, 4), make([][]byte, 4), make([][]byte, 4)
		for i, p := range pairs {
			want[i] = bytes.Repeat([]byte{byte(round), byte(i)}, 3000+round*200)
			wires[i] = sealed(t, p.client, want[i])
		}
		for step := range 16 {
			i := (step*(2*(round%2)+1) + round) % 4 // in turn, forwards and backwards
			piece := wires[i][:min(len(wires[i]), (len(want[i])+200)/4)]
			wires[i] = wires[i][len(piece):]
			take := func(b []byte) bool { got[i] = append(got[i], b...); return true }
			if err := pairs[i].server.Receive(piece, buf, take); err != nil {
				t.Fatalf("round %d, connection %d: %v", round, i, err)
			}
			_ = sealed(t, pairs[i].server, []byte("answer"))
		}
		for i := range pairs {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("round %d, connection %d: %d bytes of %d, or others", round, i, len(got[i]), len(want[i]))
			}
		}
	}
	if len(mem.small) == 0 {
		t.Error("nothing was given back")
	}
}
