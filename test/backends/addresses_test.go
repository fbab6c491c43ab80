package backends

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// withHosts lets pgagroal see these lines as /etc/hosts.
func withHosts(t *testing.T, p *pool.Pool, lines string) {
	t.Helper()
	pool.RootOnly(t)
	c := pool.ServingUser(t)
	pool.WriteFile(t, p.Path("hosts"), lines, 0o644)
	p.Adjust = func(cmd *exec.Cmd) {
		script := fmt.Sprintf("mount --bind %s/hosts /etc/hosts && exec setpriv --reuid=%d --regid=%d --clear-groups \"$@\"", cmd.Dir, c.Uid, c.Gid)
		cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "GODEBUG=netdns=go") // as the released programs, which have no other
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
}

// TestServerIsReachedAtAnyAddressOfItsName: PostgreSQL listens on the last address of
// the name alone.
func TestServerIsReachedAtAnyAddressOfItsName(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for name, hosts := range map[string]string{
		"IPv6 first":   "::1 db.test\n127.0.0.1 db.test\n",
		"dead members": "127.0.0.9 db.test\n127.0.0.8 db.test\n127.0.0.1 db.test\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "db.test", Port: c.Nodes[0].Port}}})
			withHosts(t, p, "127.0.0.1 localhost\n"+hosts)
			p.Run()
			pool.MustQuery(t, p.Connect(), "SELECT 1")
			p.WaitState("n1", "Primary")
		})
	}
}
