package drivers

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var all = flag.Bool("all", false, "run all programs, which .ci/setup drivers makes possible, instead of a few")

// few are the programs that run without -all: what starts quickly and is installed for other tests, too.
var few = []string{"psql.sh", "python_psycopg2.py", "pgx", "pq"}

// lacking are steps that a driver has nothing for.
var lacking = map[string]string{"node_pg.js": "copy", "pdo_pgsql.php": "cancel"}

// interpreters run programs by the ends of their names. A program of Go is built.
var interpreters = map[string][]string{
	".sh": {"bash"}, ".py": {"/usr/bin/python3"}, ".js": {"node"}, ".pl": {"/usr/bin/perl"}, ".rb": {"/usr/bin/ruby"}, ".php": {"/usr/bin/php"},
	".java": {"java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar:/usr/share/java/postgresql-jdbc.jar"},
}

func TestMain(m *testing.M) { pool.Main(m) }

// programs returns the names of the programs to run.
func programs(t *testing.T) []string {
	t.Helper()
	if !*all {
		return few
	}
	entries, err := os.ReadDir("programs")
	pool.Must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// command returns the command of a program.
func command(t *testing.T, ctx context.Context, built, name string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("programs", name))
	pool.Must(t, err)
	with, ok := interpreters[filepath.Ext(name)]
	switch {
	case filepath.Ext(name) == "":
		return exec.CommandContext(ctx, filepath.Join(built, name))
	case !ok:
		t.Fatalf("no interpreter for %s", name)
	}
	return exec.CommandContext(ctx, with[0], append(slices.Clone(with[1:]), path)...)
}

// build builds the programs of Go.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+"/", "./programs/...")
	pool.Succeed(t, cmd)
	return dir
}

// authority is a certificate authority. The one that signs is trusted, the other is not.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	return authority{}.sign(t, template)
}

// sign completes a certificate and signs it, an authority's own if a has none.
func (a authority) sign(t *testing.T, template *x509.Certificate) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<60))
	pool.Must(t, err)
	template.NotBefore, template.NotAfter, template.BasicConstraintsValid = time.Now().Add(-time.Hour), time.Now().Add(time.Hour), true
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	pool.Must(t, err)
	cert, err := x509.ParseCertificate(der)
	pool.Must(t, err)
	return authority{cert, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a authority) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	pool.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// modes returns how the pool runs: in each pipeline, and in the session pipeline with and without kept sessions.
func modes() []string {
	if *all {
		return []string{"session", "kept", "transaction", "performance"}
	}
	return []string{"kept", "transaction", "performance"}
}

// play starts a pool that takes only TLS, in front of servers that take only TLS, with verify-full on both legs.
func play(t *testing.T, mode string) *pool.Scene {
	t.Helper()
	ca, other := newAuthority(t, "authority"), newAuthority(t, "another")
	cert := ca.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	c := pgtest.New(t, pgtest.Options{
		Standbys: 1, HBA: []string{"hostssl all alice 127.0.0.1/32 scram-sha-256", "hostssl all all 127.0.0.1/32 trust"},
		Extra: map[string]string{"ssl": "on", "ssl_cert_file": "s.crt", "ssl_key_file": "s.key"},
		Files: map[string][]byte{"s.crt": cert.pem(), "s.key": cert.keyPEM(t), "ca.crt": ca.pem()},
	})
	pool.AskNode(t, c.Primary(), "CREATE ROLE alice LOGIN PASSWORD 'right' IN ROLE pg_read_all_stats")
	servers := pool.Nodes(c)
	for i := range servers {
		servers[i].More = map[string]string{"tls": "verify-full", "tls_ca_file": filepath.Join(c.Nodes[i].DataDir, "ca.crt")}
	}
	keys := map[string]string{"pipeline": mode, "failover_keep_sessions": "off", "host": "localhost", "tls": "require"}
	switch mode {
	case "kept":
		keys["pipeline"], keys["failover_keep_sessions"] = "session", "on" // with known, the temporary table of the step copy marks the session
	case "performance":
		keys["failover"] = "off"
	}
	return pool.Play(t, c, pool.Plan{Servers: servers, Keys: keys, Users: map[string]string{"alice": "right"}, Before: func(s *pool.Scene) {
		pool.WriteFile(t, s.Pool.Path("pgagroal_hba.conf"), "hostssl all all all scram-sha-256\n", 0o644)
		for name, text := range map[string][]byte{"ca.pem": ca.pem(), "other.pem": other.pem(), "c.pem": cert.pem(), "c.key": cert.keyPEM(t)} {
			pool.WriteFile(t, s.Pool.Path(name), string(text), 0o600)
		}
		s.Pool.SetKey("tls_cert_file", s.Pool.Path("c.pem"))
		s.Pool.SetKey("tls_key_file", s.Pool.Path("c.key"))
	}})
}

