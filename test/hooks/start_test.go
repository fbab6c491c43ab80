package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestPgagroalDoesNotStartWithScriptsThatItCouldNotRun(t *testing.T) {
	t.Parallel()
	two := []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}, {Name: "n2", Host: "127.0.0.1", Port: 2}}
	own := func(t *testing.T, path string, uid int) { pool.Must(t, os.Chown(path, uid, uid)) }
	for _, tt := range []struct {
		name    string
		servers []pool.Server
		damage  func(t *testing.T, p *pool.Pool, script, notify string)
		key     string
		why     string
	}{
		{"one server", two[:1], nil, "failover:", "fewer than two servers"},
		{"no script", two, func(_ *testing.T, p *pool.Pool, _, _ string) { p.DropKey("failover_script") }, "failover:", "without failover_script"},
		{"notify alone", two, func(_ *testing.T, p *pool.Pool, _, _ string) {
			p.DropKey("failover_script")
			p.DropKey("failover")
		}, "failover_notify_script:", "without failover_script"},
		{"one script for both", two, func(_ *testing.T, p *pool.Pool, script, _ string) {
			p.DropKey("failover_notify_script")
			p.SetKey("failover_notify_script", script)
		}, "failover_notify_script:", "the same file as failover_script"},
		{"missing", two, func(t *testing.T, _ *pool.Pool, script, _ string) { pool.Must(t, os.Remove(script)) }, "failover_script:", "no such file"},
		{"missing notify", two, func(t *testing.T, _ *pool.Pool, _, notify string) { pool.Must(t, os.Remove(notify)) }, "failover_notify_script:", "no such file"},
		{"not executable", two, func(t *testing.T, _ *pool.Pool, script, _ string) { pool.Must(t, os.Chmod(script, 0o644)) }, "failover_script:", "must be able to read and execute it"},
		{"a directory", two, func(t *testing.T, _ *pool.Pool, script, _ string) {
			pool.Must(t, os.Remove(script))
			pool.Must(t, os.Mkdir(script, 0o755))
		}, "failover_script:", "not a regular file"},
		{"writable by others", two, func(t *testing.T, _ *pool.Pool, script, _ string) { pool.Must(t, os.Chmod(script, 0o757)) }, "failover_script:", "others can change what is run"},
		{"directory writable by others", two, func(t *testing.T, _ *pool.Pool, script, _ string) {
			pool.Must(t, os.Chmod(filepath.Dir(script), 0o777))
		}, "failover_script:", "others can change what is run"},
		{"a distant directory writable by others", two, func(t *testing.T, p *pool.Pool, _, _ string) {
			pool.Must(t, os.Chmod(p.Dir, 0o777))
		}, "failover_script:", "others can change what is run"},
		{"lines of another system", two, func(t *testing.T, _ *pool.Pool, script, _ string) {
			pool.Must(t, os.WriteFile(script, []byte("#!/bin/sh\r\nexit 0\r\n"), 0o755))
		}, "failover_script:", "CR LF"},
		{"no interpreter", two, func(t *testing.T, _ *pool.Pool, script, _ string) {
			pool.Must(t, os.WriteFile(script, []byte("#!/no/such/shell\nexit 0\n"), 0o755))
		}, "failover_script:", "is missing; install it"},
		{"no first line", two, func(t *testing.T, _ *pool.Pool, script, _ string) {
			pool.Must(t, os.WriteFile(script, []byte("exit 0\n"), 0o755))
		}, "failover_script:", "has no #! line"},
		{"empty", two, func(t *testing.T, _ *pool.Pool, script, _ string) { pool.Must(t, os.WriteFile(script, nil, 0o755)) }, "failover_script:", "is empty"},
		{"relative path", two, func(_ *testing.T, p *pool.Pool, _, _ string) {
			p.DropKey("failover_script")
			p.SetKey("failover_script", "hooks/failover.sh")
		}, "failover_script:", "not an absolute path"},
		{"of another user", two, func(t *testing.T, _ *pool.Pool, script, _ string) { own(t, script, 65534) }, "failover_script:", "is owned by user 65534"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.name == "of another user" && os.Geteuid() != 0 {
				t.Skip("only root can give a file to another user; run the tests as root too")
			}
			p := pool.Prepare(t, pool.Setup{Servers: tt.servers, Keys: pool.FailoverKeys(nil)})
			f, n := p.Hook("failover.sh", "exit 0"), p.Hook("notify.sh", "exit 0")
			p.SetKey("failover_script", f.Path)
			p.SetKey("failover_notify_script", n.Path)
			if tt.damage != nil {
				tt.damage(t, p, f.Path, n.Path)
			}
			said := pool.WontStart(t, p.Command("pgagroal", "-D", p.Dir))
			if !strings.Contains(said, tt.key) || !strings.Contains(said, tt.why) {
				t.Errorf("it says %q; want key %q and reason %q", said, tt.key, tt.why)
			}
			if said := pool.WontStart(t, p.Command("pgagroal", "-t", "-D", p.Dir)); !strings.Contains(said, tt.why) {
				t.Errorf("-t says %q; want %q", said, tt.why)
			}
		})
	}
}
