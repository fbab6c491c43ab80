package tlsmem

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// openssl is a client that can do what crypto/tls never does: change keys and renegotiate.
// The test carries bytes between its socket and a Conn.
type openssl struct {
	conn  net.Conn
	stdin io.WriteCloser
	out   *bytes.Buffer // may be read only after the process has ended
	tls   *Conn
}

func dialOpenSSL(t *testing.T, version uint16, flag string) *openssl {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := &openssl{out: new(bytes.Buffer)}
	cmd := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), flag, "-state")
	cmd.Stdout, cmd.Stderr = o.out, o.out
	if o.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(o.out)
		}
	})
	if o.conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.conn.Close() })
	if err := o.conn.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 1)
	o.tls = Server(serverConfig(certificate(t), version), new(Memory), Gate{}, discard, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	t.Cleanup(o.tls.Abort)
	o.shake(t, woken)
	return o
}

// shake completes the handshake. A goroutine reads the socket meanwhile.
func (o *openssl) shake(t *testing.T, woken chan struct{}) {
	t.Helper()
	arrived := make(chan []byte)
	go func() {
		defer close(arrived)
		for buf := make([]byte, 4096); ; {
			n, err := o.conn.Read(buf)
			if err != nil {
				return
			}
			arrived <- bytes.Clone(buf[:n])
		}
	}()
	for {
		o.flush(t)
		if done, err := o.tls.Handshake(); done {
			if err != nil {
				t.Fatal(err)
			}
			o.flush(t)
			break
		}
		select {
		case <-woken:
		case b := <-arrived:
			if err := o.tls.Feed(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An expired deadline ends the goroutine. What it has read until then is still fed.
	if err := o.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for b := range arrived {
		if err := o.tls.Feed(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.conn.SetReadDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
}

func (o *openssl) flush(t *testing.T) {
	t.Helper()
	out := o.tls.Pending() // call it once, because the handshake may add to it meanwhile
	if _, err := o.conn.Write(out); err != nil {
		t.Fatal(err)
	}
	o.tls.Sent(len(out))
}

func (o *openssl) enter(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(o.stdin, s); err != nil {
		t.Fatal(err)
	}
}

// receive feeds byte by byte until want has arrived, or returns why reading has ended.
func (o *openssl) receive(t *testing.T, want string) error {
	t.Helper()
	return o.receiveUntil(t, func(got string) bool { return strings.Contains(got, want) })
}

func (o *openssl) receiveUntil(t *testing.T, enough func(got string) bool) error {
	t.Helper()
	var got []byte
	one, buf := make([]byte, 1), make([]byte, 100)
	for !enough(string(got)) {
		if _, err := o.conn.Read(one); err != nil {
			t.Fatalf("%v; got %q", err, got)
		}
		err := o.tls.Receive(one, buf, func(b []byte) bool { got = append(got, b...); return true })
		if err != nil {
			return err
		}
	}
	return nil
}

// The command K of s_client asks for new keys in both directions. The Conn gets its
// message byte by byte.
func TestKeyUpdateIsAnswered(t *testing.T) {
	o := dialOpenSSL(t, tls.VersionTLS13, "-tls1_3")
	for range 3 {
		o.enter(t, "K\n")
		if err := o.receiveUntil(t, func(string) bool { return len(o.tls.Pending()) > 0 }); err != nil {
			t.Fatal(err)
		}
		o.flush(t)
		o.enter(t, "after\n")
		if err := o.receive(t, "after\n"); err != nil {
			t.Fatal(err)
		}
		if err := o.tls.Write([]byte("answer\n")); err != nil {
			t.Fatal(err)
		}
		o.flush(t)
	}
	o.enter(t, "Q\n") // sends close_notify
	if err := o.receive(t, "never"); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestRenegotiationIsRefused(t *testing.T) {
	o := dialOpenSSL(t, tls.VersionTLS12, "-tls1_2")
	o.enter(t, "before\n")
	if err := o.receive(t, "before\n"); err != nil {
		t.Fatal(err)
	}
	o.enter(t, "R\n")
	err := o.receive(t, "never")
	if err == nil || errors.Is(err, io.EOF) || len(o.tls.Pending()) == 0 {
		t.Fatalf("%v (%v), %d bytes pending", err, CauseOf(err), len(o.tls.Pending()))
	}
	if _, again := o.tls.Read(make([]byte, 1)); again == nil || errors.Is(again, ErrWouldBlock) {
		t.Errorf("it goes on: %v", again)
	}
}
