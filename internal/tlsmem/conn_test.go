package tlsmem

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

func TestDataPassesInChunksOfEachSize(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 3000) // three records
	for name, version := range versions {
		for _, chunk := range []int{1, 2, 5, 6, 517, 16 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("%s by %d", name, chunk), func(t *testing.T) {
				p := connected(t, version, chunk)
				for _, way := range [][2]*Conn{{p.client, p.server}, {p.server, p.client}} {
					from, to := way[0], way[1]
					if err := from.Write(payload); err != nil {
						t.Fatal(err)
					}
					var got []byte
					for len(from.Pending()) > 0 {
						n := min(len(from.Pending()), chunk)
						if err := to.Feed(from.Pending()[:n]); err != nil {
							t.Fatal(err)
						}
						from.Sent(n)
						got = append(got, readAll(t, to)...)
					}
					if !bytes.Equal(got, payload) {
						t.Fatalf("%d bytes arrived of %d", len(got), len(payload))
					}
				}
			})
		}
	}
}

func TestRecordSplitAtEachByte(t *testing.T) {
	plain := []byte("select 1")
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			p := connected(t, version, 1<<20)
			readAll(t, p.client) // tickets
			buf := make([]byte, 100)
			for at := 0; ; at++ {
				record := sealed(t, p.server, plain)
				if at > len(record) {
					return
				}
				var got []byte
				take := func(b []byte) bool { got = append(got, b...); return true }
				if err := p.client.Receive(record[:at], buf, take); err != nil || at < len(record) && got != nil {
					t.Fatalf("at %d: %q, %v", at, got, err)
				}
				if err := p.client.Receive(record[at:], buf, take); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("at %d: %q, %v", at, got, err)
				}
			}
		})
	}
}

func TestReceiveStopsWhenTheTakerIsFull(t *testing.T) {
	p := connected(t, tls.VersionTLS13, 1<<20)
	wire := append(sealed(t, p.server, []byte("one")), sealed(t, p.server, []byte("two"))...)
	wire = append(wire, sealed(t, p.server, bytes.Repeat([]byte("x"), 40000))...)
	var got []byte
	stop := func(b []byte) bool { got = append(got, b...); return false }
	buf := make([]byte, 1000)
	if err := p.client.Receive(wire, buf, stop); err != nil || len(got) != len(buf) || !bytes.HasPrefix(got, []byte("onetwox")) {
		t.Fatalf("%q, %v", got, err)
	}
	clear(wire) // Receive must have copied what it left over
	if !p.client.Unread() {
		t.Error("nothing is left to read")
	}
	for p.client.Unread() {
		if err := p.client.Receive(nil, buf, stop); err != nil {
			t.Fatal(err)
		}
	}
	if want := "onetwo" + string(bytes.Repeat([]byte("x"), 40000)); string(got) != want {
		t.Fatalf("%d bytes of %d", len(got), len(want))
	}
}

func TestRecordsThatArriveTogetherAreDeliveredTogether(t *testing.T) {
	for name, version := range versions {
		p := connected(t, version, 1<<20)
		readAll(t, p.client)
		var wire []byte
		for range 7 {
			wire = append(wire, sealed(t, p.server, make([]byte, 8<<10))...)
		}
		var got []int
		take := func(b []byte) bool { got = append(got, len(b)); return true }
		if err := p.client.Receive(wire, make([]byte, 64<<10), take); err != nil || !slices.Equal(got, []int{7 * 8 << 10}) {
			t.Errorf("%s: pieces of %v bytes, %v", name, got, err)
		}
	}
}

