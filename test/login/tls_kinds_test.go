package login

import (
	"bytes"
	"context"
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
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// issuer signs certificates and revocation lists with a key of any kind.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate for key; by is nil for one that signs itself.
func issue(t testing.TB, by *issuer, key crypto.Signer, name string, change func(*x509.Certificate)) issuer {
	t.Helper()
	number, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	pool.Must(t, err)
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
	}
	change(template)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	pool.Must(t, err)
	cert, err := x509.ParseCertificate(der)
	pool.Must(t, err)
	return issuer{cert, key}
}

// revoking is the list of an authority, in PEM form.
func (i issuer) revoking(t testing.TB, revoked ...issuer) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, i.cert, i.key)
	pool.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func signs(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

// certificates of each kind, and what checks them.
type certificates struct {
	roots, lists []byte
	shown        []shownCertificate
}

// shownCertificate is what one end shows. words is what pgagroal says of it, empty if it is right.
type shownCertificate struct {
	name  string
	chain []issuer // the leaf first
	key   crypto.Signer
	words string
	often bool // part of every run of the tests
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RSA 2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "RSA 4096":
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	pool.Must(t, err)
	return key
}

// newCertificates makes the certificates. named gives a leaf the name that the other end asks for.
func newCertificates(t testing.TB, commonName string, named func(*x509.Certificate)) certificates {
	t.Helper()
	ec := func() crypto.Signer { return newKey(t, "P-256") }
	root := issue(t, nil, ec(), "root", signs)
	middle := issue(t, &root, ec(), "middle", signs)
	stranger := issue(t, nil, ec(), "stranger", signs)
	edwards := issue(t, nil, newKey(t, "Ed25519"), "edwards", signs)
	leaf := func(by *issuer, change func(*x509.Certificate)) issuer {
		return issue(t, by, ec(), commonName, func(c *x509.Certificate) { named(c); change(c) })
	}
	plain := func(*x509.Certificate) {}
	const failed = "SSL error: certificate verify failed: "
	var m certificates
	add := func(name, words string, often bool, chain ...issuer) {
		m.shown = append(m.shown, shownCertificate{name, chain, chain[0].key, words, often})
	}
	revoked := leaf(&root, plain)
	below := leaf(&middle, plain)
	add("expired", failed+"certificate has expired", true, leaf(&root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))
	add("not yet valid", failed+"certificate is not yet valid", false, leaf(&root, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }))
	add("wrong authority", failed+"unable to get local issuer certificate", false, leaf(&stranger, plain))
	add("revoked", failed+"certificate revoked", true, revoked)
	add("self-signed", failed+"self-signed certificate", true, leaf(nil, plain))
	add("chain", "", true, below, middle)
	add("chain in another order", "", false, below, root, middle)
	add("chain without intermediate", failed+"unable to get local issuer certificate", false, below)
	for _, kind := range []string{"P-256", "P-384", "RSA 2048", "RSA 4096", "Ed25519"} {
		add(kind, "", kind == "RSA 2048", issue(t, &root, newKey(t, kind), commonName, named))
	}
	// Its signature names no hash, so a login can't be bound to it.
	add("signed by Ed25519", "", true, issue(t, &edwards, newKey(t, "Ed25519"), commonName, named))
	m.roots = append(pemOf(root.cert), pemOf(edwards.cert)...)
	m.lists = bytes.Join([][]byte{root.revoking(t, revoked), middle.revoking(t), edwards.revoking(t), stranger.revoking(t)}, nil)
	return m
}

func (s *shownCertificate) pem() []byte {
	var text []byte
	for _, c := range s.chain {
		text = append(text, pemOf(c.cert)...)
	}
	return text
}

// chosen leaves out what only make test-all has time for.
func (m *certificates) chosen() []shownCertificate {
	if *all {
		return m.shown
	}
	var list []shownCertificate
	for _, s := range m.shown {
		if s.often {
			list = append(list, s)
		}
	}
	return list
}

// shows has a running server show another certificate.
func shows(t testing.TB, n *pgtest.Node, s *shownCertificate) {
	t.Helper()
	for name, text := range map[string][]byte{"s.crt": s.pem(), "s.key": secretOf(t, s.key)} {
		file := filepath.Join(n.DataDir, name)
		pool.Must(t, os.WriteFile(file, text, 0o600))
	}
	pool.AskNode(t, n, "SELECT pg_reload_conf()")
	pgtest.WaitUntil(t, pool.Generous, "the server shows another certificate", func() bool {
		conn, err := net.DialTimeout("tcp", n.Addr(), pool.Generous)
		pool.Must(t, err)
		defer conn.Close()
		pool.Must(t, conn.SetDeadline(time.Now().Add(pool.Generous)))
		_, err = conn.Write(whole(sslReq, ""))
		pool.Must(t, err)
		var answer [1]byte
		if _, err := conn.Read(answer[:]); err != nil || answer[0] != 'S' {
			return false
		}
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		return c.Handshake() == nil && bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, s.chain[0].cert.Raw)
	})
}

