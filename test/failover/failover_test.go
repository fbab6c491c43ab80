package failover

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestDeadPrimaryIsReplacedByARunOfTheScript(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	p, failover, notify := pool.StartFailover(t, c, nil)
	pool.MustQuery(t, p.Connect(), "CREATE TABLE t(i int)")
	for _, standby := range c.Standbys() {
		pool.Must(t, standby.WaitReplay(pool.Within(t), c.Primary())) // either may be promoted
	}
	if err := c.Primary().Kill(); err != nil {
		t.Fatal(err)
	}
	runs := failover.WaitRuns(1)
	told := notify.WaitRuns(1)
	pool.MustQuery(t, p.Connect(), "INSERT INTO t VALUES (1)")
	n1 := c.Nodes[0]
	next, other := c.Nodes[1], c.Nodes[2]
	if runs[0][3] != pool.RunArgs(next)[1] {
		next, other = other, next
	}
	if diff := cmp.Diff([][]string{pool.RunArgs(n1, next)}, runs); diff != "" {
		t.Errorf("failover script (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{pool.RunArgs(n1, next, other)}, told); diff != "" {
		t.Errorf("notify script (-want +got):\n%s", diff)
	}
	p.WaitState(next.Name, "Primary")
	p.WaitState(n1.Name, "Failed")
}
