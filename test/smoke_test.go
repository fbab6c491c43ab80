package test

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestClientReachesTheServerThroughThePool(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	p := Start(t, Setup{Servers: nodes(c)})
	rows := mustQuery(t, p.Connect(), "SELECT 6*7")
	if rows[0][0] != "42" {
		t.Errorf("6*7 is %v", rows)
	}
}
