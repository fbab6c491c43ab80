package pgtest

import (
	"testing"
)

func TestStandbysStreamAndOneTakesOver(t *testing.T) {
	c := New(t, Options{Standbys: 2})
	old, next, other := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	run(t, old, "CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
	for _, n := range c.Standbys() {
		check(t, n.WaitReplay(t.Context(), old))
		if got := run(t, n, "SELECT v FROM t"); got != "1" {
			t.Errorf("%s has %q, want what the primary wrote", n.Name, got)
		}
	}

	check(t, old.Kill())
	check(t, next.Promote(t.Context()))
	if c.Primary() != next {
		t.Errorf("primary is %s, want %s", c.Primary().Name, next.Name)
	}
	check(t, other.Follow(t.Context(), next.Host, next.Port))
	check(t, other.WaitStreaming(t.Context(), next))
	run(t, next, "INSERT INTO t VALUES (2)")
	check(t, other.WaitReplay(t.Context(), next))
	if got := run(t, other, "SELECT sum(v) FROM t"); got != "3" {
		t.Errorf("the other standby has the sum %q, want 3", got)
	}

	check(t, old.Rejoin(t.Context(), next))
	check(t, old.WaitReplay(t.Context(), next))
	if got := run(t, old, "SELECT sum(v), pg_is_in_recovery() FROM t"); got != "3|t" {
		t.Errorf("the old primary answers %q after its return, want 3|t", got)
	}
}

func run(t *testing.T, n *Node, sql string) string {
	t.Helper()
	out, err := n.Query(t.Context(), sql)
	check(t, err)
	return out
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
