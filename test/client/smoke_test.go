package client

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestClientReachesTheServerThroughThePool(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	rows := pool.MustQuery(t, p.Connect(), "SELECT 6*7")
	if rows[0][0] != "42" {
		t.Errorf("6*7 is %v", rows)
	}
}
