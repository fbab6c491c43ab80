package relay

import (
	"bytes"
	"testing"
	"unique"
)

// preparedQuery is what a client asks of a statement that it calls "one", and the
// answer.
func preparedQuery() (question, answer []byte) {
	return bytes.Join([][]byte{msg('B', "\x00one\x00\x00\x00\x00\x00\x00\x00"), msg('D', "P\x00"), exec, sync_}, nil),
		bytes.Join([][]byte{msg('2', ""), msg('T', "\x00\x00"), msg('D', "\x00\x01\x00\x00\x00\x011"), done, ready("I")}, nil)
}

// BenchmarkRelay is one query of a prepared statement with its answer, as a relay
// of the session pipeline sees it: two chunks looked at, none copied.
func BenchmarkRelay(b *testing.B) {
	question, answer := preparedQuery()
	var p Backend
	var r line
	r.start(&Totals{}, &p, clientInterests, serverInterests)
	b.SetBytes(int64(len(question) + len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		if n, _, err := r.clientBytes(question); err != nil || n != len(question) {
			b.Fatalf("%d bytes of %d forwarded, %v", n, len(question), err)
		}
		if err := r.serverBytes(answer); err != nil {
			b.Fatal(err)
		}
		if !r.idle() {
			b.Fatal("the conversation has no end")
		}
	}
}

// BenchmarkRelayLarge is a result of 1 MiB in one row, in chunks of 64 KiB.
func BenchmarkRelayLarge(b *testing.B) {
	const size, chunk = 1 << 20, 64 << 10
	answer := bytes.Join([][]byte{msg('D', string(make([]byte, size))), done, ready("I")}, nil)
	var p Backend
	var r line
	r.start(&Totals{}, &p, clientInterests, serverInterests)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.clientBytes(query); err != nil {
			b.Fatal(err)
		}
		for from := 0; from < len(answer); from += chunk {
			if err := r.serverBytes(answer[from:min(from+chunk, len(answer))]); err != nil {
				b.Fatal(err)
			}
		}
		if !r.idle() {
			b.Fatal("the conversation has no end")
		}
	}
}

// BenchmarkPooled is the same query in the transaction pipeline: names of
// statements change, and what is passed on is copied.
func BenchmarkPooled(b *testing.B) {
	question, answer := preparedQuery()
	var p Backend
	var r line
	r.start(&Totals{}, &p, pooledClient, pooledServer)
	t := &Pooled{line: &r, shared: NewShared(), x: &p.exchange, tracked: unique.Make(settings{})}
	var out []byte
	roundTrip := func(question, answer []byte, added int) {
		var err error
		if out, _, err = t.clientBytes(question, out[:0]); err != nil || len(out) == 0 {
			b.Fatalf("%d bytes to the server, %v", len(out), err)
		}
		if out, err = t.serverBytes(answer, out[:0]); err != nil || len(out) != len(answer)-added {
			b.Fatalf("%d bytes of %d to the client, %v", len(out), len(answer), err)
		}
		if t.x.len() != 0 || !r.idle() {
			b.Fatal("the conversation has no end")
		}
	}
	description := bytes.Join([][]byte{msg('t', "\x00\x00"), msg('n', "")}, nil)
	roundTrip(append(msg('P', "one\x00SELECT 1\x00\x00\x00"), sync_...),
		bytes.Join([][]byte{msg('1', ""), description, ready("I")}, nil), len(description))
	b.SetBytes(int64(len(question) + len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(question, answer, 0)
	}
}
