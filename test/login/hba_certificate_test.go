package login

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var rewrite = flag.Bool("write", false, "write the files of expected verdicts")

// wantVerdicts compares verdicts with a file of testdata, or writes it.
func wantVerdicts(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		pool.Must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	pool.Must(t, err)
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("verdicts differ from those of %s:\n%s", file, d)
	}
}

// certificateLines mean the same in pg_hba.conf and in pgagroal_hba.conf, and certificateMaps in both files of maps.
// PostgreSQL understands the last maps from release 16 on.
var (
	certificateLines = []string{
		`hostssl one all all cert`,
		`hostssl mapped all all cert map=m`,
		`hostssl dn all all cert clientname=DN map=dn`,
		`hostssl newer all all cert map=newer`,
		`hostssl anyca all all trust clientcert=verify-ca`,
		`hostssl full all all trust clientcert=verify-full`,
		`hostssl mixed alice all cert`,
		`hostssl mixed all all reject`,
		`hostnossl clear,mixed all all trust`,
		`host open all all trust`,
	}
	certificateMaps = []string{
		`m /^(.*)@corp$ \1`, `m root bob`, `m root dave`, `m "quo ted" "Big"`, `m alice alice`, `m /^al dave`,
		`dn "CN=alice,O=Corp" alice`, `dn "/^CN=.*,O=Corp$" dave`,
		`newer root all`, `newer alice "all"`, `newer "quo ted" /^[ab]`, `newer /^(.*)@corp$ \1`,
	}
)

// shownBy are certificates of clients, by what verdicts call them.
func shownBy(t *testing.T, ca, stranger authority) (names []string, certificates map[string]*tls.Certificate) {
	t.Helper()
	certificates = map[string]*tls.Certificate{}
	add := func(name string, by authority, organization ...string) {
		cn, _, _ := strings.Cut(name, "/")
		p := pair(sign(t, &by, func(c *x509.Certificate) { c.Subject.CommonName, c.Subject.Organization = cn, organization }))
		names, certificates[name] = append(names, name), &p[0]
	}
	for _, name := range []string{"alice", "Alice", "alice@corp", "root", "quo ted", "all"} {
		add(name, ca)
	}
	add("alice/Corp", ca, "Corp")
	add("bob/Corp", ca, "Corp")
	add("alice/stranger", stranger)
	return append(names, "no certificate", "clear text"), certificates
}

// letIn says whether a client gets as far as the database, which doesn't exist.
func letIn(t *testing.T, cfg pgtest.ClientConfig) bool {
	t.Helper()
	cl, err := pgtest.Connect(pool.Within(t), cfg)
	if err == nil {
		cl.Close()
		t.Fatalf("the database %s exists", cfg.Database)
	}
	switch code := pgtest.Code(err); code {
	case "3D000":
		return true
	case "28000", "53300": // no line, or the certificate; reject
		return false
	case "":
		// An alert; or what is left of it, because with TLS 1.3 the client has already sent its
		// start-up packet when its certificate is refused, and a reset can overtake the alert.
		refused := strings.Contains(err.Error(), "certificate") || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
		if cfg.TLS != nil && refused {
			return false
		}
	}
	t.Fatalf("user %s, database %s: %v", cfg.User, cfg.Database, err)
	return false
}

// certificateScene starts a server and a pool with certificateLines and certificateMaps; roots trusts both.
func certificateScene(t *testing.T, ca authority, users []string) (n *pgtest.Node, p *pool.Pool, roots *x509.CertPool) {
	t.Helper()
	cert, key := sign(t, &ca, loopback)
	maps := strings.Join(certificateMaps, "\n") + "\n"
	n = pgtest.New(t, pgtest.Options{
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "s.crt", "ssl_key_file": "s.key", "ssl_ca_file": "ca.crt"},
		Files: map[string][]byte{"s.crt": pemOf(cert), "s.key": keyPEM(t, key), "ca.crt": pemOf(ca.cert), "pg_ident.conf": []byte(maps)},
		HBA:   append([]string{"local all all trust"}, certificateLines...),
	}).Primary()
	for _, u := range users {
		pool.AskNode(t, n, `CREATE ROLE "`+u+`" LOGIN`)
	}
	p = pool.Prepare(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: n.SocketDir, Port: n.Port}}, HBA: strings.Join(certificateLines, "\n") + "\n",
		Referred: map[string]string{"pgagroal_ident.conf": maps, "ca.pem": string(pemOf(ca.cert))},
	})
	roots = shown(t, p)
	roots.AddCert(ca.cert)
	p.SetKey("tls_ca_file", p.Path("ca.pem"))
	p.SetKey("tls", "allow")
	p.Run()
	return n, p, roots
}

// showing returns a configuration that shows a certificate, or none.
func showing(roots *x509.CertPool, name string, c *tls.Certificate) *tls.Config {
	if c == nil {
		c = &tls.Certificate{}
	}
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	return &tls.Config{RootCAs: roots, ServerName: name, GetClientCertificate: show}
}

// The same lines and maps let the same certificates in, here and in PostgreSQL. The file of verdicts lists who is let in.
func TestLinesAboutCertificatesMeanTheSameHere(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "authority"), newAuthority(t, "another")
	users := []string{"alice", "bob", "dave", "Big", "all"}
	n, p, roots := certificateScene(t, ca, users)
	names, certificates := shownBy(t, ca, stranger)
	hasNewer := pool.AskNode(t, n, "SHOW server_version_num") >= "160000"
	var verdicts strings.Builder
	for _, database := range []string{"one", "mapped", "dn", "newer", "full", "mixed", "anyca", "clear", "open", "elsewhere"} {
		for _, u := range users {
			if u != "alice" && slices.Contains([]string{"anyca", "clear", "open", "elsewhere"}, database) {
				continue // these lines don't ask for a name
			}
			in := []string{}
			for _, name := range names {
				direct, pooled := n.Config(u, "", database), p.Config(u, "", database)
				if name != "clear text" {
					direct.TLS, pooled.TLS = showing(roots, "127.0.0.1", certificates[name]), showing(roots, "localhost", certificates[name])
				}
				here := letIn(t, pooled)
				if there := letIn(t, direct); there != here && (database != "newer" || hasNewer) {
					t.Errorf("database %s, user %s, %s: let in %v, and %v directly", database, u, name, here, there)
				}
				if here {
					in = append(in, name)
				}
			}
			fmt.Fprintln(&verdicts, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", database, u, strings.Join(in, ", ")), " "))
		}
	}
	wantVerdicts(t, "certificates.verdicts", verdicts.String())
}
