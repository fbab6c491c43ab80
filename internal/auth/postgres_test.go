package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// certificate returns a self-signed certificate and its key, as PEM and as a tls.Certificate.
func certificate(t *testing.T) (certPEM, keyPEM []byte, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM, pair
}

const password = "pa:ss w\u00f6rd"

func startPostgres(t *testing.T) *pgtest.Node {
	t.Helper()
	certPEM, keyPEM, _ := certificate(t)
	node := pgtest.New(t, pgtest.Options{
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "test.crt", "ssl_key_file": "test.key"},
		Files: map[string][]byte{"test.crt": certPEM, "test.key": keyPEM},
		HBA: []string{
			"host all scram 127.0.0.1/32 scram-sha-256",
			"host all clear 127.0.0.1/32 password",
			"host all md5 127.0.0.1/32 md5",
			"host all trust 127.0.0.1/32 trust",
		},
	}).Primary()
	for _, sql := range []string{
		"CREATE ROLE scram LOGIN PASSWORD '" + password + "'",
		"CREATE ROLE clear LOGIN PASSWORD '" + password + "'",
		"SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD '" + password + "'",
		"CREATE ROLE trust LOGIN",
	} {
		if _, err := node.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return node
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

func startUp(t *testing.T, conn net.Conn, user string) {
	t.Helper()
	msg, err := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: "postgres"}})
	if err == nil {
		_, err = conn.Write(msg)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// encrypt asks the server for TLS and returns its channel binding.
func encrypt(t *testing.T, conn net.Conn) (*tls.Conn, []byte) {
	t.Helper()
	var answer [1]byte
	if _, err := conn.Write(pgwire.AppendSSLRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("%q, %v", answer, err)
	}
	tlsConn := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := tlsConn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return tlsConn, EndPoint(tlsConn.ConnectionState().PeerCertificates[0])
}

func TestLoginToPostgreSQL(t *testing.T) {
	addr := startPostgres(t).Addr()
	keys := NewClientKeys(10)
	for name, tc := range map[string]struct {
		user, password string
		method         Method
		code           string
	}{
		"scram":             {"scram", password, SCRAM, ""},
		"scram, wrong":      {"scram", "wrong", SCRAM, "28P01"},
		"cleartext":         {"clear", password, Password, ""},
		"cleartext, wrong":  {"clear", "wrong", Password, "28P01"},
		"md5":               {"md5", password, MD5, ""},
		"md5, wrong":        {"md5", "wrong", MD5, "28P01"},
		"trust":             {"trust", "", Trust, ""},
		"no line in pg_hba": {"nobody", password, Trust, "28000"},
	} {
		for range 2 {
			conn := dial(t, addr)
			startUp(t, conn, tc.user)
			method, err := Login(conn, Plain{User: tc.user, Secret: tc.password, Cache: keys}, LoginOptions{})
			var refused *ServerError
			if tc.code != "" && (!errors.As(err, &refused) || refused.Fields.Code != tc.code) || tc.code == "" && err != nil || method != tc.method {
				t.Errorf("%s: method %q, %v", name, method, err)
				continue
			}
			// Login has left the next message in the connection.
			if typ, _, err := pgwire.ReadMessage(conn, 1000); tc.code == "" && (typ != 'S' || err != nil) {
				t.Errorf("%s: message %q, %v, want a ParameterStatus", name, typ, err)
			}
		}
	}
}

func TestLoginToPostgreSQLBindsTheTLSChannel(t *testing.T) {
	addr := startPostgres(t).Addr()
	for name, change := range map[string]func([]byte) []byte{
		"bound":                    func(b []byte) []byte { return b },
		"not bound":                func([]byte) []byte { return nil },
		"bound to something else":  func(b []byte) []byte { b[0] ^= 1; return b },
		"bound to something empty": func([]byte) []byte { return []byte{} },
	} {
		conn, bound := encrypt(t, dial(t, addr))
		startUp(t, conn, "scram")
		_, err := Login(conn, Plain{User: "scram", Secret: password}, LoginOptions{ChannelBinding: change(bound)})
		if wantOK := name == "bound" || name == "not bound"; (err == nil) != wantOK {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// libpq runs psql against a server that authenticates one connection with serve and then answers one query. It returns
// what serve and psql said.
func libpq(t *testing.T, cert *tls.Certificate, serve func(net.Conn) error, conninfo, psqlPassword string) (out string, ok bool, serveErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		done <- serveOne(conn, cert, serve)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conninfo = fmt.Sprintf("host=127.0.0.1 port=%s user=alice dbname=d connect_timeout=60 %s", port, conninfo)
	cmd := exec.CommandContext(ctx, "psql", "-X", "-w", "-c", "select 1", conninfo)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGPASSWORD=" + psqlPassword, "HOME=/nonexistent"}
	text, err := cmd.CombinedOutput()
	return string(text), err == nil, <-done
}

func serveOne(conn net.Conn, cert *tls.Certificate, serve func(net.Conn) error) error {
	for {
		s, err := pgwire.ReadStartup(conn)
		if err != nil {
			return err
		}
		if s.Kind == pgwire.StartupMessage {
			break
		}
		if s.Kind == pgwire.SSLRequest && cert != nil {
			if _, err := conn.Write([]byte{'S'}); err != nil {
				return err
			}
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*cert}})
			continue
		}
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return err
		}
	}
	if err := serve(conn); err != nil {
		_, _ = conn.Write(AppendRefusal(nil, pgwire.SeverityFatal, "alice", err))
		return err
	}
	greeting := pgwire.AppendAuthenticationOK(nil)
	greeting = pgwire.AppendBackendKeyData(greeting, 1, []byte("1234"))
	greeting = pgwire.AppendReadyForQuery(greeting, pgwire.TxIdle)
	if _, err := conn.Write(greeting); err != nil {
		return err
	}
	if typ, _, err := pgwire.ReadMessage(conn, 1000); typ != 'Q' || err != nil {
		return fmt.Errorf("message %q, want a Query: %w", typ, err)
	}
	_, err := conn.Write(pgwire.AppendReadyForQuery(pgwire.AppendMessage(nil, 'I', nil), pgwire.TxIdle))
	return err
}

