package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// asks starts a pool that asks clients for certificates of ca.
func asks(t testing.TB, c *pgtest.Cluster, ca authority, hba string, ident string) (*pool.Pool, *x509.CertPool) {
	t.Helper()
	p := pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right", "bob": "right"}, HBA: hba,
		Referred: map[string]string{"pgagroal_ident.conf": ident},
	})
	roots := shown(t, p)
	pool.Must(t, os.WriteFile(p.Path("ca.pem"), pemOf(ca.cert), 0o600))
	pool.Give(t, p.Path("ca.pem"))
	p.SetKey("tls_ca_file", p.Path("ca.pem"))
	p.SetKey("tls", "allow")
	p.Run()
	return p, roots
}

// pair is a certificate and its key, as a client shows them.
func pair(cert *x509.Certificate, key *ecdsa.PrivateKey) []tls.Certificate {
	return []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
}

func TestRulesAskForCertificates(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN PASSWORD 'right'")
	ca, stranger := newAuthority(t, "authority"), newAuthority(t, "another")
	p, roots := asks(t, c, ca, strings.Join([]string{
		"hostssl one all all cert",
		"hostssl mapped all all cert map=m",
		"hostssl san all all cert clientname=SAN",
		"hostssl dn all all cert clientname=DN map=dn",
		"hostssl anyca all all scram-sha-256 clientcert=verify-ca",
		"hostssl full all all scram-sha-256 clientcert=verify-full",
		"host all all all scram-sha-256",
	}, "\n")+"\n", "m /^(.*)@corp$ \\1\nm root bob\ndn \"CN=alice,O=Corp\" alice\n")
	for _, db := range []string{"one", "mapped", "san", "dn", "anyca", "full"} {
		pool.AskNode(t, c.Primary(), "CREATE DATABASE \""+db+"\"")
	}
	alice := func(by *authority) []tls.Certificate {
		return pair(sign(t, by, func(c *x509.Certificate) {
			c.Subject.CommonName, c.Subject.Organization = "alice", []string{"Corp"}
			c.EmailAddresses = []string{"bob"}
		}))
	}
	corp := pair(sign(t, &ca, func(c *x509.Certificate) { c.Subject.CommonName = "alice@corp" }))
	expired := pair(sign(t, &ca, func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "alice", time.Now().Add(-time.Hour)
	}))
	const needs = "connection requires a valid client certificate"
	for _, x := range []struct {
		database, user, password string
		certs                    []tls.Certificate
		code, text               string // none for a client that is let in
	}{
		{"one", "alice", "", alice(&ca), "", ""},
		{"one", "bob", "right", alice(&ca), "28000", `certificate authentication failed for user "bob"`},
		{"one", "alice", "right", nil, "28000", needs},
		{"mapped", "alice", "", corp, "", ""},
		{"mapped", "bob", "", corp, "28000", "certificate authentication failed"},
		{"mapped", "alice", "", alice(&ca), "28000", "certificate authentication failed"},
		{"san", "bob", "", alice(&ca), "", ""},
		{"san", "alice", "", alice(&ca), "28000", "certificate authentication failed"},
		{"dn", "alice", "", alice(&ca), "", ""},
		{"dn", "bob", "", alice(&ca), "28000", "certificate authentication failed"},
		{"anyca", "bob", "right", alice(&ca), "", ""},
		{"anyca", "bob", "wrong", alice(&ca), "28P01", "password authentication failed"},
		{"anyca", "bob", "right", nil, "28000", needs},
		{"full", "alice", "right", alice(&ca), "", ""},
		{"full", "bob", "right", alice(&ca), "28000", "certificate authentication failed"},
		{"postgres", "bob", "right", nil, "", ""},
		{"postgres", "bob", "right", alice(&stranger), "", "certificate"},
		{"one", "alice", "", expired, "", "certificate"},
	} {
		cfg := p.Config(x.user, x.password, x.database)
		cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		if x.certs != nil {
			cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &x.certs[0], nil }
		}
		cl, err := p.Try(cfg)
		switch {
		case x.code == "" && x.text == "":
			if err != nil {
				t.Errorf("%s to %s: %v", x.user, x.database, err)
				continue
			}
			if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != x.user {
				t.Errorf("%s to %s is %s", x.user, x.database, got)
			}
			cl.Close()
		case err == nil:
			t.Errorf("%s to %s was let in", x.user, x.database)
			cl.Close()
		case x.code != "":
			pool.WantCode(t, err, x.code, x.text)
		case !strings.Contains(err.Error(), x.text):
			t.Errorf("%s to %s: %v", x.user, x.database, err)
		}
	}
	clear := p.Config("alice", "right", "one") // hostssl doesn't fit it, the next line does
	if cl, err := p.Try(clear); err != nil {
		t.Errorf("in clear text: %v", err)
	} else {
		cl.Close()
	}
}

// libpq shows its certificate as PostgreSQL's users set it up.
func TestLibpqShowsItsCertificate(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	ca := newAuthority(t, "authority")
	p, _ := asks(t, c, ca, "hostssl all all all cert\n", "")
	cert, key := sign(t, &ca, func(c *x509.Certificate) { c.Subject.CommonName = "alice" })
	der, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(t, err)
	for name, text := range map[string][]byte{
		"c.crt": pemOf(cert), "c.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		pool.Must(t, os.WriteFile(p.Path(name), text, 0o600))
		pool.Give(t, p.Path(name))
	}
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	cmd := p.Tool(ctx, "psql", "-XAtc", "SELECT session_user")
	cmd.Env = append(cmd.Env, "PGUSER=alice", "PGDATABASE=postgres", "PGSSLMODE=verify-ca", "PGSSLROOTCERT="+p.Path("cert.pem"),
		"PGSSLCERT="+p.Path("c.crt"), "PGSSLKEY="+p.Path("c.key"))
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "alice" {
		t.Errorf("%s, %v", out, err)
	}
}