func TestTakerThatWasFullLearnsOfTheEndLater(t *testing.T) {
	for name, version := range versions {
		p := connected(t, version, 1<<20)
		readAll(t, p.client)
		wire := sealed(t, p.server, []byte("the last"))
		if err := p.server.CloseNotify(); err != nil {
			t.Fatal(err)
		}
		wire = append(wire, p.server.Pending()...)
		var got []byte
		stop := func(b []byte) bool { got = append(got, b...); return false }
		buf := make([]byte, 1000)
		if err := p.client.Receive(wire, buf, stop); err != nil || string(got) != "the last" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		if !p.client.Unread() {
			t.Fatalf("%s: the end is forgotten", name)
		}
		if err := p.client.Receive(nil, buf, stop); !errors.Is(err, io.EOF) {
			t.Errorf("%s: then %v", name, err)
		}
	}
}

func TestDataWithTheLastFlightIsRead(t *testing.T) {
	p := newPair(t, serverConfig(certificate(t), tls.VersionTLS13), clientConfig(tls.VersionTLS13), 1<<20)
	deadline := time.After(bound)
	for done := false; !done; {
		p.carry(t, p.client, p.server)
		p.carry(t, p.server, p.client)
		if done, _ = p.client.Handshake(); !done {
			select {
			case <-p.woken:
			case <-deadline:
				t.Fatal("no handshake")
			}
		}
	}
	// The client's last flight and its first query arrive in one segment.
	if err := p.client.Write([]byte("startup")); err != nil {
		t.Fatal(err)
	}
	if s, c := p.handshake(t); s != nil || c != nil {
		t.Fatal(s, c)
	}
	if got := readAll(t, p.server); string(got) != "startup" {
		t.Fatalf("%q", got)
	}
}

func TestEnds(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			end := func(want error, cause Cause, do func(p *pair)) {
				t.Helper()
				p := connected(t, version, 1<<20)
				readAll(t, p.client)
				do(p)
				_, err := p.client.Read(make([]byte, 10))
				if !errors.Is(err, want) || CauseOf(err) != cause {
					t.Errorf("%v (%v), not %v", err, CauseOf(err), want)
				}
				if _, again := p.client.Read(make([]byte, 10)); !errors.Is(again, want) {
					t.Errorf("then %v", again)
				}
			}
			end(io.EOF, CauseClosed, func(p *pair) {
				if err := p.server.CloseNotify(); err != nil {
					t.Error(err)
				}
				p.carry(t, p.server, p.client)
				p.client.End()
			})
			end(ErrNoCloseNotify, CauseNoCloseNotify, func(p *pair) { p.client.End() })
			end(net.ErrClosed, CauseAborted, func(p *pair) { p.client.Abort() })
			size := len(sealed(t, connected(t, version, 1<<20).server, []byte("x")))
			for at := 1; at < size; at++ {
				end(ErrTruncated, CauseTruncated, func(p *pair) {
					if err := p.client.Feed(sealed(t, p.server, []byte("x"))[:at]); err != nil {
						t.Error(err)
					}
					if _, err := p.client.Read(make([]byte, 10)); !errors.Is(err, ErrWouldBlock) {
						t.Error(err)
					}
					p.client.End()
				})
			}
		})
	}
}

func TestDamagedRecordIsAnsweredByAnAlert(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			p := connected(t, version, 1<<20)
			record := sealed(t, p.client, []byte("select 1"))
			record[len(record)-1] ^= 1
			err := p.server.Receive(record, make([]byte, 100), func([]byte) bool { t.Error("delivered"); return true })
			if CauseOf(err) != CauseRefused {
				t.Fatalf("%v (%v)", err, CauseOf(err))
			}
			if !p.carry(t, p.server, p.client) {
				t.Fatal("no alert is pending")
			}
			for err = nil; err == nil; _, err = p.client.Read(make([]byte, 10)) { // tickets come first
			}
			if CauseOf(err) != CauseAlert {
				t.Fatalf("%v (%v)", err, CauseOf(err))
			}
		})
	}
}

