package reactor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// secured returns an encrypted connection of the loop, and the peer's end.
func (r *rig) secured(h Handler, version uint16) (*Conn, *tls.Conn) {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		r.t.Fatal(err)
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   version, MaxVersion: version,
	}
	ours, theirs := tcpPair(r.t)
	f := os.NewFile(uintptr(theirs), "peer")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		r.t.Fatal(err)
	}
	peer := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	_ = peer.SetDeadline(time.Now().Add(generous))
	r.t.Cleanup(func() { nc.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- peer.Handshake() }()
	t := shake(r.t, ours, server)
	if err := <-shaken; err != nil {
		r.t.Fatal(err)
	}
	var c *Conn
	r.do(func() {
		if c, err = r.loop.Add(ours, h); err == nil {
			c.Secure(t)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, peer
}

// shake does a handshake on a blocking descriptor.
func shake(t testing.TB, fd int, config *tls.Config) *tlsmem.Conn {
	t.Helper()
	woken := make(chan struct{}, 100)
	c := tlsmem.Server(config, &tlsmem.Memory{}, tlsmem.Gate{}, slog.New(slog.DiscardHandler), func() { woken <- struct{}{} })
	buf := make([]byte, 1<<16)
	for {
		if out := c.Pending(); len(out) > 0 {
			if _, err := unix.Write(fd, out); err != nil {
				t.Fatal(err)
			}
			c.Sent(len(out))
		}
		switch done, err := c.Handshake(); {
		case err != nil:
			t.Fatal(err)
		case done && len(c.Pending()) == 0:
			return c
		case done:
			continue
		}
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if n > 0 {
			if err := c.Feed(buf[:n]); err != nil {
				t.Fatal(err)
			}
		} else if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		select {
		case <-woken:
		case <-time.After(time.Millisecond): // to look at the descriptor again
		}
	}
}

// each runs a test on each kind of loop with each version of TLS.
func each(t *testing.T, test func(t *testing.T, kind string, version uint16)) {
	both(t, func(t *testing.T, kind string) {
		for name, v := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			t.Run(name, func(t *testing.T) { test(t, kind, v) })
		}
	})
}

func TestEncryptedBytesPassBothWays(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		r, h := newRig(t, kind), newRecorder()
		c, peer := r.secured(h, version)
		want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB
		all := make(chan struct{})
		h.received = func(b []byte) {
			c.Send(b)
			if h.got.Len() == len(want) {
				close(all)
			}
		}
		r.do(c.Resume)
		sent := make(chan error, 1)
		go func() {
			_, err := peer.Write(want)
			sent <- err
		}()
		back := make([]byte, len(want))
		if _, err := io.ReadFull(peer, back); err != nil {
			t.Fatal(err)
		}
		r.wait(all, "the last byte")
		if err := <-sent; err != nil || !bytes.Equal(back, want) {
			t.Errorf("not what was sent came back; %v", err)
		}
		r.do(func() {
			if !bytes.Equal(h.got.Bytes(), want) {
				t.Error("not what was sent arrived")
			}
		})
	})
}

// A Handler that pauses after each piece gets each piece once, even those that are already
// decrypted, and the end comes last.
func TestPausedEncryptedConnectionLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		r, h := newRig(t, kind), newRecorder()
		c, peer := r.secured(h, version)
		h.received = func([]byte) {
			c.Pause()
			r.loop.Post(c.Resume)
		}
		want := bytes.Repeat([]byte("x"), 300_000)
		sent := make(chan error, 1)
		go func() {
			_, err := peer.Write(want)
			sent <- errors.Join(err, peer.CloseWrite())
		}()
		r.do(c.Resume)
		if err := r.ended(h); err != nil {
			t.Errorf("the end is told as %v", err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		r.do(func() {
			if n := h.got.Len(); n != len(want) {
				t.Errorf("%d bytes of %d arrived", n, len(want))
			}
		})
	})
}

