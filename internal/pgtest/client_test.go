package pgtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestClientSpeaksBothProtocols(t *testing.T) {
	c := connect(t, New(t, Options{}).Primary().Config("", "", "postgres"))
	for name, query := range map[string]func() (*Result, error){
		"simple":   func() (*Result, error) { return c.Query(t.Context(), "SELECT '7' AS a, NULL AS b") },
		"extended": func() (*Result, error) { return c.Exec(t.Context(), "SELECT $1 AS a, NULL AS b", "7") },
		"prepared": func() (*Result, error) {
			check(t, c.Prepare(t.Context(), "s", "SELECT $1::text AS a, NULL AS b"))
			return c.ExecPrepared(t.Context(), "s", "7")
		},
	} {
		res, err := query()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &Result{Columns: []string{"a", "b"}, Rows: [][]string{{"7", ""}}, Tags: []string{"SELECT 1"}}
		if diff := cmp.Diff(want, res); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	res, err := c.Query(t.Context(), "SELECT 1; BEGIN; SELECT 2")
	check(t, err)
	if diff := cmp.Diff([]string{"SELECT 1", "BEGIN", "SELECT 1"}, res.Tags); diff != "" || c.Status != 'T' {
		t.Errorf("status %q, tags (-want +got):\n%s", c.Status, diff)
	}
}

func TestClientKeepsSQLSTATEs(t *testing.T) {
	n := New(t, Options{}).Primary()
	c := connect(t, n.Config("", "", "postgres"))
	if _, err := c.Exec(t.Context(), "SELECT 1/$1::int", "0"); Code(err) != "22012" || c.Status != 'I' {
		t.Errorf("division by zero: %v, status %q", err, c.Status)
	}
	if _, err := Connect(t.Context(), n.Config("nobody", "", "")); Code(err) != "28000" {
		t.Errorf("login of an unknown role: %v", err)
	}
	_, err := c.Query(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	if e, ok := errors.AsType[*ServerError](err); !ok || e.Code != "57P01" || e.Severity != "FATAL" {
		t.Errorf("terminated session: %v", err)
	}
	if Code(context.Canceled) != "" {
		t.Error("an error that isn't the server's has an SQLSTATE")
	}
}

func TestClientSendsStartupParametersAndKeepsReports(t *testing.T) {
	cfg := New(t, Options{}).Primary().Config("", "", "postgres")
	cfg.Params = map[string]string{"application_name": "me", "DateStyle": "German"}
	c := connect(t, cfg)
	if c.Params["application_name"] != "me" || c.Params["DateStyle"] != "German, DMY" {
		t.Errorf("reported parameters are %v", c.Params)
	}
	_, err := c.Query(t.Context(), "SET application_name = 'you'")
	check(t, err)
	if c.Params["application_name"] != "you" {
		t.Errorf("application_name is %q after SET", c.Params["application_name"])
	}
}

func TestClientPipelinesAndReadsMessageByMessage(t *testing.T) {
	c := connect(t, New(t, Options{}).Primary().Config("", "", "postgres"))
	msgs := append([]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELECT 1"}}, bindExecute("", nil)...)
	check(t, c.Send(t.Context(), append(msgs, &pgproto3.Query{String: "SELECT 2"})...))
	msg, err := c.Receive(t.Context())
	check(t, err)
	if _, ok := msg.(*pgproto3.ParseComplete); !ok {
		t.Errorf("first message is %T, want ParseComplete", msg)
	}
	for _, want := range []string{"1", "2"} {
		res, err := c.ReadResult(t.Context())
		check(t, err)
		if diff := cmp.Diff([][]string{{want}}, res.Rows); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
	}
}

func TestCancelEndsTheRunningQuery(t *testing.T) {
	n := New(t, Options{}).Primary()
	c := connect(t, n.Config("", "", "postgres"))
	check(t, c.Send(t.Context(), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	Eventually(t, generous, "the query to run", func() error {
		if got := run(t, n, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"); got != "1" {
			return errors.New("sleepers: " + got)
		}
		return nil
	})
	check(t, c.Cancel(t.Context()))
	if _, err := c.ReadResult(t.Context()); Code(err) != "57014" {
		t.Errorf("cancelled query: %v", err)
	}
}

func TestContextBoundsAQuery(t *testing.T) {
	c := connect(t, New(t, Options{}).Primary().Config("", "", "postgres"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Query(ctx, "SELECT pg_sleep(600)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("query: %v, want the end of its context", err)
	}
}

func TestClientAuthenticates(t *testing.T) {
	c := New(t, Options{HBA: []string{
		"host all r_scram 127.0.0.1/32 scram-sha-256",
		"host all r_md5 127.0.0.1/32 md5",
		"host all r_plain 127.0.0.1/32 password",
	}})
	n := c.Primary()
	run(t, n, `CREATE ROLE r_scram LOGIN PASSWORD 'secret'; CREATE ROLE r_plain LOGIN PASSWORD 'secret';
		SET password_encryption = 'md5'; CREATE ROLE r_md5 LOGIN PASSWORD 'secret'`)
	for _, role := range []string{"r_scram", "r_md5", "r_plain"} {
		client := connect(t, n.Config(role, "secret", "postgres"))
		res, err := client.Query(t.Context(), "SELECT current_user")
		check(t, err)
		if res.Rows[0][0] != role {
			t.Errorf("logged in as %s, want %s", res.Rows[0][0], role)
		}
		if _, err := Connect(t.Context(), n.Config(role, "wrong", "postgres")); Code(err) != "28P01" {
			t.Errorf("%s with a wrong password: %v", role, err)
		}
	}
	if _, err := Connect(t.Context(), n.Config("", "", "postgres")); Code(err) != "28000" {
		t.Errorf("superuser past HBA over TCP: %v", err)
	}
}

func TestClientUsesTLSWhenAsked(t *testing.T) {
	cert, key, roots := selfSigned(t)
	n := New(t, Options{
		Extra: map[string]string{"ssl": "on"},
		Files: map[string][]byte{"server.crt": cert, "server.key": key},
		HBA:   []string{"hostssl all all 127.0.0.1/32 trust"},
	}).Primary()
	cfg := n.Config("", "", "postgres")
	if _, err := Connect(t.Context(), cfg); Code(err) != "28000" {
		t.Errorf("login without TLS: %v", err)
	}
	cfg.TLS = &tls.Config{RootCAs: roots, ServerName: loopback}
	c := connect(t, cfg)
	res, err := c.Query(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
	check(t, err)
	if res.Rows[0][0] != "t" {
		t.Error("the session isn't encrypted")
	}
	cfg.Addr = NewFake(t, Script{Steps: []Step{Startup()}}).Addr()
	if _, err := Connect(t.Context(), cfg); err == nil {
		t.Error("a server without TLS was accepted")
	}
}

func connect(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	c, err := Connect(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() { _ = c.Conn().Close() })
	return c
}

func selfSigned(t *testing.T) (cert, key []byte, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(loopback)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cert) {
		t.Fatal("the certificate can't be read back")
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), roots
}
