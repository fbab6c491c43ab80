package login

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var all = flag.Bool("all", false, "all combinations of pipelines, event loops and TLS modes, and all kinds of certificates")

// choice has each pipeline with each event loop, and each TLS mode of each leg.
var choice = []legs{
	{"session", "io_uring", "allow", "verify-full", false},
	{"session", "epoll", "require", "require", true},
	{"transaction", "epoll", "allow", "verify-ca", false},
	{"transaction", "io_uring", "require", "off", false},
	{"performance", "io_uring", "off", "prefer", false},
	{"performance", "epoll", "allow", "verify-full", true},
}

// everyLegs returns all combinations. Without TLS there is nothing to bind to.
func everyLegs() []legs {
	var every []legs
	for _, pipeline := range []string{"session", "transaction", "performance"} {
		for _, loop := range []string{"epoll", "io_uring"} {
			for _, client := range []string{"off", "allow", "require"} {
				for _, server := range []string{"off", "prefer", "require", "verify-ca", "verify-full"} {
					every = append(every, legs{pipeline, loop, client, server, false})
					if server != "off" {
						every = append(every, legs{pipeline, loop, client, server, true})
					}
				}
			}
		}
	}
	return every
}

// attempts are all logins to one pool.
func attempts() []attempt {
	var every []attempt
	for _, database := range methodsOfServer {
		for _, encrypted := range []bool{false, true} {
			for _, method := range append(slices.Clone(methodsOfClients), "passed") {
				for _, credential := range []string{right, wrong, right} { // the last one finds a pooled connection, if there may be one
					every = append(every, attempt{method, database, false, encrypted, credential})
				}
			}
			every = append(every,
				attempt{"scram", database, true, encrypted, right}, attempt{"scram", database, true, encrypted, wrong},
				attempt{"passed", database, true, encrypted, right}, attempt{"trust", database, false, encrypted, stale})
		}
	}
	return every
}

var (
	methodsOfClients = []string{"trust", "password", "md5", "scram", "cert"}
	methodsOfServer  = []string{"trust", "password", "md5", "scram", "cert"}
)

// matrix is what all pools of the matrix share.
type matrix struct {
	cluster *pgtest.Cluster
	files   map[string][]byte // for the directory of each pool
	roots   *x509.CertPool    // trusts pgagroal
	client  []tls.Certificate // of the user cert
	other   []tls.Certificate // of somebody else
}

// matrixServer starts a server that decides by the database how users prove themselves.
func matrixServer(t *testing.T, ca authority, users []string) *pgtest.Cluster {
	t.Helper()
	cert, key := sign(t, &ca, loopback)
	var ident strings.Builder
	for _, u := range users {
		fmt.Fprintf(&ident, "pool pool %s\n", u)
	}
	c := pgtest.New(t, pgtest.Options{
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "s.crt", "ssl_key_file": "s.key", "ssl_ca_file": "ca.crt", "max_connections": "300"},
		Files: map[string][]byte{"s.crt": pemOf(cert), "s.key": keyPEM(t, key), "ca.crt": pemOf(ca.cert), "pg_ident.conf": []byte(ident.String())},
		HBA: []string{
			"host trust all 127.0.0.1/32 trust", "host password all 127.0.0.1/32 password", "host md5 all 127.0.0.1/32 md5",
			"host scram all 127.0.0.1/32 scram-sha-256", "hostssl cert all 127.0.0.1/32 cert map=pool", "host postgres postgres 127.0.0.1/32 trust",
		},
	})
	for _, database := range methodsOfServer {
		pool.AskNode(t, c.Primary(), "CREATE DATABASE "+database)
	}
	return c
}

// newMatrix starts the server, makes its roles, and has pgagroal-admin write the users file.
func newMatrix(t *testing.T) *matrix {
	t.Helper()
	ca := newAuthority(t, "authority")
	var mapped []string
	for _, name := range append(slices.Clone(methodsOfClients), "passed") {
		mapped = append(mapped, name, name+"_md5")
	}
	m := &matrix{cluster: matrixServer(t, ca, mapped), roots: x509.NewCertPool()}
	m.roots.AddCert(ca.cert)
	named := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName = name }
	}
	m.client, m.other = pair(sign(t, &ca, named("cert"))), pair(sign(t, &ca, named("somebody")))
	shown, shownKey := sign(t, &ca, func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	toServer, toServerKey := sign(t, &ca, named("pool"))
	m.files = map[string][]byte{
		"ca.pem": pemOf(ca.cert), "cert.pem": pemOf(shown), "key.pem": keyPEM(t, shownKey),
		"pool.crt": pemOf(toServer), "pool.key": keyPEM(t, toServerKey), "pgagroal_ident.conf": []byte("own cert cert\nown cert cert_md5\n"),
	}
	users := map[string]string{}
	for _, name := range append(mapped, stale, stale+"_md5") {
		encryption, password := "scram-sha-256", right
		if strings.HasSuffix(name, "_md5") {
			encryption = "md5"
		}
		if !strings.HasPrefix(name, "passed") {
			users[name] = right
		}
		if strings.HasPrefix(name, stale) {
			password = "changed"
		}
		pool.AskNode(t, m.cluster.Primary(), fmt.Sprintf("SET password_encryption TO '%s'; CREATE ROLE %s LOGIN PASSWORD '%s'", encryption, name, password))
	}
	first := pool.Prepare(t, pool.Setup{Users: users})
	for _, name := range []string{"pgagroal_users.conf", ".pgagroal/master.key"} {
		text, err := os.ReadFile(first.Path(name))
		pool.Must(t, err)
		m.files[name] = text
	}
	return m
}

func keyPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// start starts one pool.
func (m *matrix) start(t *testing.T, l legs) *pool.Pool {
	t.Helper()
	servers := pool.Nodes(m.cluster)
	servers[0].More = map[string]string{"tls": l.server}
	p := pool.Prepare(t, pool.Setup{Servers: servers, HBA: matrixRules(l.client), Keys: map[string]string{
		"pipeline": l.pipeline, "ev_backend": l.loop, "max_connections": "30", "log_level": "info", "tls": l.client,
	}})
	pool.Must(t, os.Mkdir(p.Path(".pgagroal"), 0o700))
	pool.Give(t, p.Path(".pgagroal"))
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		pool.WriteFile(t, p.Path(name), string(m.files[name]), 0o600)
	}
	if l.client != "off" {
		p.SetKey("tls_cert_file", p.Path("cert.pem"))
		p.SetKey("tls_key_file", p.Path("key.pem"))
		p.SetKey("tls_ca_file", p.Path("ca.pem"))
	}
	if l.server != "off" {
		more := map[string]string{"tls_ca_file": p.Path("ca.pem"), "tls_cert_file": p.Path("pool.crt"), "tls_key_file": p.Path("pool.key")}
		if l.bind {
			more["channel_binding"] = "require"
		}
		m.addToServer(t, p, more)
	}
	p.Run()
	return p
}

// addToServer adds keys to the only server section, which is the end of the file.
func (m *matrix) addToServer(t *testing.T, p *pool.Pool, keys map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Dir, "pgagroal.conf"))
	pool.Must(t, err)
	for k, v := range keys {
		text = fmt.Appendf(text, "%s = %s\n", k, v)
	}
	pool.WriteFile(t, p.Path("pgagroal.conf"), string(text), 0o644)
}

// matrixRules tell the method by the user's name. That of a user whom pgagroal doesn't know has no say. Without TLS
// pgagroal accepts no rule that asks for a certificate.
func matrixRules(tls string) string {
	rules := `host all trust,trust_md5,stale,stale_md5 all trust
host all password,password_md5 all password
host all md5,md5_md5 all md5
host all scram,scram_md5 all scram-sha-256
host all passed,passed_md5 all scram-sha-256
`
	if tls != "off" {
		rules += "hostssl all cert,cert_md5 all cert map=own\n"
	}
	return rules
}

// try makes one attempt.
func (m *matrix) try(p *pool.Pool, a attempt) (got verdict) {
	password := right
	if a.credential == wrong {
		password = wrong
	}
	cfg := p.Config(a.user(), password, a.database)
	cfg.Bind = a.bound
	cfg.Asked = func(method string) { got.asked = method }
	if a.encrypted {
		show := m.client
		if a.credential == wrong {
			show = m.other
		}
		cfg.TLS = &tls.Config{RootCAs: m.roots, ServerName: "localhost", Certificates: show}
	}
	cl, err := p.Try(cfg)
	if err != nil {
		got.code, got.text = pgtest.Code(err), err.Error()
		if got.code == "" {
			got.code = "client"
		}
		return got
	}
	defer cl.Close()
	rows, err := pool.Query(cl, "SELECT session_user, current_database(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
	if err != nil || rows[0][0] != a.user() || rows[0][1] != a.database {
		got.code, got.text = "session", fmt.Sprint(rows, err)
		return got
	}
	got.ssl = rows[0][2]
	return got
}

// Every method of clients meets every method of the server, over each kind of leg. What must come of it is computed by
// expect.
func TestLoginsOfEveryMethod(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	rows := choice
	if *all {
		rows = everyLegs()
	}
	for _, l := range rows {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			p := m.start(t, l)
			defer p.Stop()
			outcomes := map[bool]int{}
			for _, a := range attempts() {
				want, got := expect(l, a), m.try(p, a)
				outcomes[want.code == ""]++
				if got.asked != want.asked || got.code != want.code || !strings.HasSuffix(got.text, want.text) || got.ssl != want.ssl {
					t.Errorf("%s:\n got %+v\nwant %+v", a, got, want)
				}
			}
			if outcomes[true] < 5 || outcomes[false] < 5 {
				t.Errorf("the attempts tell too little: %v", outcomes)
			}
		})
	}
}
