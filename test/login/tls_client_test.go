package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// shown makes a certificate for localhost that pgagroal shows its clients, and returns
// what trusts it.
func shown(t testing.TB, p *pool.Pool) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	pool.Must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(t, err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		pool.Must(t, os.WriteFile(p.Path(name), pem.EncodeToMemory(block), 0o600))
		pool.Give(t, p.Path(name))
	}
	p.SetKey("tls_cert_file", p.Path("cert.pem"))
	p.SetKey("tls_key_file", p.Path("key.pem"))
	leaf, err := x509.ParseCertificate(der)
	pool.Must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return roots
}

// known is the user that pgagroal itself authenticates.
var known = map[string]string{"alice": "right"}

// encrypted starts a pool that offers TLS.
func encrypted(t testing.TB, c *pgtest.Cluster, mode string, users, keys map[string]string) (*pool.Pool, *x509.CertPool) {
	t.Helper()
	p := pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: users, HBA: "host all all all scram-sha-256\n",
		Keys: keys,
	})
	roots := shown(t, p)
	p.SetKey("tls", mode)
	p.Run()
	return p, roots
}

func TestClientsUseTLSInEachPipelineAndEventLoop(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for _, pipeline := range []string{"session", "transaction"} {
		for _, loop := range []string{"epoll", "io_uring"} {
			for name, users := range map[string]map[string]string{"known": known, "passed through": nil} {
				t.Run(pipeline+"/"+loop+"/"+name, func(t *testing.T) {
					p, roots := encrypted(t, c, "allow", users, map[string]string{"pipeline": pipeline, "ev_backend": loop})
					for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
						config := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: version, MaxVersion: version}
						cfg := p.Config("alice", "right", "postgres")
						cfg.TLS = config
						cl := p.ConnectAs(cfg)
						rows := pool.MustQuery(t, cl, "SELECT session_user, repeat('x', 1000000)")
						if rows[0][0] != "alice" || rows[0][1] != strings.Repeat("x", 1_000_000) {
							t.Errorf("%s: %s and %d bytes", name, rows[0][0], len(rows[0][1]))
						}
						if got := pool.MustQuery(t, cl, "SELECT length('"+strings.Repeat("y", 300_000)+"')")[0][0]; got != "300000" {
							t.Errorf("%s: a query of 300 kB arrived with %s", name, got)
						}
						cl.Close()
						cfg.Password = "wrong"
						pool.WantCode(t, p.WantRefused(cfg), "28P01", "password authentication failed")
					}
					clear := p.ConnectAs(p.Config("alice", "right", "postgres"))
					pool.MustQuery(t, clear, "SELECT 1")
				})
			}
		}
	}
}

// libpq verifies the certificate, and binds SCRAM to the connection.
func TestLibpqVerifiesUsAndBindsTheChannel(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p, _ := encrypted(t, c, "require", known, map[string]string{"host": "localhost"})
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	run := func(sslmode, binding string) (string, error) {
		cmd := p.Tool(ctx, "psql", "-XAtc", "SELECT 'in'")
		cmd.Env = append(cmd.Env, "PGHOST=localhost", "PGUSER=alice", "PGPASSWORD=right", "PGDATABASE=postgres", "PGSSLMODE="+sslmode,
			"PGSSLROOTCERT="+p.Path("cert.pem"), "PGCHANNELBINDING="+binding)
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		if out, err := run(mode, "require"); err != nil || out != "in" {
			t.Errorf("sslmode=%s: %s, %v", mode, out, err)
		}
	}
	if out, err := run("disable", "prefer"); err == nil || !strings.Contains(out, "the connection must be encrypted") {
		t.Errorf("sslmode=disable: %s, %v", out, err)
	}
	if cl, err := p.Try(p.UnixConfig("alice", "right", "postgres")); err != nil {
		t.Errorf("by the Unix socket: %v", err)
	} else {
		cl.Close()
	}
}

// A handshake that stops at any byte ends with the time for logins, and leaves nothing.
func TestHandshakeThatStallsEnds(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p, roots := encrypted(t, c, "allow", known, map[string]string{"authentication_timeout": "6s"})
	stalled := map[string]net.Conn{}
	for _, begin := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x16\x03\x01\x00\x05hello"} {
		conn := p.DialRaw()
		pool.Must(t, conn.SetDeadline(time.Now().Add(pool.Generous)))
		if _, err := conn.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")); err != nil {
			t.Fatal(err)
		}
		var answer [1]byte
		if _, err := conn.Read(answer[:]); err != nil || answer[0] != 'S' {
			t.Fatalf("answer %q, %v", answer, err)
		}
		if _, err := conn.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
		stalled[begin] = conn
	}
	for begin, conn := range stalled {
		var answer [1]byte
		for { // an alert may come before the end
			if _, err := conn.Read(answer[:]); err != nil {
				if strings.Contains(err.Error(), "timeout") {
					t.Errorf("a handshake of %q isn't ended", begin)
				}
				break
			}
		}
	}
	cfg := p.Config("alice", "right", "postgres")
	cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	pool.MustQuery(t, p.ConnectAs(cfg), "SELECT 1")
}

// Direct TLS needs the name of the protocol, so that no other protocol's client can be led to us.
func TestClientMayBeginWithTLSIfItNamesTheProtocol(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p, roots := encrypted(t, c, "allow", known, nil)
	for _, protocols := range [][]string{{"postgresql"}, nil} {
		raw := p.DialRaw()
		conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protocols})
		pool.Must(t, conn.SetDeadline(time.Now().Add(pool.Generous)))
		pool.Must(t, conn.Handshake())
		startup := "\x00\x03\x00\x00user\x00alice\x00database\x00postgres\x00\x00"
		_, err := conn.Write(append([]byte{0, 0, 0, byte(len(startup) + 4)}, startup...))
		pool.Must(t, err)
		var typ [1]byte
		n, err := conn.Read(typ[:])
		if named := protocols != nil; named != (err == nil && n == 1 && typ[0] == 'R') {
			t.Errorf("protocols %v: answer %q, %v", protocols, typ[:n], err)
		}
		conn.Close()
	}
}

// TestReloadChangesTheCertificate: new clients get the new certificate, and those that are
// connected stay.
func TestReloadChangesTheCertificate(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Nodes[0], "CREATE ROLE alice LOGIN PASSWORD 'right'")
	p, before := encrypted(t, c, "require", known, nil)
	config := func(roots *x509.CertPool) pgtest.ClientConfig {
		cfg := p.Config("alice", "right", "postgres")
		cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		return cfg
	}
	stays := p.ConnectAs(config(before))
	p.DropKey("tls_cert_file")
	p.DropKey("tls_key_file")
	after := shown(t, p)
	p.JSON("conf", "reload")
	pool.MustQuery(t, p.ConnectAs(config(after)), "SELECT 1")
	if conn, err := p.Try(config(before)); err == nil {
		conn.Close()
		t.Error("a new client gets the old certificate")
	}
	pool.MustQuery(t, stays, "SELECT 1")
	pool.WriteFile(t, p.Path("key.pem"), "no key", 0o600)
	if _, errs, code := p.CLI("conf", "reload"); code != 1 || !strings.Contains(errs, p.Path("key.pem")) {
		t.Errorf("a damaged key: exit code %d, %s", code, errs)
	}
	pool.MustQuery(t, p.ConnectAs(config(after)), "SELECT 1")
}
