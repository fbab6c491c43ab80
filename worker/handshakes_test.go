package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// selfSigned is a Config of a server.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestHandshakesAreCounted(t *testing.T) {
	r, _ := newBreakableRig(t)
	r.do(func() { r.w.cfg.tls = selfSigned(t) })
	sessions := tls.NewLRUClientSessionCache(1)
	for i, x := range []struct {
		version uint16
		count   string
	}{
		{tls.VersionTLS12, "tls_client_1.2"},
		{tls.VersionTLS13, "tls_client_1.3"},
		{tls.VersionTLS12, "tls_client_1.2_resumed"},
		{0, "tls_client_failed_not_tls"},
	} {
		id := uint64(i + 1)
		fd, conn := clientPair(t)
		r.sendFD(&ipc.NewClient{ID: id, Address: "127.0.0.1:5"}, fd)
		say(t, conn, string(pgwire.AppendSSLRequest(nil)))
		hear(t, conn, "S")
		if x.version == 0 {
			say(t, conn, "no TLS at all")
		} else {
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "x", MinVersion: x.version, MaxVersion: x.version}
			if x.version == tls.VersionTLS12 {
				config.ClientSessionCache = sessions
			}
			if err := tls.Client(conn, config).Handshake(); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		r.left(id)
		r.do(func() {
			if n := r.w.counters()[x.count]; n != 1 {
				t.Errorf("%s is %d: %v", x.count, n, r.w.counters())
			}
		})
	}
}

// A storm of clients that give up must not keep the clients behind them waiting.
func TestHandshakeOfAClientThatLeftWhileItQueuedIsDropped(t *testing.T) {
	r, _ := newBreakableRig(t)
	config := selfSigned(t)
	computes, allow := make(chan struct{}, 10), make(chan struct{})
	r.do(func() {
		r.w.cfg.handshakes = tlsmem.NewGate(1)
		r.w.cfg.tls = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			computes <- struct{}{}
			<-allow
			return config, nil
		}}
	})
	begin := func(id uint64) net.Conn {
		fd, conn := clientPair(t)
		r.sendFD(&ipc.NewClient{ID: id, Address: "127.0.0.1:5"}, fd)
		say(t, conn, string(pgwire.AppendSSLRequest(nil)))
		hear(t, conn, "S")
		return conn
	}
	first := begin(1)
	done := make(chan error, 1)
	go func() { done <- tls.Client(first, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	<-computes
	for id := uint64(2); id < 5; id++ {
		conn := begin(id)
		hello := &helloOnly{Conn: conn}
		if err := tls.Client(hello, &tls.Config{InsecureSkipVerify: true}).Handshake(); !errors.Is(err, errGaveUp) {
			t.Fatal(err)
		}
		conn.Close()
		r.left(id)
	}
	close(allow)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(computes); n > 0 {
		t.Errorf("%d handshakes are computed for nobody", n)
	}
}

// helloOnly is a client's connection that gives up after the ClientHello.
type helloOnly struct{ net.Conn }

var errGaveUp = errors.New("gave up")

func (helloOnly) Read([]byte) (int, error) { return 0, errGaveUp }
