package login

import (
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestAServerThatAsksForWhatRequireAuthForbidsGetsNothing has a server ask for clear text: users whose password is known
// here, a user that only the server knows, and probes.
func TestAServerThatAsksForWhatRequireAuthForbidsGetsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: []string{"host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 password"}})
	n := c.Primary()
	pool.AskNode(t, n, "CREATE ROLE alice LOGIN PASSWORD 'right'; CREATE ROLE bob LOGIN PASSWORD 'right'")
	servers := pool.Nodes(c)
	servers[0].More = map[string]string{"require_auth": "!password,!md5"}
	p := pool.Start(t, pool.Setup{
		Servers: servers, Users: map[string]string{"alice": "right"}, HBA: "host all all all all\n",
		Keys: map[string]string{"health_check_user": "alice", "failover": "off", "pipeline": "session"},
	})
	const words = "the server asks for password, and require_auth allows only scram-sha-256, none"
	for _, user := range []string{"alice", "bob"} {
		pool.WantCode(t, p.WantRefused(p.Config(user, "right", "postgres")), "28000", words)
	}
	p.WaitLog("server asks for password, and require_auth allows only scram-sha-256, none; look at require_auth in the section of n1")
	if log := p.Log(); !strings.Contains(log, `no connection to the server server=n1`) {
		t.Error("the log doesn't name the server")
	}
	served(t, p, "postgres", "") // by none, and the server is still in use

	config := p.Path("pgagroal.conf")
	text, err := os.ReadFile(config)
	pool.Must(t, err)
	pool.WriteFile(t, config, strings.ReplaceAll(string(text), "!password,!md5", "password"), 0o644)
	p.JSON("conf", "reload")
	for _, user := range []string{"alice", "bob"} {
		served(t, p, user, "right")
	}
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "template1")), "28000", "the server asks for no password, and require_auth allows only password")
}
