package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// authority signs certificates of servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	cert, key := sign(t, nil, func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.KeyUsage = name, true, x509.KeyUsageCertSign
	})
	return authority{cert, key}
}

// sign makes a certificate, signed by itself without an authority.
func sign(t testing.TB, by *authority, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(t, err)
	number, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	pool.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: "server"}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
	}
	change(template)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	pool.Must(t, err)
	cert, err := x509.ParseCertificate(der)
	pool.Must(t, err)
	return cert, key
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// guarded starts a server that shows the certificate and wants TLS from everybody who comes over TCP.
func guarded(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey, method string) *pgtest.Cluster {
	t.Helper()
	return guardedAll(t, cert, key, method, 0)
}

// guardedAll is guarded with standbys.
func guardedAll(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey, method string, standbys int) *pgtest.Cluster {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(t, err)
	c := pgtest.New(t, pgtest.Options{
		Standbys: standbys,
		Extra:    map[string]string{"ssl": "on", "ssl_cert_file": "s.crt", "ssl_key_file": "s.key"},
		Files:    map[string][]byte{"s.crt": pemOf(cert), "s.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})},
		HBA:      []string{"hostssl all alice 127.0.0.1/32 " + method, "hostssl all all 127.0.0.1/32 trust"},
	})
	pool.AskNode(t, c.Primary(), "CREATE ROLE alice LOGIN PASSWORD 'right'")
	return c
}

// behind prepares a pool whose server sections have these keys; ca is the file ca.pem.
func behind(t testing.TB, c *pgtest.Cluster, ca *x509.Certificate, users, keys, server map[string]string) *pool.Pool {
	t.Helper()
	servers := pool.Nodes(c)
	for i := range servers {
		servers[i].More = map[string]string{}
		for k, v := range server {
			servers[i].More[k] = v
		}
	}
	p := pool.Prepare(t, pool.Setup{Servers: servers, Users: users, HBA: "host all all all scram-sha-256\n", Keys: keys})
	if ca != nil {
		pool.Must(t, os.WriteFile(p.Path("ca.pem"), pemOf(ca), 0o600))
		pool.Give(t, p.Path("ca.pem"))
	}
	return p
}

func loopback(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }

func TestServersAreSpokenToInTLSInEachPipelineAndEventLoop(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "scram-sha-256")
	for _, pipeline := range []string{"session", "transaction"} {
		for _, loop := range []string{"epoll", "io_uring"} {
			for name, users := range map[string]map[string]string{"known": known, "passed through": nil} {
				t.Run(pipeline+"/"+loop+"/"+name, func(t *testing.T) {
					p := behind(t, c, ca.cert, users, map[string]string{"pipeline": pipeline, "ev_backend": loop},
						map[string]string{"tls": "verify-full"})
					pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), withCA(t, p), 0o644))
					p.Run()
					cl := p.ConnectAs(p.Config("alice", "right", "postgres"))
					rows := pool.MustQuery(t, cl, "SELECT ssl, repeat('x', 1000000) FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
					if rows[0][0] != "t" || rows[0][1] != strings.Repeat("x", 1_000_000) {
						t.Errorf("encrypted: %s, %d bytes", rows[0][0], len(rows[0][1]))
					}
					if got := pool.MustQuery(t, cl, "SELECT length('"+strings.Repeat("y", 300_000)+"')")[0][0]; got != "300000" {
						t.Errorf("a query of 300 kB arrived with %s", got)
					}
					pool.WantCode(t, p.WantRefused(p.Config("alice", "wrong", "postgres")), "28P01", "password authentication failed")
				})
			}
		}
	}
}

// withCA is the pool's configuration with ca.pem in each server section.
func withCA(t testing.TB, p *pool.Pool) []byte {
	t.Helper()
	text, err := os.ReadFile(p.Path("pgagroal.conf"))
	pool.Must(t, err)
	return []byte(strings.ReplaceAll(string(text), "\ntls = ", "\ntls_ca_file = "+p.Path("ca.pem")+"\ntls = "))
}

