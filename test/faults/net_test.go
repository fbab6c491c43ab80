package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// host is a network namespace with one interface, eth0.
type host struct {
	name, addr string
	ns         *pgtest.Netns
}

// network is a bridge, in a namespace of its own, and its hosts. A fault is a rule
// about what arrives at a host: what is dropped there was sent, as on a real wire.
type network struct {
	t     testing.TB
	hub   *pgtest.Netns
	hosts map[string]*host
}

const emptyTable = `table inet faults {
 chain in {
  type filter hook input priority 0;
 }
}
`

func newNetwork(t testing.TB, names ...string) *network {
	t.Helper()
	n := &network{t: t, hub: newNetns(t), hosts: map[string]*host{}}
	plan := "link add br0 type bridge\nlink set br0 up\n"
	var others []*pgtest.Netns
	for i, name := range names {
		h := &host{name: name, addr: fmt.Sprintf("10.9.0.%d", i+1), ns: newNetns(t)}
		n.hosts[name] = h
		others = append(others, h.ns)
		plan += fmt.Sprintf("link add %[1]s type veth peer name eth0 netns /proc/self/fd/%[2]d\nlink set %[1]s master br0 up\n", name, i+3)
	}
	pool.Must(t, n.hub.Run(plan, others, "ip", "-batch", "-"))
	for _, h := range n.hosts {
		pool.Must(t, h.ns.Run("link set lo up\nlink set eth0 up\naddr add "+h.addr+"/24 dev eth0\n", nil, "ip", "-batch", "-"))
		pool.Must(t, h.ns.Run(emptyTable, nil, "nft", "-f", "-"))
	}
	return n
}

func newNetns(t testing.TB) *pgtest.Netns {
	t.Helper()
	ns, err := pgtest.NewNetns()
	pool.Must(t, err)
	t.Cleanup(func() { pool.Must(t, ns.Close()) })
	return ns
}

// rule adds a rule to what arrives at a host. @NAME stands for a host's address.
func (n *network) rule(at, text string) {
	n.t.Helper()
	for _, h := range n.hosts {
		text = strings.ReplaceAll(text, "@"+h.name, h.addr)
	}
	pool.Must(n.t, n.hosts[at].ns.Run("add rule inet faults in "+text+"\n", nil, "nft", "-f", "-"))
}

// lose drops what one host sends to another.
func (n *network) lose(from, to string) {
	n.t.Helper()
	n.rule(to, "ip saddr @"+from+" drop")
}

// part drops what two hosts send to each other.
func (n *network) part(a, b string) {
	n.t.Helper()
	n.lose(a, b)
	n.lose(b, a)
}

// heal takes all rules away and every link up again.
func (n *network) heal() {
	n.t.Helper()
	up := ""
	for name, h := range n.hosts {
		pool.Must(n.t, h.ns.Run("flush chain inet faults in\n", nil, "nft", "-f", "-"))
		up += "link set " + name + " up\n"
	}
	pool.Must(n.t, n.hub.Run(up, nil, "ip", "-batch", "-"))
}

// unplug takes a host's link down.
func (n *network) unplug(name string) {
	n.t.Helper()
	pool.Must(n.t, n.hub.Run("link set "+name+" down\n", nil, "ip", "-batch", "-"))
}

// dropped is how many packets to a host were counted by its rules.
func (n *network) dropped(name string) int {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "rules")
	pool.Must(n.t, n.hosts[name].ns.Run("nft list chain inet faults in >"+file+"\n", nil, "sh"))
	text, err := os.ReadFile(file)
	pool.Must(n.t, err)
	total := 0
	for _, m := range regexp.MustCompile(`counter packets (\d+)`).FindAllStringSubmatch(string(text), -1) {
		packets, err := strconv.Atoi(m[1])
		pool.Must(n.t, err)
		total += packets
	}
	return total
}
