package login

import (
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestPasswordsThatAnAgentChangesNeedNoReload changes the password at the server and in the users file. Then the file is
// damaged, and mended.
func TestPasswordsThatAnAgentChangesNeedNoReload(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all scram-sha-256\n",
		Keys: map[string]string{"workers": "2"},
	})
	users := p.Path("pgagroal_users.conf")
	held := p.ConnectAs(p.Config("alice", "right", "postgres"))
	pid := pool.BackendPID(t, held)

	pool.AskNode(t, c.Primary(), "ALTER ROLE alice PASSWORD 'another'")
	p.Admin("-f", users, "-U", "alice", "-P", "another", "user", "edit")
	p.WaitLog("credential files have changed, and are in effect")
	if strings.Contains(p.Log(), "configuration is reloaded") {
		t.Error("somebody has reloaded: the test proves nothing")
	}
	next := p.ConnectAs(p.Config("alice", "another", "postgres"))
	if pool.BackendPID(t, next) == pid {
		t.Error("no backend had to be opened with the new password: the test proves nothing")
	}
	pool.WantCode(t, p.WantRefused(p.Config("alice", "right", "postgres")), "28P01", `password authentication failed for user "alice"`)
	if got := pool.BackendPID(t, held); got != pid {
		t.Errorf("the session that was there has backend %s instead of %s", got, pid)
	}

	pool.WriteFile(t, users, "alice:aGFsZiBvZiBhbiBlbnRyeQ==\n", 0o600)
	p.WaitLog("the credential files can't be used; the old entries stay in effect")
	if want := users + ":1:7: the entry is too short"; !strings.Contains(p.Log(), want) {
		t.Errorf("the log doesn't say %s", want)
	}
	served(t, p, "alice", "another")
	pool.Must(t, os.Remove(users))
	p.Admin("-f", users, "-U", "alice", "-P", "right", "user", "add")
	pgtest.WaitUntil(t, pool.Generous, "the mended file to be in effect", func() bool {
		return strings.Count(p.Log(), "credential files have changed, and are in effect") == 2
	}, p.Log)
	wrongPassword(t, p, "alice", "another")
}
