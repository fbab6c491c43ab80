package process

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestAStartAsRootTakesTheKeyOfTheAccountThatItBecomes: the users were added as that account, and root has no key.
func TestAStartAsRootTakesTheKeyOfTheAccountThatItBecomes(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(mounts), " / / ") {
		t.Skip("takes a mount namespace of its own, and below a changed root directory there is none")
	}
	c := pgtest.New(t, pgtest.Options{HBA: []string{"host all all 127.0.0.1/32 scram-sha-256"}})
	pool.AskNode(t, c.Primary(), "CREATE ROLE app LOGIN PASSWORD 'right'")
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"app": "right"}, Keys: map[string]string{"user": ""}})
	p.SetKey("user", "pooler")
	account := pool.ServingUser(t)
	pool.WriteFile(t, p.Path("passwd"), fmt.Sprintf("root:x:0:0::%s:/bin/sh\npooler:x:%d:%d::%s:/bin/sh\n", p.Path("run"), account.Uid, account.Gid, p.Dir), 0o644)
	asRoot := func(cmd *exec.Cmd) {
		script := fmt.Sprintf("mount --bind %s /etc/passwd && exec \"$@\"", p.Path("passwd"))
		cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "HOME="+p.Path("run"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	check := p.Command("pgagroal", "-t", "-D", p.Dir)
	asRoot(check)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("-t: %v, %s", err, out)
	}
	p.Adjust = asRoot
	p.Run()
	pool.MustQuery(t, p.ConnectAs(p.Config("app", "right", "postgres")), "SELECT 1")
	p.Kill()

	pool.Must(t, os.Rename(p.Path(".pgagroal/master.key"), p.Path("away")))
	for _, flags := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
		cmd := p.Command("pgagroal", flags...)
		asRoot(cmd)
		said := pool.WontStart(t, cmd)
		for _, want := range []string{p.Path("pgagroal_users.conf"), "master key of pooler: " + p.Path(".pgagroal/master.key"), "sudo -u pooler pgagroal-admin master-key"} {
			if !strings.Contains(said, want) {
				t.Errorf("%v says %q; want %q", flags, said, want)
			}
		}
	}
}