// A server's certificate is judged as libpq judges it, which is asked as well.
func TestServersCertificatesOfEachKind(t *testing.T) {
	t.Parallel()
	m := newCertificates(t, "server", loopback)
	wrong := issue(t, nil, newKey(t, "P-256"), "first", signs)
	c := guarded(t, wrong.cert, wrong.key.(*ecdsa.PrivateKey), "scram-sha-256")
	n := c.Primary()
	p := behind(t, c, nil, known, map[string]string{"workers": "1", "health_check_period": "1s"}, map[string]string{"tls": "verify-full"})
	put(t, p, "ca.pem", m.roots)
	crl := put(t, p, "crl.pem", m.lists)
	text := strings.ReplaceAll(string(withCA(t, p)), "\ntls = ", "\ntls_crl_file = "+crl+"\ntls = ")
	pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), []byte(text), 0o644))
	p.Run()
	p.WaitLog(`code=tls hint="TLS handshake: SSL error: certificate verify failed: self-signed certificate`) // of the prober
	for _, s := range m.chosen() {
		shows(t, n, &s)
		if _, errs, code := p.CLI("flush", "all"); code != 0 {
			t.Fatalf("flush: %s", errs)
		}
		before := strings.Count(p.Log(), s.words)
		cl, err := p.Try(p.Config("alice", "right", "postgres"))
		switch {
		case s.words == "" && err != nil:
			t.Errorf("%s: %v", s.name, err)
		case s.words == "":
			if row := pool.MustQuery(t, cl, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]; row[0] != "t" {
				t.Errorf("%s: in clear text", s.name)
			}
			cl.Close()
		case err == nil:
			t.Errorf("%s: let in", s.name)
			cl.Close()
		default:
			pgtest.WaitUntil(t, pool.Generous, s.name+" in the log", func() bool { return strings.Count(p.Log(), s.words) > before })
		}
		if said := libpqSays(t, p, n, crl); s.words == "" != (said == "in") || s.words != "" && !strings.Contains(said, "certificate verify failed") {
			t.Errorf("%s: pgagroal says %q, libpq %q", s.name, s.words, said)
		}
	}
}

// libpqSays is what psql says of the server itself.
func libpqSays(t testing.TB, p *pool.Pool, n *pgtest.Node, crl string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	cmd := p.Tool(ctx, "psql", "-XAtc", "SELECT 'in'")
	_, port, err := net.SplitHostPort(n.Addr())
	pool.Must(t, err)
	cmd.Env = append(cmd.Env, "PGPORT="+port, "PGUSER=alice", "PGPASSWORD=right", "PGSSLMODE=verify-full", "PGCHANNELBINDING=disable",
		"PGSSLROOTCERT="+p.Path("ca.pem"), "PGSSLCRL="+crl)
	out, _ := cmd.CombinedOutput() // its text says how it ended
	return strings.TrimSpace(string(out))
}

// A client's certificate is judged as PostgreSQL judges it, which is asked as well.
func TestClientsCertificatesOfEachKind(t *testing.T) {
	t.Parallel()
	m := newCertificates(t, "alice", func(*x509.Certificate) {})
	other := newKey(t, "P-256")
	m.shown = append(m.shown, shownCertificate{"key of another", m.shown[5].chain, other, "invalid signature by the client certificate", true})
	ours := issue(t, nil, newKey(t, "P-256"), "localhost", func(c *x509.Certificate) { signs(c); c.DNSNames = []string{"localhost"} })
	c := pgtest.New(t, pgtest.Options{
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "s.crt", "ssl_key_file": "s.key", "ssl_ca_file": "ca.pem", "ssl_crl_file": "crl.pem"},
		Files: map[string][]byte{"s.crt": pemOf(ours.cert), "s.key": secretOf(t, ours.key), "ca.pem": m.roots, "crl.pem": m.lists},
		HBA:   []string{"hostssl postgres alice 127.0.0.1/32 cert", "host all all 127.0.0.1/32 trust"},
	})
	pool.AskNode(t, c.Primary(), "CREATE ROLE alice LOGIN PASSWORD 'right'")
	pool.AskNode(t, c.Primary(), "CREATE DATABASE trusting")
	p := pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: known, HBA: "hostssl all all all cert\n", Keys: map[string]string{"tls": "require", "workers": "1"},
	})
	for key, text := range map[string][]byte{
		"tls_cert_file": pemOf(ours.cert), "tls_key_file": secretOf(t, ours.key), "tls_ca_file": m.roots, "tls_crl_file": m.lists,
	} {
		p.SetKey(key, put(t, p, key, text))
	}
	p.Run()
	for _, s := range m.chosen() {
		var chain [][]byte
		for _, c := range s.chain {
			chain = append(chain, c.cert.Raw)
		}
		config := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: chain, PrivateKey: s.key}, nil
		}}
		before := strings.Count(p.Log(), s.words)
		cfg := p.Config("alice", "", "trusting")
		cfg.TLS = config
		cl, err := p.Try(cfg)
		if err == nil {
			cl.Close()
		}
		if (err == nil) != (s.words == "") {
			t.Errorf("%s: pgagroal says %v", s.name, err)
		} else if s.words != "" {
			pgtest.WaitUntil(t, pool.Generous, s.name+" in the log", func() bool { return strings.Count(p.Log(), s.words) > before })
		}
		theirs := c.Primary().Config("alice", "", "postgres")
		theirs.TLS = config
		ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
		direct, err := pgtest.Connect(ctx, theirs)
		if err == nil {
			direct.Close()
		}
		cancel()
		if (err == nil) != (s.words == "") {
			t.Errorf("%s: PostgreSQL says %v, pgagroal %q", s.name, err, s.words)
		}
	}
}
