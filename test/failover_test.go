package test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestDeadPrimaryIsReplacedByARunOfTheScript(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	p, failover, notify := StartFailover(t, c, nil)
	mustQuery(t, p.Connect(), "CREATE TABLE t(i int)")
	if err := c.Primary().Kill(); err != nil {
		t.Fatal(err)
	}
	runs := failover.WaitRuns(1)
	told := notify.WaitRuns(1)
	mustQuery(t, p.Connect(), "INSERT INTO t VALUES (1)")
	n1 := c.Nodes[0]
	next, other := c.Nodes[1], c.Nodes[2]
	if runs[0][3] != args(next)[1] {
		next, other = other, next
	}
	if diff := cmp.Diff([][]string{args(n1, next)}, runs); diff != "" {
		t.Errorf("failover script (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{args(n1, next, other)}, told); diff != "" {
		t.Errorf("notify script (-want +got):\n%s", diff)
	}
	p.WaitState(next.Name, "Primary")
	p.WaitState(n1.Name, "Failed")
}
