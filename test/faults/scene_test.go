package faults

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// scene is a cluster of n1, the primary, n2 and n3, pgagroal as host pool, and
// clients that write.
type scene struct {
	t    testing.TB
	net  *network
	c    *pgtest.Cluster
	p    *pool.Pool
	load *pool.Load
	free func() // gives back what a fault has taken
}

// plan says how a scene differs from the usual one.
type plan struct {
	keys    map[string]string // of pgagroal; an empty value means the default
	options func(*pgtest.Options)
	before  func(*scene)          // just before pgagroal starts
	prepare func(*exec.Cmd)       // of pgagroal
	servers func(*scene) []string // host of each server section; the nodes' addresses when nil
	idle    bool                  // nobody writes before the failover
	calm    time.Duration         // before the fault, for what must have been seen
}

// quick are times that make every decision a matter of seconds; the default ones
// take half a minute.
var quick = map[string]string{
	"failover_probe_timeout": "500ms", "failover_probe_interval": "100ms", "failover_silence_time": "2s",
	"failover_restart_grace": "8s", "health_check_period": "1s", "fence_timeout": "5s",
}

// slow are the default times. A worker that is late only because the machine is busy
// isn't killed.
var slow = map[string]string{"fence_timeout": "5s"}

// unhurried says that the default times hold.
func unhurried() bool { return *write || *repeat > 2 }

// quickly are keys that only shorten waiting.
func quickly(keys map[string]string) map[string]string {
	if unhurried() {
		return nil
	}
	return keys
}

// hold is how long a fault that must not start a script lasts: much longer than
// what would confirm a silent primary's death.
func hold() time.Duration {
	if unhurried() {
		return 30 * time.Second
	}
	return 8 * time.Second
}

// play starts a scene and returns when clients are served by n1.
func play(t testing.TB, pl plan) *scene {
	t.Helper()
	s := &scene{t: t, net: newNetwork(t, "n1", "n2", "n3", "pool")}
	receiver, times := "3s", quick
	if unhurried() {
		receiver, times = "10s", slow
	}
	o := pgtest.Options{
		Standbys: 2, SyncStandbys: "ANY 1 (n2, n3)",
		Extra: map[string]string{"wal_receiver_timeout": receiver, "track_commit_timestamp": "on"},
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		o.Places = append(o.Places, pgtest.Place{Netns: s.net.hosts[name].ns, Addr: s.net.hosts[name].addr})
	}
	if pl.options != nil {
		pl.options(&o)
	}
	s.c = pgtest.New(t, o)
	s.sql(1, "CREATE TABLE t(id text, node text DEFAULT current_setting('cluster_name'))")
	s.p = pool.Prepare(t, s.setup(pl, times))
	s.p.Adjust = pl.prepare
	for name, body := range map[string]string{"failover": promote(s.c), "notify": "exit 0"} {
		s.hook(name+".sh", body)
	}
	s.p.SetKey("failover_script", s.p.Path("hooks/failover.sh"))
	s.p.SetKey("failover_notify_script", s.p.Path("hooks/notify.sh"))
	if pl.before != nil {
		pl.before(s)
	}
	s.p.Run()
	s.opened("n1")
	if !pl.idle {
		s.write()
		s.served(20)
	}
	s.calm(pl.calm)
	return s
}

// write has clients write from now on, by the Unix socket, which no fault of the network touches.
func (s *scene) write() {
	s.load = pool.StartLoad(s.p.UnixConfig("postgres", "", "postgres"))
	s.t.Cleanup(s.load.End)
}

// setup is the configuration of pgagroal in its own network.
func (s *scene) setup(pl plan, times map[string]string) pool.Setup {
	keys := map[string]string{
		"max_connections": "20", "workers": "2", "pipeline": "transaction", "failover": "on",
		"health_check": "on", "health_check_user": "postgres",
	}
	maps.Copy(keys, times)
	maps.Copy(keys, pl.keys)
	out := pool.Setup{Netns: s.net.hosts["pool"].ns, Keys: keys}
	for i, n := range s.c.Nodes {
		server := pool.Server{Name: n.Name, Host: n.Host, Port: n.Port}
		if pl.servers != nil {
			server.Host = pl.servers(s)[i]
		}
		out.Servers = append(out.Servers, server)
	}
	return out
}

