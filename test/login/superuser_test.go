package login

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestNobodyLogsInAsTheSuperuserUnlessTheUsersFileHasIt(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for _, method := range []string{"trust", "scram-sha-256", "password", "all"} {
		t.Run(method, func(t *testing.T) {
			s := pool.Setup{Servers: pool.Nodes(c), Superuser: "alice:right", HBA: "host all all all " + method + "\n"}
			p := pool.Start(t, s)
			// The superuser is refused even with the right password, with the answer
			// for a wrong one.
			pool.WantCode(t, p.WantRefused(p.Config("alice", "right", "postgres")), "28P01", `password authentication failed for user "alice"`)
			s.Users = map[string]string{"alice": "right"}
			p = pool.Start(t, s)
			p.ConnectAs(p.Config("alice", "right", "postgres"))
		})
	}
}

func TestAFrontendPasswordShownInClearIsRecognised(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"alice": "right"}, HBA: "host all all all password\n",
		Before: func(p *pool.Pool) {
			p.Admin("-f", p.Path("pgagroal_frontend_users.conf"), "-U", "alice", "-P", "front", "user", "add")
		},
	})
	for range 2 { // the second login finds the user known
		pool.WantCode(t, p.WantRefused(p.Config("alice", "right", "postgres")), "28P01", "")
		p.ConnectAs(p.Config("alice", "front", "postgres"))
	}
}
