package pgtest

import (
	"context"
	"net"
	"testing"
	"time"
)

// pair returns two namespaces with an end of one cable each.
func pair(t *testing.T) (a, b *Netns) {
	t.Helper()
	if err := NoNetns(); err != nil {
		t.Skip(err)
	}
	var both [2]*Netns
	for i := range both {
		n, err := NewNetns()
		check(t, err)
		t.Cleanup(func() { check(t, n.Close()) })
		both[i] = n
	}
	check(t, both[0].Run("link add eth0 type veth peer name eth0 netns /proc/self/fd/3\n", both[1:], "ip", "-batch", "-"))
	for i, addr := range []string{"10.9.0.1", "10.9.0.2"} {
		check(t, both[i].Run("link set lo up\nlink set eth0 up\naddr add "+addr+"/24 dev eth0\n", nil, "ip", "-batch", "-"))
	}
	return both[0], both[1]
}

func TestNodesOfTheirOwnNetworkStreamAndCanBeCutOff(t *testing.T) {
	a, b := pair(t)
	c := New(t, Options{Standbys: 1, Places: []Place{{a, "10.9.0.1"}, {b, "10.9.0.2"}}})
	dial := func(addr string) error {
		return b.Do(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
	}
	check(t, dial(c.Nodes[0].Addr()))
	check(t, a.Run("table inet f {\n chain in {\n  type filter hook input priority 0;\n  drop;\n }\n}\n", nil, "nft", "-f", "-"))
	if dial(c.Nodes[0].Addr()) == nil {
		t.Error("a host that drops everything was reached")
	}
	run(t, c.Nodes[0], "SELECT 1") // by its Unix socket all the same
	check(t, a.Run("flush ruleset\n", nil, "nft", "-f", "-"))
	check(t, dial(c.Nodes[0].Addr()))
}
