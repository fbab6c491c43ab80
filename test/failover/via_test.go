package failover

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// promoteVia is promote for servers that are reached at other ports than their own.
func promoteVia(c *pgtest.Cluster, servers []pool.Server) string {
	body := pool.PromoteScript(c)
	for i, n := range c.Nodes {
		body = strings.Replace(body, fmt.Sprintf("\n%d)", n.Port), fmt.Sprintf("\n%d)", servers[i].Port), 1)
	}
	return body
}

// replicationVia has a standby receive through a proxy of its own.
func replicationVia(t testing.TB, c *pgtest.Cluster, standby *pgtest.Node) *pgtest.Proxy {
	t.Helper()
	x := pgtest.NewProxy(t, c.Primary().Addr())
	pool.Must(t, standby.Follow(t.Context(), "127.0.0.1", x.Port()))
	pgtest.WaitUntil(t, pool.Generous, standby.Name+" to receive through its proxy", func() bool { return x.Connections() > 0 })
	pool.Must(t, standby.WaitStreaming(t.Context(), c.Primary()))
	return x
}

// with adds keys to others.
func with(keys, more map[string]string) map[string]string {
	out := maps.Clone(keys)
	maps.Copy(out, more)
	return out
}