// environment is what a program finds.
func environment(p *pool.Pool, name string) []string {
	modules := "/usr/share/nodejs"
	if cache, err := os.UserCacheDir(); err == nil {
		modules = filepath.Join(cache, "pgagroal-test", "node", "node_modules") + ":" + modules
	}
	return []string{
		"PATH=" + filepath.Dir(pgtest.Binary("psql")) + ":" + os.Getenv("PATH"), "HOME=" + p.Dir, "LANG=C.UTF-8", "NODE_PATH=" + modules,
		"PGHOST=localhost", "PGPORT=" + strconv.Itoa(p.Port), "PGUSER=alice", "PGPASSWORD=right", "PGDATABASE=postgres", "PGCONNECT_TIMEOUT=60",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + p.Path("ca.pem"), "CA=" + p.Path("ca.pem"), "WRONG_CA=" + p.Path("other.pem"), "NAME=" + name,
	}
}

// expected are the values of the steps as regular expressions; those after ready depend on the mode.
func expected(s *pool.Scene, mode, name string) map[string]string {
	want := map[string]string{
		"login": "^alice$", "wrong-password": `password authentication failed for user "alice"`, "wrong-ca": "(?i)certif", "prepared": "^110$",
		"sleeping": "^$", "cancel": "canceling statement due to user request|^CancelledError$|^pg_cancel$", "copy": "^100$", "ready": "^$",
	}
	if step := lacking[name]; step != "" {
		want[step] = "^-$"
		if step == "cancel" {
			delete(want, "sleeping")
		}
	}
	if mode == "performance" {
		return want
	}
	want["lost"], want["after"] = "[^-]", fmt.Sprintf("^%d$", s.Node(2).Port)
	if mode != "session" {
		want["lost"] = "^-$"
	}
	return want
}

// run is one program in one scene.
type run struct {
	name  string
	scene *pool.Scene
	said  map[string]string
	in    io.WriteCloser
	// ready is closed when the program waits for the failover, or has ended.
	ready    chan struct{}
	readyNow func()
}

// listen reads what the program says until it ends.
func (r *run) listen(ctx context.Context, out io.Reader) {
	defer r.readyNow()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		step, value, _ := strings.Cut(lines.Text(), " ")
		r.said[step] = strings.TrimSpace(value)
		switch step {
		case "sleeping":
			r.cancel(ctx)
		case "ready":
			r.readyNow()
		}
	}
}

// cancel tells the program to cancel its statement when the server runs that.
func (r *run) cancel(ctx context.Context) {
	running := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%%/* %s */'", r.name)
	for ctx.Err() == nil {
		if n, err := r.scene.Node(1).Query(ctx, running); err == nil && n == "1" {
			_, _ = io.WriteString(r.in, "cancel\n") // a program that has ended shows in what it has said
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// start starts a program. wait returns when it has ended, and checks what it has said.
func start(t *testing.T, ctx context.Context, s *pool.Scene, mode string, cmd *exec.Cmd, name string) (r *run, wait func()) {
	t.Helper()
	r = &run{name: name, scene: s, said: map[string]string{}, ready: make(chan struct{})}
	r.readyNow = sync.OnceFunc(func() { close(r.ready) })
	cmd.Env = environment(s.Pool, name)
	cmd.WaitDelay = pool.Generous
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	pool.Must(t, err)
	r.in, err = cmd.StdinPipe()
	pool.Must(t, err)
	pool.Must(t, cmd.Start())
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.listen(ctx, out)
	}()
	return r, func() {
		<-over
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, errs.String())
		}
		want := expected(s, mode, name)
		for step, pattern := range want {
			if value, ok := r.said[step]; !ok || !regexp.MustCompile(pattern).MatchString(value) {
				t.Errorf("%s: %s is %q (%v), want %s", name, step, value, ok, pattern)
			}
		}
		if len(r.said) != len(want) {
			t.Errorf("%s says %v", name, r.said)
		}
	}
}

// The programs run at the same time, and one failover is for all of them.
func TestDriversOverTLS(t *testing.T) {
	t.Parallel()
	built := build(t)
	for _, mode := range modes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := play(t, mode)
			s.Opened("n1")
			ctx, stop := context.WithTimeout(t.Context(), 6*pool.Generous)
			defer stop()
			var waits []func()
			var runs []*run
			for _, name := range programs(t) {
				r, wait := start(t, ctx, s, mode, command(t, ctx, built, name), name)
				runs, waits = append(runs, r), append(waits, wait)
			}
			for _, r := range runs {
				<-r.ready
			}
			what := "end\n"
			if mode != "performance" {
				pool.Must(t, s.Node(1).Kill())
				s.Opened("n2")
				what = "failover\n"
			}
			for i, r := range runs {
				_, _ = io.WriteString(r.in, what) // a program that has ended shows in what it has said
				waits[i]()
			}
		})
	}
}
