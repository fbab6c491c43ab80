package backends

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestServerIsReachedAtAnyAddressOfItsName: PostgreSQL listens only on the last address
// of the name.
func TestServerIsReachedAtAnyAddressOfItsName(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for name, hosts := range map[string]string{
		"IPv6 first":   "::1 db.test\n127.0.0.1 db.test\n",
		"dead members": "127.0.0.9 db.test\n127.0.0.8 db.test\n127.0.0.1 db.test\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := pool.Prepare(t, pool.Setup{Servers: []pool.Server{{Name: "n1", Host: "db.test", Port: c.Nodes[0].Port}}})
			p.Hosts(hosts)
			p.Run()
			pool.MustQuery(t, p.Connect(), "SELECT 1")
			p.WaitState("n1", "Primary")
		})
	}
}