func TestClientWithoutTLSIsRefused(t *testing.T) {
	p := newPair(t, serverConfig(certificate(t), tls.VersionTLS13), clientConfig(tls.VersionTLS13), 1)
	if err := p.server.Feed([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f and more")); err != nil {
		t.Fatal(err)
	}
	wait(t, p.server)
	if _, err := p.server.Handshake(); CauseOf(err) != CauseNotTLS {
		t.Fatalf("%v (%v)", err, CauseOf(err))
	}
}

// wait waits until the goroutine of a handshake has ended.
func wait(t *testing.T, c *Conn) {
	t.Helper()
	select {
	case <-c.Ended():
	case <-time.After(bound):
		t.Fatal("the handshake's goroutine still runs")
	}
}

// TestStallAtEachByteOfTheHandshake lets a client's handshake stall after each byte, and
// then cuts the connection. goleak in TestMain finds goroutines that don't end.
func TestStallAtEachByteOfTheHandshake(t *testing.T) {
	cert := certificate(t)
	for name, version := range versions {
		for end, cut := range map[string]func(*Conn){"aborted": (*Conn).Abort, "ended": (*Conn).End} {
			t.Run(name+" "+end, func(t *testing.T) {
				complete := false
				for at := 0; ; at++ {
					p := newPair(t, serverConfig(cert, version), clientConfig(version), 1<<20)
					sent := p.stall(t, at)
					cut(p.server)
					p.client.Abort()
					wait(t, p.server)
					wait(t, p.client)
					done, err := p.server.Handshake()
					switch {
					case complete || sent < at:
						if sent == at {
							t.Fatalf("at %d: complete before all was sent", at-1)
						}
						return
					case !done:
						t.Fatalf("at %d: not done", at)
					}
					complete = err == nil // only with the very last byte
				}
			})
		}
	}
}

// stall delivers the first at bytes of the client, and returns how many there were if the
// client sent fewer.
func (p *pair) stall(t *testing.T, at int) (sent int) {
	t.Helper()
	deadline := time.After(bound)
	for {
		p.carry(t, p.server, p.client)
		out := p.client.Pending()
		n := min(len(out), at-sent)
		if err := p.server.Feed(out[:n]); err != nil {
			t.Fatal(err)
		}
		p.client.Sent(n)
		if sent += n; sent == at {
			return sent
		}
		select {
		case <-p.server.Ended():
			return sent
		case <-p.woken:
		case <-deadline:
			t.Fatalf("nothing moves after %d bytes", sent)
		}
	}
}

func TestFullAsksToStop(t *testing.T) {
	p := connected(t, tls.VersionTLS13, 1<<20)
	for i := range 4 {
		if p.server.Full() {
			t.Fatalf("full after %d bytes", len(p.server.Pending()))
		}
		if err := p.server.Write(make([]byte, 16<<10)); err != nil {
			t.Fatal(i, err)
		}
	}
	if !p.server.Full() {
		t.Errorf("not full with %d bytes", len(p.server.Pending()))
	}
	p.server.Sent(len(p.server.Pending()))
	if p.server.Full() || len(p.server.Pending()) != 0 {
		t.Error("full after everything was sent")
	}
	if err := p.client.Feed(make([]byte, fullInput+1)); !errors.Is(err, ErrFull) {
		t.Errorf("input without bound: %v", err)
	}
}

func TestFactsOfASession(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			client := clientConfig(version)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			server := serverConfig(certificate(t), version)
			for _, resumed := range []bool{false, true} {
				p := newPair(t, server, client, 1<<20)
				if s, c := p.handshake(t); s != nil || c != nil {
					t.Fatal(s, c)
				}
				readAll(t, p.client) // the ticket
				s, c := p.server.Facts(), p.client.Facts()
				if s.Version != version || s.Protocol != "postgresql" || s.ServerName != "db" || s.Resumed != resumed || s.Peer != nil {
					t.Errorf("server: %+v", s)
				}
				if c.Peer == nil || c.Resumed != resumed {
					t.Errorf("client: %+v", c)
				}
				if len(s.EndPoint) != 32 || !bytes.Equal(s.EndPoint, c.EndPoint) || !bytes.Equal(c.PeerHash[:], c.EndPoint) {
					t.Errorf("end points differ: %x, %x", s.EndPoint, c.EndPoint)
				}
			}
		})
	}
}