// promote is the body of a failover script that promotes the server in its arguments.
func promote(c *pgtest.Cluster) string {
	var b strings.Builder
	b.WriteString("case $3 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%s|%s) data=%s ;;\n", n.Host, n.Name, n.DataDir)
	}
	fmt.Fprintf(&b, "*) exit 9 ;;\nesac\nexec %s promote -w -s -D \"$data\"\n", pgtest.Binary("pg_ctl"))
	return b.String()
}

// node is a node by the number in its name.
func (s *scene) node(i int) *pgtest.Node { return s.c.Nodes[i-1] }

// sql asks a node by its Unix socket, again while it has no connection left for us.
func (s *scene) sql(node int, sql string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	var out string
	pgtest.Eventually(s.t, generous, "an answer of "+s.node(node).Name, func() (err error) {
		if out, err = s.node(node).Query(ctx, sql); pgtest.Code(err) != "53300" {
			pool.Must(s.t, err)
		}
		return err
	})
	return out
}

// status is the answer of `failover status`.
func (s *scene) status() map[string]any {
	s.t.Helper()
	st := s.p.JSON("failover", "status")
	return st
}

// opened waits until the pool is open on a server.
func (s *scene) opened(name string) {
	s.t.Helper()
	s.wait("the pool to be open on "+name, func(st map[string]any) bool {
		return st["Phase"] == "open" && st["Primary"] == name && st["Held"] == false
	})
}

// wait waits for an answer of `failover status`.
func (s *scene) wait(what string, holds func(map[string]any) bool) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, what, func() bool { return holds(s.status()) }, func() string { return fmt.Sprint(s.status()) })
}

// served waits until clients were told of so many more rows.
func (s *scene) served(n int) {
	s.t.Helper()
	from := s.load.Count()
	pgtest.WaitUntil(s.t, generous, "clients to be served", func() bool { return s.load.Count() >= from+n },
		func() string { return fmt.Sprint(s.status()) })
}

// history returns the entries of a kind, oldest first.
func (s *scene) history(kind string) []map[string]any {
	s.t.Helper()
	h := s.p.JSON("failover", "history")
	list, _ := h["History"].([]any)
	var out []map[string]any
	for _, x := range list {
		if m, _ := x.(map[string]any); m["kind"] == kind {
			out = append(out, m)
		}
	}
	return out
}

// ran waits for the first run of the failover script.
func (s *scene) ran() hookRun {
	s.t.Helper()
	pgtest.WaitUntil(s.t, 2*generous, "a run of the failover script", func() bool { return len(s.runs("failover.sh")) > 0 },
		func() string { return fmt.Sprint(s.status()) })
	return s.runs("failover.sh")[0]
}

// calm watches for a while that no script starts.
func (s *scene) calm(d time.Duration) {
	s.t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s.nothingRan()
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// nothingRan fails the test if a script was ever started.
func (s *scene) nothingRan() {
	s.t.Helper()
	if f, n := s.runs("failover.sh"), s.runs("notify.sh"); len(f)+len(n) > 0 {
		s.t.Fatalf("scripts ran: failover %v, notify %v; history %v", f, n, s.history("failover"))
	}
}

// same checks that clients are served by n1 as before, and that nothing was run.
func (s *scene) same() {
	s.t.Helper()
	s.opened("n1")
	s.served(20)
	s.nothingRan()
	if got := s.status()["Epoch"]; got != float64(1) {
		s.t.Errorf("epoch is %v, want 1", got)
	}
}

// rows checks what a node has against what clients were told, and returns how many
// acknowledged rows are lost.
func (s *scene) rows(node int, told pool.Seen) (lost int) {
	s.t.Helper()
	there := map[string]int{}
	for _, id := range strings.Fields(s.sql(node, "SELECT id FROM t")) {
		there[id]++
	}
	for id := range told.Acked {
		if there[id] == 0 {
			lost++
			s.t.Logf("row %s, acknowledged, is not on n%d; history: %v", id, node, s.history("failover"))
		}
	}
	twice := slices.DeleteFunc(slices.Collect(maps.Keys(there)), func(id string) bool { return there[id] < 2 })
	if len(twice) > 0 {
		s.t.Errorf("rows that are there twice: %v", twice)
	}
	return lost
}

// primary is the number of the node that the pool is open on.
func (s *scene) primary() int {
	s.t.Helper()
	name, _ := s.status()["Primary"].(string)
	for i, n := range s.c.Nodes {
		if n.Name == name {
			return i + 1
		}
	}
	s.t.Fatalf("the primary is %q", name)
	return 0
}