func TestQueryOverTLSIsCancelled(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "scram-sha-256")
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			p := behind(t, c, nil, known, map[string]string{"pipeline": pipeline}, map[string]string{"tls": "require"})
			p.Run()
			cl := p.ConnectAs(p.Config("alice", "right", "postgres"))
			ctx, stop := context.WithTimeout(context.Background(), pool.Generous)
			defer stop()
			ended := make(chan error, 1)
			go func() {
				_, err := cl.Query(ctx, "SELECT pg_sleep(600)")
				ended <- err
			}()
			pool.WaitNode(t, c.Primary(),
				"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active' AND usename = 'alice'", "1")
			pool.Must(t, cl.Cancel(ctx))
			select {
			case err := <-ended:
				pool.WantCode(t, err, "57014", "canceling statement")
			case <-time.After(pool.Generous):
				t.Fatal("it is not cancelled")
			}
		})
	}
}

// A server that isn't what its section says gets no login, and isn't taken for dead.
func TestServersCertificateIsJudgedAsLibpqDoes(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "authority"), newAuthority(t, "another")
	for name, x := range map[string]struct {
		change func(*x509.Certificate)
		by     *authority
		modes  map[string]string // what the log says, empty for a connection
	}{
		"right": {loopback, &ca, map[string]string{"prefer": "", "require": "", "verify-ca": "", "verify-full": ""}},
		"another name": {
			func(c *x509.Certificate) { c.DNSNames = []string{"db.example"} }, &ca,
			map[string]string{"verify-ca": "", "verify-full": `does not match host name \"127.0.0.1\"`},
		},
		"another authority": {loopback, &stranger, map[string]string{"require": "certificate verify failed", "verify-full": "certificate verify failed"}},
		"expired": {
			func(c *x509.Certificate) { loopback(c); c.NotAfter = time.Now().Add(-time.Hour) }, &ca,
			map[string]string{"verify-ca": "certificate has expired"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, key := sign(t, x.by, x.change)
			c := guarded(t, cert, key, "scram-sha-256")
			for mode, words := range x.modes {
				p := behind(t, c, ca.cert, known, nil, map[string]string{"tls": mode})
				pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), withCA(t, p), 0o644))
				p.Run()
				if words == "" {
					pool.MustQuery(t, p.ConnectAs(p.Config("alice", "right", "postgres")), "SELECT 1")
				} else {
					p.WantRefused(p.Config("alice", "right", "postgres"))
					p.WaitLog(words)
				}
				if state := p.State("n1"); strings.Contains(strings.ToLower(state), "fail") {
					t.Errorf("%s: the server is %s", mode, state)
				}
				p.Stop()
			}
		})
	}
}

func TestServerWithoutTLSGetsClearTextOnlyWithPrefer(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for _, mode := range []string{"prefer", "require"} {
		p := behind(t, c, nil, known, nil, map[string]string{"tls": mode})
		p.Run()
		if mode == "prefer" {
			pool.MustQuery(t, p.ConnectAs(p.Config("alice", "right", "postgres")), "SELECT 1")
			p.Stop()
			continue
		}
		p.WantRefused(p.Config("alice", "right", "postgres"))
		p.WaitLog("server does not support SSL, but SSL was required")
		pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'", "0")
	}
}

// With channel_binding = require no password goes to a server that doesn't bind the login to the connection.
func TestChannelBindingWithServers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	for method, bindings := range map[string]map[string]bool{
		"scram-sha-256": {"disabled": true, "prefer": true, "require": true},
		"password":      {"prefer": true, "require": false},
		"trust":         {"require": false},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c := guarded(t, cert, key, method)
			for binding, in := range bindings {
				p := behind(t, c, nil, known, nil, map[string]string{"tls": "require", "channel_binding": binding})
				p.Run()
				if in {
					pool.MustQuery(t, p.ConnectAs(p.Config("alice", "right", "postgres")), "SELECT 1")
				} else {
					p.WantRefused(p.Config("alice", "right", "postgres"))
					p.WaitLog("channel binding is required")
				}
				p.Stop()
			}
		})
	}
}