func TestLibpqLogsInToUs(t *testing.T) {
	vs := store(t, map[string]string{"alice": password})
	_, _, cert := certificate(t)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	scramWith := func(v Verifier, bound []byte) func(net.Conn) error {
		return func(c net.Conn) error { return ServeSCRAM(c, v, bound) }
	}
	clear := func(c net.Conn) error {
		return ServePassword(c, func(p string) bool { return p == password })
	}
	for name, tc := range map[string]struct {
		cert               *tls.Certificate
		serve              func(net.Conn) error
		conninfo, password string
		want               string // part of psql's error, empty if the login succeeds
	}{
		"scram":                     {nil, scramWith(vs.Lookup("alice"), nil), "", password, ""},
		"scram, wrong":              {nil, scramWith(vs.Lookup("alice"), nil), "", "wrong", `FATAL:  password authentication failed for user "alice"`},
		"scram, unknown user":       {nil, scramWith(vs.Lookup("nobody"), nil), "", password, `FATAL:  password authentication failed for user "alice"`},
		"scram over TLS, bound":     {&cert, scramWith(vs.Lookup("alice"), EndPoint(leaf)), "sslmode=require channel_binding=require", password, ""},
		"scram over TLS, not bound": {&cert, scramWith(vs.Lookup("alice"), EndPoint(leaf)), "sslmode=require channel_binding=disable", password, ""},
		"scram over TLS, y":         {&cert, scramWith(vs.Lookup("alice"), nil), "sslmode=require", password, ""},
		"binding impossible":        {&cert, scramWith(vs.Lookup("alice"), nil), "sslmode=require channel_binding=require", password, "channel binding is required"},
		"cleartext":                 {nil, clear, "", password, ""},
		"cleartext, wrong":          {nil, clear, "", "wrong", `FATAL:  password authentication failed for user "alice"`},
	} {
		out, ok, serveErr := libpq(t, tc.cert, tc.serve, tc.conninfo, tc.password)
		if ok != (tc.want == "") || (serveErr == nil) != ok || !strings.Contains(out, tc.want) {
			t.Errorf("%s: we said %v, psql said %s", name, serveErr, out)
		}
	}
}

func TestVerifiersOfPostgreSQLServeItsUsers(t *testing.T) {
	node := startPostgres(t)
	text, err := node.Query(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'scram'")
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	for psqlPassword, want := range map[string]bool{password: true, "wrong": false} {
		out, ok, serveErr := libpq(t, nil, func(c net.Conn) error { return ServeSCRAM(c, v, nil) }, "", psqlPassword)
		if ok != want || (serveErr == nil) != want {
			t.Errorf("want %v: we said %v, psql said %s", want, serveErr, out)
		}
	}
}

func TestLibpqPassesThroughUsToPostgreSQL(t *testing.T) {
	addr := startPostgres(t).Addr()
	for user, method := range map[string]Method{"scram": SCRAM, "clear": Password, "md5": MD5, "trust": Trust} {
		for psqlPassword, want := range map[string]bool{password: true, "wrong": method == Trust} {
			server := dial(t, addr)
			startUp(t, server, user)
			var got Method
			out, ok, serveErr := libpq(t, nil, func(c net.Conn) error {
				var err error
				got, err = PassThrough(c, server, nil)
				return err
			}, "user="+user, psqlPassword)
			if got != method || ok != want || (serveErr == nil) != want {
				t.Errorf("%s, want %v: method %q, we said %v, psql said %s", user, want, got, serveErr, out)
			}
		}
	}
}
