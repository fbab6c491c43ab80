package upgrade

import (
	"flag"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var all = flag.Bool("all", false, "also what takes long: 64 busy clients, 5,000 idle ones")

// inARow is how many upgrades the busy clients live through.
const inARow = 10

// onlyAll skips a test that makes the machine too busy for others beside it.
func onlyAll(t *testing.T) {
	t.Helper()
	if !*all {
		t.Skip("make test-all runs it, with -all")
	}
}

// certify gives a prepared pool a certificate.
func certify(t testing.TB, p *pool.Pool, mode string) {
	t.Helper()
	cert, key := p.Path("server.crt"), p.Path("server.key")
	pool.Succeed(t, exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-keyout", key, "-out", cert))
	for name, file := range map[string]string{"tls_cert_file": cert, "tls_key_file": key} {
		pool.Give(t, file)
		p.SetKey(name, file)
	}
	p.SetKey("tls", mode)
}

// Ten upgrades in a row under 64 busy clients: nobody is disconnected, no transaction fails and none
// is lost. With TLS the clients stay with the first workers.
func TestBusyClientsLiveThroughUpgradesInARow(t *testing.T) {
	onlyAll(t)
	for _, leg := range []string{"plain", "TLS"} {
		for _, pipeline := range []string{"session", "transaction"} {
			t.Run(pipeline+" "+leg, func(t *testing.T) { busyUpgrades(t, pipeline, leg == "TLS") })
		}
	}
}

func busyUpgrades(t *testing.T, pipeline string, encrypted bool) {
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE written (by text)")
	backends := map[string]string{"session": "90", "transaction": "24"}[pipeline]
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
		"pipeline": pipeline, "max_connections": backends, "log_level": "info", "log_connections": "off", "log_disconnections": "off",
		"authentication_timeout": "60s", // 64 clients log in at once
	}})
	installed(t, p)
	env := "PGSSLMODE=disable"
	if encrypted {
		certify(t, p, "require")
		env = "PGSSLMODE=require"
	}
	p.Run()
	b := startBusy(t, p, env)
	var spans []span
	for n := 1; n <= inARow; n++ {
		install(t, p, build(t, versions[n%2]))
		s := span{begin: time.Now()}
		order(t, p)
		upgraded(t, p, n)
		if !encrypted {
			pgtest.WaitUntil(t, pool.Generous, "the old workers to end", func() bool { return len(p.Workers()) == 2 }, p.Log)
		}
		s.end = time.Now()
		b.all(t, s.end)
		spans = append(spans, s)
	}
	list := b.end(t, c.Primary())
	took := make([]time.Duration, len(spans))
	for i, s := range spans {
		took[i] = s.end.Sub(s.begin).Round(time.Millisecond)
	}
	slices.Sort(took)
	inside, outside := longest(list, spans)
	t.Logf("%d upgrades in %v to %v, the median %v; %d transactions of %d clients; the longest took %v while an upgrade was under way, up to %v, and %v otherwise",
		len(spans), took[0], took[len(took)-1], took[len(took)/2], len(list), 2*ofEach, inside.took, inside.end.Format(time.StampMilli), outside.took)
	pgtest.WaitUntil(t, pool.Generous, "workers without clients to end", func() bool { return len(p.Workers()) == 2 }, p.Log)
}
