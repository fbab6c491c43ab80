package operator

import (
	"crypto/tls"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A client with TLS stays with its worker when that is replaced. It is served until upgrade_timeout, and
// then told that its session is over, not before the end of its transaction.
func TestClientsWithTLSStayUntilUpgradeTimeout(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
		"pipeline": "transaction", "failover": "off", "workers": "1", "tls": "on", "upgrade_timeout": "10s",
	}})
	cert, key := p.Path("server.crt"), p.Path("server.key")
	pool.Succeed(t, exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-keyout", key, "-out", cert))
	for name, file := range map[string]string{"tls_cert_file": cert, "tls_key_file": key} {
		pool.Give(t, file)
		p.SetKey(name, file)
	}
	p.Run()
	cfg := p.Config("postgres", "", "postgres")
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	idle, block, plain := p.ConnectAs(cfg), p.ConnectAs(cfg), p.Connect()
	pool.MustQuery(t, block, "BEGIN")
	old := p.Workers()
	r := p.JSON("worker", "recycle")
	if r["Workers"] != 1.0 || r["Moved"] != 1.0 || r["Left"] != 2.0 {
		t.Errorf("answer %v", r)
	}
	for _, cl := range []*pgtest.Client{idle, block, plain} {
		pool.MustQuery(t, cl, "SELECT 1")
	}
	if _, errs, code := p.CLI("worker", "recycle"); code != 1 || !strings.Contains(errs, "1 workers that were replaced before still have clients") {
		t.Errorf("the next order: exit code %d, %s", code, errs)
	}
	_, err := idle.ReadResult(pool.Within(t))
	pool.WantCode(t, err, "57P01", "terminating connection")
	pool.MustQuery(t, block, "SELECT 1")
	pool.MustQuery(t, block, "COMMIT")
	_, err = block.ReadResult(pool.Within(t))
	pool.WantCode(t, err, "57P01", "terminating connection")
	pgtest.WaitUntil(t, pool.Generous, "the old worker to end", func() bool {
		return !slices.Contains(p.Workers(), old[0])
	}, p.Log)
	pool.MustQuery(t, plain, "SELECT 1")
}