// Two messages are in one record and are read one after the other. The second is decrypted
// together with the first, so that the kernel has no event for it.
func TestReadOfAnEncryptedConnectionFindsWhatIsDecrypted(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		r, h := newRig(t, kind), newRecorder()
		c, peer := r.secured(h, version)
		var got []byte
		whole := make(chan struct{})
		h.received = func([]byte) {
			var b [3]byte
			n, err := c.Read(b[:])
			if err != nil {
				t.Error(err)
			}
			if got = append(got, b[:n]...); len(got) == 6 {
				close(whole)
				return
			}
			c.Await()
		}
		r.do(c.Await)
		if _, err := peer.Write([]byte("onetwo")); err != nil {
			t.Fatal(err)
		}
		r.wait(whole, "both messages")
		if string(got) != "onetwo" {
			t.Errorf("read %q", got)
		}
	})
}

func TestEncryptedConnectionSaysGoodbyeButNotInAnAbort(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		for name, end := range map[string]func(*Conn){"Close": (*Conn).Close, "CloseWrite": (*Conn).CloseWrite, "Abort": (*Conn).Abort} {
			r, h := newRig(t, kind), newRecorder()
			c, peer := r.secured(h, version)
			r.do(func() {
				if name != "Abort" {
					c.Send([]byte("last words"))
				}
				end(c)
			})
			got, err := io.ReadAll(peer)
			if name == "Abort" {
				if err == nil {
					t.Error("an Abort looks like an orderly end")
				}
				continue
			}
			if err != nil || string(got) != "last words" {
				t.Errorf("%s: the peer read %q, %v", name, got, err)
			}
		}
	})
}

// saysGoodbye reports whether the encrypted bytes that c sends until its end have an alert in them.
func saysGoodbye(t *testing.T, peer *tls.Conn) bool {
	t.Helper()
	raw, err := io.ReadAll(peer.NetConn())
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) >= 5 {
		size := int(raw[3])<<8 | int(raw[4])
		if raw[0] == 21 || size == 2+1+16 { // an alert of TLS 1.2, or of 1.3 with its type and tag
			return true
		}
		raw = raw[5+size:]
	}
	return false
}

func TestPeerThatHasLeftGetsNoGoodbye(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		for _, leaves := range []bool{false, true} {
			r, h := newRig(t, kind), newRecorder()
			c, peer := r.secured(h, version)
			r.do(c.Resume)
			if leaves {
				if err := peer.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if err := r.ended(h); err != nil {
					t.Errorf("it left with %v", err)
				}
			}
			r.do(c.Close)
			if got := saysGoodbye(t, peer); got == leaves {
				t.Errorf("the peer has left: %v, goodbye: %v", leaves, got)
			}
		}
	})
}

func TestRecordThatCannotBeDecryptedEndsTheConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string, version uint16) {
		r, h := newRig(t, kind), newRecorder()
		c, peer := r.secured(h, version)
		r.do(c.Resume)
		record := append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...)
		if _, err := peer.NetConn().Write(record); err != nil {
			t.Fatal(err)
		}
		if err := r.ended(h); err == nil {
			t.Error("a forged record is taken for an orderly end")
		}
		if _, err := io.ReadAll(peer); err == nil {
			t.Error("the peer got no alert")
		}
		r.do(c.Close)
	})
}

// A query and its answer over an encrypted connection allocate nothing but what crypto/tls
// allocates.
func BenchmarkSecureEcho(b *testing.B) {
	for _, kind := range []string{"epoll", "io_uring"} {
		b.Run(kind, func(b *testing.B) {
			r, h := newRig(b, kind), newRecorder()
			c, peer := r.secured(h, tls.VersionTLS13)
			h.received = func(p []byte) { h.got.Reset(); c.Send(p) }
			r.do(c.Resume)
			msg, back := make([]byte, 100), make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := peer.Write(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(peer, back); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
