package tlsdial

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

const bound = 20 * time.Second

func certificate(t *testing.T) tls.Certificate {
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start lets a Server with these settings begin TLS with a server that serve plays.
func start(t *testing.T, settings *ipc.ServerTLS, serve func(net.Conn)) (encrypted bool, err error) {
	t.Helper()
	s, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.DialTimeout("tcp", l.Addr().String(), bound)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(bound)
	_, _ = ours.SetDeadline(deadline), theirs.SetDeadline(deadline)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		serve(theirs)
	}()
	w, err := s.Start(ours)
	ours.Close()
	<-done
	return w != nil, err
}

// answers reads an SSLRequest, answers, and goes on with TLS if there is a Config.
func answers(text string, config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		var request [8]byte
		_, _ = io.ReadFull(conn, request[:])
		_, _ = conn.Write([]byte(text))
		shakes(config)(conn)
	}
}

// shakes begins with TLS.
func shakes(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		if config != nil {
			_ = tls.Server(conn, config).Handshake()
		}
		_, _ = io.Copy(io.Discard, conn)
	}
}

func TestWhatAServerAnswersIsJudged(t *testing.T) {
	plain := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	named := plain.Clone()
	named.NextProtos = []string{"postgresql"}
	for name, x := range map[string]struct {
		mode      string
		direct    bool
		serve     func(net.Conn)
		encrypted bool
		words     string // of the error, empty for none
		handshake bool   // it is of the handshake
	}{
		"yes":                           {"require", false, answers("S", plain), true, "", false},
		"no, and it is required":        {"require", false, answers("N", nil), false, "server does not support SSL", false},
		"no, and it is preferred":       {"prefer", false, answers("N", nil), false, "", false},
		"an error, and it is preferred": {"prefer", false, answers("E", nil), false, "invalid response to SSL negotiation", false},
		"clear text behind the yes":     {"prefer", false, answers("SR\x00\x00\x00\x08\x00\x00\x00\x00", plain), false, "first record does not look like a TLS handshake", true},
		"direct":                        {"require", true, shakes(named), true, "", false},
		"direct, and the server names no protocol": {"require", true, shakes(plain), false, "ALPN", true},
	} {
		t.Run(name, func(t *testing.T) {
			encrypted, err := start(t, &ipc.ServerTLS{Mode: x.mode, Direct: x.direct}, x.serve)
			if encrypted != x.encrypted {
				t.Errorf("encrypted: %v", encrypted)
			}
			if x.words == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), x.words) {
				t.Errorf("%v, not %q", err, x.words)
			}
			if refused, ok := errors.AsType[*RefusedError](err); x.handshake && (!ok || !refused.Handshake) {
				t.Errorf("%v is not of the handshake", err)
			}
		})
	}
}
