package tlsmem

import (
	"bytes"
	"crypto/tls"
	"testing"
	"testing/cryptotest"
)

// FuzzRecords damages at most one byte of three records, and splits them anywhere. Without
// damage the reader must get everything that was written, otherwise a prefix of it and a
// final error.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("select 1"), 3, 9, 5, byte(1), false)
	f.Add([]byte("select 1"), 0, 40, 0, byte(0), true)
	f.Add(bytes.Repeat([]byte("x"), 20000), 16400, 16420, 16406, byte(0x80), true)
	cert := certificate(f)
	f.Fuzz(func(t *testing.T, plain []byte, first, second, at int, flip byte, old bool) {
		if len(plain) > 40000 || len(plain) == 0 {
			return
		}
		version := uint16(tls.VersionTLS13)
		if old {
			version = tls.VersionTLS12
		}
		cryptotest.SetGlobalRandom(t, 1) // the fuzzer looks for what an input changes
		server := serverConfig(cert, version)
		server.CurvePreferences = []tls.CurveID{tls.CurveP256} // the quickest
		p := newPair(t, server, clientConfig(version), 1<<20)
		if errServer, errClient := p.handshake(t); errServer != nil || errClient != nil {
			t.Fatal(errServer, errClient)
		}
		readAll(t, p.client)
		var wire []byte
		for range 3 {
			wire = append(wire, sealed(t, p.server, plain)...)
		}
		within := func(i int) int { return int(uint(i) % uint(len(wire)+1)) }
		first, second = within(first), within(second)
		if first > second {
			first, second = second, first
		}
		damaged := flip != 0 && within(at) < len(wire)
		if damaged {
			wire[within(at)] ^= flip
		}
		var got []byte
		var err error
		buf := make([]byte, 700)
		for _, part := range [][]byte{wire[:first], wire[first:second], wire[second:]} {
			if err == nil {
				err = p.client.Receive(part, buf, func(b []byte) bool { got = append(got, b...); return true })
			}
		}
		whole := bytes.Repeat(plain, 3)
		if !bytes.HasPrefix(whole, got) {
			t.Fatal("what was read was never written")
		}
		if !damaged && (err != nil || len(got) != len(whole)) {
			t.Fatalf("%v after %d bytes of %d", err, len(got), len(whole))
		}
		if damaged && len(got) == len(whole) {
			t.Fatal("the damage was not seen")
		}
		p.client.End()
		if _, ended := p.client.Read(buf); damaged && (ended == nil || CauseOf(ended) == CauseClosed) {
			t.Fatalf("damaged, and %v", ended)
		}
	})
}
