package backends

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// countOf counts the backends of a user, whatever pool or client they belong to.
func countOf(user string) string {
	return "SELECT count(*) FROM pg_stat_activity WHERE usename = '" + user + "'"
}

// INITIAL_SIZE is opened at the start, clients find it, and MIN_SIZE comes back after kills.
func TestConnectionsAreOpenedAheadAndKept(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	pool.AskNode(t, n, "CREATE ROLE bob LOGIN PASSWORD 'x'")
	for i, pipeline := range pipelines {
		user := []string{"bob", "eve"}[i]
		if i > 0 {
			pool.AskNode(t, n, "CREATE ROLE eve LOGIN PASSWORD 'x'")
		}
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			p := pool.Start(t, pool.Setup{
				Servers: pool.Nodes(c), Users: map[string]string{user: "x"}, Databases: "postgres " + user + " 10 5 3\n",
				// With two workers one may have all of them, and a client of the other opens a sixth.
				Keys: map[string]string{"pipeline": pipeline, "workers": "1"},
			})
			pgtest.WaitUntil(t, pool.Generous, "five idle connections", func() bool { // the server has them a little earlier
				pools, _ := p.JSON("pools")["Pools"].([]any)
				return len(pools) == 1 && pools[0].(map[string]any)["Idle"] == 5.0
			}, p.Log)
			for range 5 { // each client finds a backend that is there
				cl := p.ConnectAs(p.Config(user, "x", "postgres"))
				pool.MustQuery(t, cl, "SELECT 1")
				cl.Close()
			}
			pool.WaitNode(t, n, countOf(user), "5")
			pool.AskNode(t, n, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '"+user+"'")
			pool.WaitNode(t, n, countOf(user), "3")
		})
	}
}

// idle_timeout leaves MIN_SIZE alone: the same backends stay.
func TestIdleTimeoutSparesMinSize(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	pool.AskNode(t, n, "CREATE ROLE bob LOGIN")
	p := pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"bob": "x"}, Databases: "postgres bob 10 6 3\n", Keys: map[string]string{"idle_timeout": "4s"},
	})
	p.Begin() // whoever waits until pgagroal is ready may miss the first seconds
	pool.WaitNode(t, n, countOf("bob"), "6")
	pool.WaitNode(t, n, countOf("bob"), "3")
	pool.WaitNode(t, n, countOf("bob")+" AND backend_start < now() - interval '9s'", "3")
}

// A server that refuses is asked again, the log says why once, and clients aren't disturbed.
func TestOpeningAheadBacksOff(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	pool.AskNode(t, n, "CREATE ROLE bob LOGIN CONNECTION LIMIT 1")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"bob": "x"}, Databases: "postgres bob 10 4 4\n"})
	const line = `connections can't be opened ahead of clients`
	p.WaitLog(line)
	p.WaitLog("too many connections for role")
	p.Connect()
	pool.AskNode(t, n, "ALTER ROLE bob CONNECTION LIMIT -1")
	pool.WaitNode(t, n, countOf("bob"), "4")
	if k := strings.Count(p.Log(), line); k > 3 {
		t.Errorf("the log says %d times why no connection is opened", k)
	}
}

// The new primary gets INITIAL_SIZE, without a client.
func TestConnectionsAreOpenedAheadOnANewPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	pool.AskNode(t, n1, "CREATE ROLE bob LOGIN")
	pool.Must(t, n2.WaitReplay(pool.Within(t), n1))
	s := pool.Play(t, c, pool.Plan{Users: map[string]string{"bob": "x"}, Before: func(s *pool.Scene) {
		pool.WriteFile(t, s.Pool.Path("pgagroal_databases.conf"), "postgres bob 10 4 2\n", 0o644)
	}})
	pool.WaitNode(t, n1, countOf("bob"), "4")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Opened("n2")
	pool.WaitNode(t, n2, countOf("bob"), "4")
}

// A client of another line gets the place of a connection that was opened ahead.
func TestClientsComeBeforeWhatIsOpenedAhead(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"bob": "x"}, Databases: "postgres bob 3 3 3\n", Keys: map[string]string{"max_connections": "3"},
	})
	pool.WaitNode(t, c.Primary(), countOf("bob"), "3")
	for range 3 {
		pool.MustQuery(t, p.Connect(), "SELECT 1")
	}
	pool.WaitNode(t, c.Primary(), countOf("bob"), "0")
}
