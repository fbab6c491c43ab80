package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wontStart runs a program that has to refuse, and returns what it said.
func wontStart(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1; it says\n%s", code, out)
	}
	return string(out)
}

func TestPgagroalDoesNotStartWithScriptsThatItCouldNotRun(t *testing.T) {
	t.Parallel()
	two := []Server{{Name: "n1", Host: "127.0.0.1", Port: 1}, {Name: "n2", Host: "127.0.0.1", Port: 2}}
	own := func(t *testing.T, path string, uid int) { must(t, os.Chown(path, uid, uid)) }
	for _, tt := range []struct {
		name    string
		servers []Server
		damage  func(t *testing.T, p *Pool, script, notify string)
		key     string
		why     string
	}{
		{"one server", two[:1], nil, "failover:", "fewer than two servers"},
		{"no script", two, func(_ *testing.T, p *Pool, _, _ string) { p.dropKey("failover_script") }, "failover:", "without failover_script"},
		{"notify alone", two, func(_ *testing.T, p *Pool, _, _ string) {
			p.dropKey("failover_script")
			p.dropKey("failover")
		}, "failover_notify_script:", "without failover_script"},
		{"one script for both", two, func(_ *testing.T, p *Pool, script, _ string) {
			p.dropKey("failover_notify_script")
			p.setKey("failover_notify_script", script)
		}, "failover_notify_script:", "the same file as failover_script"},
		{"missing", two, func(t *testing.T, _ *Pool, script, _ string) { must(t, os.Remove(script)) }, "failover_script:", "no such file"},
		{"missing notify", two, func(t *testing.T, _ *Pool, _, notify string) { must(t, os.Remove(notify)) }, "failover_notify_script:", "no such file"},
		{"not executable", two, func(t *testing.T, _ *Pool, script, _ string) { must(t, os.Chmod(script, 0o644)) }, "failover_script:", "must be able to read and execute it"},
		{"a directory", two, func(t *testing.T, _ *Pool, script, _ string) {
			must(t, os.Remove(script))
			must(t, os.Mkdir(script, 0o755))
		}, "failover_script:", "not a regular file"},
		{"writable by others", two, func(t *testing.T, _ *Pool, script, _ string) { must(t, os.Chmod(script, 0o757)) }, "failover_script:", "others can change what is run"},
		{"directory writable by others", two, func(t *testing.T, _ *Pool, script, _ string) {
			must(t, os.Chmod(filepath.Dir(script), 0o777))
		}, "failover_script:", "others can change what is run"},
		{"relative path", two, func(_ *testing.T, p *Pool, _, _ string) {
			p.dropKey("failover_script")
			p.setKey("failover_script", "hooks/failover.sh")
		}, "failover_script:", "not an absolute path"},
		{"of another user", two, func(t *testing.T, _ *Pool, script, _ string) { own(t, script, 65534) }, "failover_script:", "is owned by user 65534"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.name == "of another user" && os.Geteuid() != 0 {
				t.Skip("only root can give a file to another user; run the tests as root too")
			}
			p := Prepare(t, Setup{Servers: tt.servers, Keys: failoverKeys(nil)})
			f, n := p.hook("failover.sh", "exit 0"), p.hook("notify.sh", "exit 0")
			p.setKey("failover_script", f.Path)
			p.setKey("failover_notify_script", n.Path)
			if tt.damage != nil {
				tt.damage(t, p, f.Path, n.Path)
			}
			said := wontStart(t, p.Command("pgagroal", "-D", p.Dir))
			if !strings.Contains(said, tt.key) || !strings.Contains(said, tt.why) {
				t.Errorf("it says %q; want key %q and reason %q", said, tt.key, tt.why)
			}
			if said := wontStart(t, p.Command("pgagroal", "-t", "-D", p.Dir)); !strings.Contains(said, tt.why) {
				t.Errorf("-t says %q; want %q", said, tt.why)
			}
		})
	}
}

// dropKey takes a key out of the main section of a prepared pool.
func (p *Pool) dropKey(key string) {
	p.t.Helper()
	data, err := os.ReadFile(p.path("pgagroal.conf"))
	if err != nil {
		p.t.Fatal(err)
	}
	var kept []string
	for _, line := range strings.Split(string(data), "\n") {
		if name, _, ok := strings.Cut(line, " = "); ok && name == key {
			continue
		}
		kept = append(kept, line)
	}
	writeFile(p.t, p.path("pgagroal.conf"), strings.Join(kept, "\n"), 0o644)
}
