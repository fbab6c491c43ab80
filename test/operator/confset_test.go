package operator

import (
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestConfSetAndFurtherFiles sets keys in every place that there is, and lets a start, a reload and a reset say which
// counts. The runner takes part: what only it and the supervisor know must stay equal.
func TestConfSetAndFurtherFiles(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 2, pool.Plan{})
	p := s.Pool
	auto := p.Path("state/auto.conf")
	get := func(key, want, source string) {
		t.Helper()
		if out, errs, _ := p.CLI("conf", "get", key); strings.TrimSpace(out) != want {
			t.Errorf("conf get %s: %q%s, want %s", key, out, errs, want)
		}
		if sources := p.JSON("conf", "get", key)["sources"].(map[string]any); len(sources) != 1 || !strings.HasPrefix(sources[key].(string), source) {
			t.Errorf("conf get %s: %v, want %s", key, sources, source)
		}
	}
	run := func(want string, words ...string) {
		t.Helper()
		if out, errs, code := p.CLI(words...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%v: exit %d, %s%s; want %s", words, code, out, errs, want)
		}
	}
	refused := func(want string, words ...string) {
		t.Helper()
		if out, errs, code := p.CLI(words...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %s%s; want %s", words, code, out, errs, want)
		}
	}
	held := p.Connect()
	pool.Must(t, os.Mkdir(p.Path("conf.d"), 0o755))
	pool.WriteFile(t, p.Path("conf.d/10.conf"), "[pgagroal]\nmax_retries = 7\nidle_timeout = 11\nfailover_kill_delay = 300ms\n[n2]\nfailover_priority = 4\n", 0o644)
	p.SetKey("include_dir", "conf.d")
	run("max_retries", "conf", "reload")
	get("max_retries", "7", p.Path("conf.d/10.conf")+":2")
	get("server.n2.failover_priority", "4", p.Path("conf.d/10.conf")+":6")

	p.SetKey("failover_script_timeout", "17s") // nobody has asked to read this
	run("until the next reload", "conf", "set", "idle_timeout", "12s")
	get("idle_timeout", "12s", "conf set")
	run("and kept in", "conf", "set", "max_retries", "8", "--persist")
	run("after a restart", "conf", "set", "max_connections", "40", "--persist")
	get("max_connections", "50", p.Path("pgagroal.conf"))
	refused("the script runner", "conf", "set", "failover_script", "/bin/true")
	refused("can't be kept in auto.conf", "conf", "set", "failover_script", "/bin/true", "--persist")
	refused("names a file", "conf", "set", "log_path", "/tmp/x", "--persist")
	refused("max_pools", "conf", "set", "max_pools", "many")
	refused("no such key", "conf", "reset", "nope")

	p.DropKey("failover_script_timeout")
	run("idle_timeout", "conf", "reload")
	get("idle_timeout", "11s", p.Path("conf.d/10.conf")+":3")
	get("max_retries", "8", auto)
	if got, err := pool.Query(held, "SELECT 1"); err != nil || got[0][0] != "1" {
		t.Errorf("a client was disturbed: %v, %v", got, err)
	}
	held.Close()

	p.Stop()
	p.Restart()
	get("max_retries", "8", auto)
	get("max_connections", "40", auto)
	run("max_retries", "conf", "reset", "all")
	get("max_retries", "7", p.Path("conf.d/10.conf")+":2")
	get("max_connections", "40", auto) // until the next start
	if runner := p.JSON("failover", "status")["Runner"].(map[string]any); runner["DigestMatch"] != true {
		t.Errorf("the runner has read something else: %v", runner)
	}
	p.Stop()
	pool.WriteFile(t, auto, "[pgagroal]\nfailover_script = /bin/true\n", 0o600)
	pool.Give(t, auto)
	if out := pool.WontStart(t, p.Command("pgagroal", "-D", p.Dir)); !strings.Contains(out, auto+":2") {
		t.Errorf("a script of auto.conf: %s", out)
	}
}