// An encrypted connection can't move to another worker; its lease does.
func TestLastConnectionOverTLSServesClientsOfBothWorkers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "trust")
	p := behind(t, c, nil, known, map[string]string{"pipeline": "transaction", "workers": "2", "max_connections": "1", "blocking_timeout": "60s"},
		map[string]string{"tls": "require"})
	p.Run()
	cfg := p.Config("alice", "right", "postgres")
	clients := []*pgtest.Client{p.ConnectAs(cfg), p.ConnectAs(cfg), p.ConnectAs(cfg)} // workers get clients in turn
	seen := map[string]bool{}
	for range 6 {
		for _, cl := range clients {
			row := pool.MustQuery(t, cl, "SELECT ssl, pid FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]
			if seen[row[1]] = true; row[0] != "t" {
				t.Error("a query in clear text")
			}
		}
	}
	if len(seen) < 2 {
		t.Errorf("one connection has served both workers: %v", seen)
	}
}

// Looks at servers, the fence and the new primary's clients use TLS as well.
func TestFailoverUnderTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guardedAll(t, cert, key, "trust", 1)
	servers := pool.Nodes(c)
	for i := range servers {
		servers[i].More = map[string]string{"tls": "require"}
	}
	s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: map[string]string{"pipeline": "transaction"}})
	s.Opened("n1")
	cl := s.Pool.Connect()
	pool.MustQuery(t, cl, "CREATE TABLE t (n int)")
	pool.WaitNode(t, c.Nodes[1], "SELECT count(*) FROM pg_class WHERE relname = 't'", "1") // replication doesn't wait for it
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	row := pool.MustQuery(t, s.Pool.Connect(), "SELECT ssl, inet_server_port() FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]
	if row[0] != "t" || row[1] != strconv.Itoa(c.Nodes[1].Port) {
		t.Errorf("encrypted: %s, port %s", row[0], row[1])
	}
	pool.MustQuery(t, s.Pool.Connect(), "INSERT INTO t VALUES (1)")
	s.Failover.WaitRuns(1)
}

// The server checks these clients itself, so their login can't be bound to our connection: no answer of theirs may
// reach a server that must bind it.
func TestPassedThroughClientIsRefusedWhereTheLoginMustBeBound(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	for _, method := range []string{"scram-sha-256", "password", "trust"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c := guarded(t, cert, key, method)
			p := behind(t, c, nil, nil, nil, map[string]string{"tls": "require", "channel_binding": "require"})
			p.Run()
			p.WantRefused(p.Config("alice", "right", "postgres"))
			p.WaitLog("channel binding is required")
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'", "0")
		})
	}
}

func seventeen(t testing.TB, n *pgtest.Node) bool {
	t.Helper()
	version, err := strconv.Atoi(pool.AskNode(t, n, "SHOW server_version_num"))
	pool.Must(t, err)
	return version >= 170000
}

// Servers of 17 and later take TLS that begins at once; others close the connection, which looks like a dead server, and
// nothing goes to them in clear text.
func TestDirectTLSToTheServer(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "scram-sha-256")
	p := behind(t, c, nil, known, nil, map[string]string{"tls": "require", "tls_negotiation": "direct"})
	p.Run()
	cfg := p.Config("alice", "right", "postgres")
	if !seventeen(t, c.Primary()) {
		p.WantRefused(cfg)
		pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'", "0")
		return
	}
	if row := pool.MustQuery(t, p.ConnectAs(cfg), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]; row[0] != "t" {
		t.Error("a connection in clear text")
	}
}

// psql 17 begins with TLS at once, and verifies and binds all the same.
func TestPsqlBeginsWithTLS(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	if !seventeen(t, c.Primary()) {
		t.Skip("psql before 17 has no sslnegotiation; make test-17 runs this")
	}
	p, _ := encrypted(t, c, "require", known, map[string]string{"host": "localhost"})
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	cmd := p.Tool(ctx, "psql", "-XAtc", "SELECT 'in'")
	cmd.Env = append(cmd.Env, "PGHOST=localhost", "PGUSER=alice", "PGPASSWORD=right", "PGDATABASE=postgres", "PGSSLMODE=verify-full",
		"PGSSLNEGOTIATION=direct", "PGSSLROOTCERT="+p.Path("cert.pem"), "PGCHANNELBINDING=require")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "in" {
		t.Errorf("%s, %v", out, err)
	}
}
