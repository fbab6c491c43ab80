package backends

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// pipelines are the pipelines in which a limit must hold.
var pipelines = []string{"session", "transaction"}

// A client too many is refused in its own words; the others work on, and its place is free once one leaves.
func TestMaxClientsIsNeverExceeded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, pipeline := range pipelines {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_clients": "2", "pipeline": pipeline}})
			first, second := p.Connect(), p.Connect()
			pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "53300", "too many clients, the limit is max_clients")
			p.WaitLog("clients are refused reason=\"too many clients, the limit is max_clients\"")
			pool.MustQuery(t, first, "SELECT 1")
			pool.MustQuery(t, second, "SELECT 1")
			second.Close()
			comesIn(t, p, p.Config("postgres", "", "postgres"))
		})
	}
}

// comesIn waits until a client that has left is no longer counted, and connects.
func comesIn(t *testing.T, p *pool.Pool, cfg pgtest.ClientConfig) *pgtest.Client {
	t.Helper()
	var cl *pgtest.Client
	pgtest.Eventually(t, pool.Generous, "a client that has left makes room", func() (err error) {
		cl, err = p.Try(cfg)
		return err
	})
	t.Cleanup(func() { cl.Close() })
	return cl
}

func TestCancelRequestsGetThroughWhenMaxClientsIsReached(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_clients": "1"}})
	cl := p.Connect()
	failed := make(chan error, 1)
	go func() {
		_, err := pool.Query(cl, "SELECT pg_sleep(600)")
		failed <- err
	}()
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()", "1")
	pool.Must(t, cl.Cancel(pool.Within(t)))
	pool.WantCode(t, <-failed, "57014", "canceling statement")
}

// Aliases count as their database, and users whose password is known here as well as others.
func TestClientsAreLimitedByUserAndByDatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, sql := range []string{"CREATE ROLE bob LOGIN", "CREATE ROLE eve LOGIN", "CREATE DATABASE real"} {
		pool.AskNode(t, c.Primary(), sql)
	}
	for name, users := range map[string]map[string]string{"known": {"bob": "x", "eve": "x", "postgres": "x"}, "passed through": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pool.Start(t, pool.Setup{
				Servers: pool.Nodes(c), Users: users, Databases: "real=nick all 20\n",
				Keys: map[string]string{"max_clients_per_user": "2", "max_clients_per_database": "3", "pipeline": "transaction"},
			})
			bob := p.ConnectAs(p.Config("bob", "", "real"))
			p.ConnectAs(p.Config("bob", "", "nick"))
			pool.WantCode(t, p.WantRefused(p.Config("bob", "", "postgres")), "53300", `too many clients of user "bob", the limit is max_clients_per_user`)
			p.ConnectAs(p.Config("eve", "", "nick"))
			pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "nick")), "53300", `too many clients of database "real", the limit is max_clients_per_database`)
			p.ConnectAs(p.Config("postgres", "", "postgres"))
			bob.Close()
			comesIn(t, p, p.Config("bob", "", "postgres"))
		})
	}
}

// The last places are for users of the admins file, and not even for them beyond max_clients.
func TestLastPlacesAreForAdmins(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE dba LOGIN")
	p := pool.Start(t, withAdmin(pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"dba": "x"}, Keys: map[string]string{"max_clients": "2", "reserved_connections": "1"},
	}, "dba"))
	p.Connect()
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "53300", "the last places of max_clients are reserved for admins")
	dba := p.Config("dba", "", "postgres")
	p.ConnectAs(dba)
	pool.WantCode(t, p.WantRefused(dba), "53300", "too many clients, the limit is max_clients")
}

// withAdmin adds a user to the admins file.
func withAdmin(s pool.Setup, name string) pool.Setup {
	s.Before = func(p *pool.Pool) {
		p.Admin("-f", p.Path("pgagroal_admins.conf"), "-U", name, "-P", "x", "user", "add")
	}
	return s
}

// A disabled database lets nobody in, under none of its names; who is in stays.
func TestDisabledDatabaseRefusesNewClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE DATABASE real")
	for _, pipeline := range pipelines {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Databases: "real=nick all 20\n", Keys: map[string]string{"pipeline": pipeline}})
			inside := p.ConnectAs(p.Config("postgres", "", "real"))
			orders(t, p, "real", false, "disable", "nick")
			for _, name := range []string{"real", "nick"} {
				pool.WantCode(t, p.WantRefused(p.Config("postgres", "", name)), "55000", `database "real" is disabled`)
			}
			pool.MustQuery(t, inside, "SELECT 1")
			p.Connect()
			orders(t, p, "real", true, "enable", "real")
			p.ConnectAs(p.Config("postgres", "", "nick"))

			orders(t, p, "*", false, "disable")
			pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "55000", `database "postgres" is disabled`)
			orders(t, p, "postgres", true, "enable", "postgres")
			p.Connect()
			pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "nick")), "55000", `database "real" is disabled`)
			orders(t, p, "*", true, "enable", "all")
			p.ConnectAs(p.Config("postgres", "", "nick"))
		})
	}
}

// orders runs a command of pgagroal-cli and checks what it answers for a database.
func orders(t *testing.T, p *pool.Pool, database string, enabled bool, args ...string) {
	t.Helper()
	list, _ := p.JSON(args...)["Databases"].([]any)
	if len(list) != 1 {
		t.Fatalf("%v answers %v", args, list)
	}
	d, _ := list[0].(map[string]any)
	if d["Database"] != database || d["Enabled"] != enabled {
		t.Errorf("%v answers %v", args, d)
	}
}
