package login

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// The longest password that PostgreSQL takes passes from the client, from the users file to the server, and through
// pgagroal.
func TestPasswordsOf64KiB(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{HBA: []string{
		"host all known,passed 127.0.0.1/32 password", "host all scram 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust",
	}})
	token := strings.Repeat("0123456789", 6553)
	for _, user := range []string{"known", "passed", "scram"} {
		pool.AskNode(t, c.Primary(), "CREATE ROLE "+user+" LOGIN PASSWORD '"+token+"'")
	}
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"known": token, "scram": token},
		HBA: "host all known all password\nhost all all all scram-sha-256\n",
	})
	for _, user := range []string{"known", "passed", "scram"} {
		cl, err := p.Try(p.Config(user, token, "postgres"))
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != user {
			t.Errorf("%s is %s", user, got)
		}
		cl.Close()
		wrong := token[:len(token)-1] + "x"
		pool.WantCode(t, p.WantRefused(p.Config(user, wrong, "postgres")), "28P01", "password authentication failed")
		if user != "scram" {
			pool.WantCode(t, p.WantRefused(p.Config(user, token+"x", "postgres")), "08P01", "invalid password packet length")
		}
	}
}
