package takeover

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestTheWorkersUserHasNoRightsOverPgagroal tries as that user, outside of every sandbox, what a worker could do
// if the kernel lacked all of them.
func TestTheWorkersUserHasNoRightsOverPgagroal(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c)})
	pool.WriteFile(t, p.Path("pgagroal_users.conf"), "# without entries, which a key in the home of postgres would have to open\n", 0o600)
	p.AsRoot = true
	p.SetKey("user", "postgres")
	p.SetKey("worker_user", "nobody")
	p.Run()
	at := targetOf(p, c)
	as := func(name, command string) bool {
		cred, err := proc.CredentialOf(name)
		pool.Must(t, err)
		cmd := exec.Command("sh", "-c", command)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		return cmd.Run() == nil
	}
	for name, command := range map[string]string{
		"signal the supervisor":       fmt.Sprintf("kill -0 %d", at.supervisor),
		"slow the supervisor down":    fmt.Sprintf("renice -n 19 -p %d", at.supervisor),
		"read the users file":         "cat " + at.users,
		"write the state":             "touch " + filepath.Join(p.Path("state"), "planted"),
		"stop pgagroal by its socket": fmt.Sprintf("%s -c %s ping", pool.Program("pgagroal-cli"), p.Path("pgagroal.conf")),
	} {
		if as("nobody", command) {
			t.Errorf("the user of the workers can %s", name)
		}
		if !as("postgres", command) {
			t.Errorf("the user of the supervisor can't %s, so this proves nothing", name)
		}
	}
}
