package failover

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// named returns the servers of a cluster by the names n1.test, n2.test and so on.
func named(c *pgtest.Cluster) []pool.Server {
	servers := pool.Nodes(c)
	for i := range servers {
		servers[i].Host = servers[i].Name + ".test"
	}
	return servers
}

// serverAddress asks a client's server which of its addresses the pool has used.
func serverAddress(t *testing.T, cl *pgtest.Client) string {
	t.Helper()
	return pool.MustQuery(t, cl, "SELECT host(inet_server_addr())")[0][0]
}

// TestFailoverToAServerGivenByName: each name has an address at which nobody answers before the one of its server, and
// the scripts get the names.
func TestFailoverToAServerGivenByName(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, Extra: map[string]string{"listen_addresses": "127.0.0.1,127.0.0.2"}})
	servers := named(c)
	s := pool.Ready(t, c, pool.Plan{Servers: servers})
	s.Pool.Hosts("127.0.0.9 n1.test\n127.0.0.1 n1.test\n127.0.0.9 n2.test\n127.0.0.2 n2.test\n")
	s.Pool.Run()
	s.Opened("n1")
	if got := serverAddress(t, s.Pool.Connect()); got != "127.0.0.1" {
		t.Errorf("n1 is reached at %s", got)
	}
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	runs := [][]string{pool.RunArgsOf(servers...)}
	s.Ran(runs, runs)
	cl := s.Pool.Connect()
	if got := pool.NodeOf(t, cl) + " at " + serverAddress(t, cl); got != "n2 at 127.0.0.2" {
		t.Errorf("clients get %s", got)
	}
}

// TestServerIsFollowedToItsNewAddress: a name that changes changes nothing for clients that are connected, and runs no
// failover; later connections go to the new address.
func TestServerIsFollowedToItsNewAddress(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, Extra: map[string]string{"listen_addresses": "127.0.0.1,127.0.0.2"}})
	s := pool.Ready(t, c, pool.Plan{Servers: named(c)})
	s.Pool.Hosts("127.0.0.2 n1.test\n127.0.0.1 n2.test\n")
	s.Pool.Run()
	s.Opened("n1")
	old := s.Pool.Connect()
	if got := serverAddress(t, old); got != "127.0.0.2" {
		t.Fatalf("n1 is reached at %s", got)
	}
	s.Pool.Hosts("127.0.0.1 n1.test\n127.0.0.1 n2.test\n")
	s.Pool.WaitLog("addresses=[" + c.Nodes[0].Addr() + "]")
	if got := serverAddress(t, s.Pool.Connect()); got != "127.0.0.1" {
		t.Errorf("the next connection goes to %s", got)
	}
	if got := serverAddress(t, old); got != "127.0.0.2" {
		t.Errorf("the client that was there is at %s", got)
	}
	s.NothingRan()
}
