package tlspolicy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const bound = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serial atomic.Int64

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (i issued) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func (i issued) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// pair returns i, followed by intermediates, with the key of i.
func (i issued) pair(t testing.TB, more ...issued) Pair {
	t.Helper()
	chain := i.pem()
	for _, m := range more {
		chain = append(chain, m.pem()...)
	}
	return Pair{Chain: chain, Key: i.keyPEM(t)}
}

func ecdsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(bits int) func(testing.TB) crypto.Signer {
	return func(t testing.TB) crypto.Signer {
		t.Helper()
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}

func ed25519Key(t testing.TB) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue returns a new certificate. Without an issuer it is self-signed.
func issue(t testing.TB, issuer *issued, key crypto.Signer, change func(*x509.Certificate)) issued {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "db.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{cert, key}
}

func authority(t testing.TB, name string, issuer *issued) issued {
	t.Helper()
	return issue(t, issuer, ecdsaKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid = name, true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	})
}

func names(dns ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = dns }
}

// crl returns a revocation list of the authority i that is two hours old; next is how long
// it is valid.
func (i issued) crl(t testing.TB, next time.Duration, revoked ...issued) []byte {
	t.Helper()
	return i.crlOf(t, time.Now().Add(-2*time.Hour), next, revoked...)
}

// crlOf returns a revocation list of the authority i that was made at a time.
func (i issued) crlOf(t testing.TB, made time.Time, next time.Duration, revoked ...issued) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: made, NextUpdate: time.Now().Add(next)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// shake makes a handshake and returns the result of each end. In TLS 1.3 the client sees
// the server's verdict only when it reads, so it reads once.
func shake(t testing.TB, server, client *tls.Config) (s, c tls.ConnectionState, errServer, errClient error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			errServer = err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(bound))
		tc := tls.Server(conn, server)
		if errServer = tc.Handshake(); errServer == nil {
			s = tc.ConnectionState()
			_, _ = tc.Write([]byte("x"))
			_, _ = tc.Read(make([]byte, 1))
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(bound))
	tc := tls.Client(conn, client)
	if errClient = tc.Handshake(); errClient == nil {
		_, errClient = tc.Read(make([]byte, 1))
		c = tc.ConnectionState()
	}
	conn.Close()
	<-done
	return s, c, errServer, errClient
}

func write(t testing.TB, content []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
