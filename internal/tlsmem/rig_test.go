package tlsmem

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bound is how long a step may take before the test fails.
const bound = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate returns a self-signed certificate.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db"}, DNSNames: []string{"db"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serverConfig returns a Config that notes its certificate, as a listener's does.
func serverConfig(cert tls.Certificate, version uint16) *tls.Config {
	c := &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true, NextProtos: []string{"postgresql"},
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		hello.Conn.(interface{ NoteCertificate([]byte) }).NoteCertificate(cert.Certificate[0])
		return nil, nil
	}
	return c
}

func clientConfig(version uint16) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, ServerName: "db", MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true, NextProtos: []string{"postgresql"},
	}
}

// discard is the log of tests that don't look at it.
var discard = slog.New(slog.DiscardHandler)

// pair is both ends of one connection, which the test's goroutine owns.
type pair struct {
	server, client *Conn
	woken          chan struct{}
	chunk          int // how many bytes travel at once
}

func newPair(t testing.TB, server, client *tls.Config, chunk int) *pair {
	t.Helper()
	return gatedPair(t, Gate{}, server, client, chunk)
}

// gatedPair returns a pair whose server has a Gate.
func gatedPair(t testing.TB, gate Gate, server, client *tls.Config, chunk int) *pair {
	t.Helper()
	p := &pair{woken: make(chan struct{}, 1), chunk: chunk}
	wake := func() {
		select {
		case p.woken <- struct{}{}:
		default:
		}
	}
	p.server = Server(server, new(Memory), gate, discard, wake)
	p.client = Client(client, new(Memory), discard, wake)
	t.Cleanup(func() { p.server.Abort(); p.client.Abort() })
	return p
}

// carry moves what from has to send, in chunks, and reports whether there was anything.
func (p *pair) carry(t testing.TB, from, to *Conn) bool {
	t.Helper()
	some := false
	for {
		out := from.Pending()
		if len(out) == 0 {
			return some
		}
		some = true
		n := min(len(out), p.chunk)
		if err := to.Feed(out[:n]); err != nil {
			t.Fatal(err)
		}
		from.Sent(n)
	}
}

// handshake completes the handshake, or fails, on both ends.
func (p *pair) handshake(t testing.TB) (server, client error) {
	t.Helper()
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	for {
		p.carry(t, p.client, p.server)
		p.carry(t, p.server, p.client)
		doneServer, errServer := p.server.Handshake()
		doneClient, errClient := p.client.Handshake()
		if doneServer && doneClient {
			p.carry(t, p.client, p.server)
			p.carry(t, p.server, p.client)
			return errServer, errClient
		}
		if doneServer && errServer != nil {
			p.carry(t, p.server, p.client)
			p.client.End()
		}
		if doneClient && errClient != nil {
			p.carry(t, p.client, p.server)
			p.server.End()
		}
		select {
		case <-p.woken:
		case <-deadline.C:
			t.Fatalf("the handshake takes longer than %v: server %v, client %v", bound, doneServer, doneClient)
		}
	}
}

// connected returns a pair whose handshake is complete.
func connected(t testing.TB, version uint16, chunk int) *pair {
	t.Helper()
	p := newPair(t, serverConfig(certificate(t), version), clientConfig(version), chunk)
	if s, c := p.handshake(t); s != nil || c != nil {
		t.Fatalf("handshake: server %v, client %v", s, c)
	}
	return p
}

// readAll reads until Read would block.
func readAll(t testing.TB, c *Conn) []byte {
	t.Helper()
	var all bytes.Buffer
	buf := make([]byte, 1000)
	for {
		n, err := c.Read(buf)
		all.Write(buf[:n])
		if errors.Is(err, ErrWouldBlock) {
			return all.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sealed writes plain to c, and returns and removes its ciphertext.
func sealed(t testing.TB, c *Conn, plain []byte) []byte {
	t.Helper()
	if err := c.Write(plain); err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(c.Pending())
	c.Sent(len(out))
	return out
}

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
