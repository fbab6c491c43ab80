package test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// scene is a pool with both hooks in front of a cluster.
type scene struct {
	t                testing.TB
	c                *pgtest.Cluster
	p                *Pool
	failover, notify *Hook
}

// plan says in what a scene differs from the usual one.
type plan struct {
	keys    map[string]string
	servers []Server     // the nodes of the cluster when nil
	script  string       // body of the failover script; promotes when empty
	notify  string       // body of the notify script; ends with exit code 0 when empty
	before  func(*scene) // runs just before the start
	users   map[string]string
}

// play starts a scene and waits until n1 is open, unless before says otherwise by itself.
func play(t testing.TB, c *pgtest.Cluster, pl plan) *scene {
	t.Helper()
	s := ready(t, c, pl)
	s.p.Run()
	return s
}

// ready prepares a scene without starting the pool.
func ready(t testing.TB, c *pgtest.Cluster, pl plan) *scene {
	t.Helper()
	if pl.servers == nil {
		pl.servers = nodes(c)
	}
	if pl.script == "" {
		pl.script = promote(c)
	}
	if pl.notify == "" {
		pl.notify = "exit 0"
	}
	s := &scene{t: t, c: c, p: Prepare(t, Setup{Servers: pl.servers, Keys: failoverKeys(pl.keys), Users: pl.users})}
	s.failover, s.notify = s.p.hook("failover.sh", pl.script), s.p.hook("notify.sh", pl.notify)
	s.p.setKey("failover_script", s.failover.Path)
	s.p.setKey("failover_notify_script", s.notify.Path)
	if pl.before != nil {
		pl.before(s)
	}
	return s
}

// node is a node by the number in its name.
func (s *scene) node(i int) *pgtest.Node { return s.c.Nodes[i-1] }

// must fails the test for an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ran compares the runs of both hooks so far with what they should be, exactly.
func (s *scene) ran(failover, notify [][]string) {
	s.t.Helper()
	if diff := cmp.Diff(failover, s.failover.Runs(), cmpopts.EquateEmpty()); diff != "" {
		s.t.Errorf("runs of failover_script (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(notify, s.notify.Runs(), cmpopts.EquateEmpty()); diff != "" {
		s.t.Errorf("runs of failover_notify_script (-want +got):\n%s", diff)
	}
}

// nothingRan says that no hook was started.
func (s *scene) nothingRan() {
	s.t.Helper()
	s.ran(nil, nil)
}

// one is a single run with these nodes as arguments.
func one(ns ...*pgtest.Node) [][]string { return [][]string{args(ns...)} }

// status is the answer of `failover status`.
func (s *scene) status() map[string]any {
	s.t.Helper()
	return s.p.JSON("failover", "status")
}

// server is a server's part of `failover status`.
func (s *scene) server(name string) map[string]any {
	s.t.Helper()
	list, _ := s.status()["Servers"].([]any)
	for _, x := range list {
		if m, _ := x.(map[string]any); m["Server"] == name {
			return m
		}
	}
	s.t.Fatalf("failover status has no server %s", name)
	return nil
}

func (s *scene) word(key string) string {
	s.t.Helper()
	w, _ := s.status()[key].(string)
	return w
}

func (s *scene) epoch() int {
	s.t.Helper()
	n, _ := s.status()["Epoch"].(float64)
	return int(n)
}

// waitStatus waits until a word of `failover status` is this one.
func (s *scene) waitStatus(key, want string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, "failover status "+key+" to be "+want, func() bool { return s.word(key) == want },
		func() string { return s.word(key) }, s.p.Log)
}

// opened waits until the pool is open on a server.
func (s *scene) opened(name string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, "the pool to be open on "+name, func() bool {
		st := s.status()
		return st["Phase"] == "open" && st["Primary"] == name && st["Held"] == false
	}, func() string { return fmt.Sprint(s.status()) }, s.p.Log)
}

// held waits until no primary is open, for a reason with this text.
func (s *scene) held(reason string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, fmt.Sprintf("a hold because of %q", reason), func() bool {
		st := s.status()
		why, _ := st["HeldReason"].(string)
		return st["Phase"] == "held" && strings.Contains(why, reason)
	}, func() string { return fmt.Sprint(s.status()) }, s.p.Log)
}

// alarmed waits for an alarm with this text in `failover status`.
func (s *scene) alarmed(text string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, fmt.Sprintf("an alarm with %q", text), func() bool {
		return s.hasAlarm(text)
	}, func() string { return fmt.Sprint(s.status()["Alarms"]) })
}

func (s *scene) hasAlarm(text string) bool {
	s.t.Helper()
	list, _ := s.status()["Alarms"].([]any)
	return slices.ContainsFunc(list, func(a any) bool { return strings.Contains(fmt.Sprint(a), text) })
}

// follow makes a standby follow the primary, and returns when that could be replaced by it.
func (s *scene) follow(standby, primary *pgtest.Node) {
	s.t.Helper()
	must(s.t, standby.Follow(within(s.t), primary.Host, primary.Port))
	must(s.t, standby.WaitStreaming(within(s.t), primary))
	s.p.WaitState(standby.Name, "Replica")
}

// seen waits until the latest probe of a server saw this.
func (s *scene) seen(name, outcome string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, "a probe of "+name+" to see "+outcome, func() bool {
		probe, _ := s.server(name)["Probe"].(string)
		return strings.HasPrefix(probe, outcome)
	}, func() string { return fmt.Sprint(s.server(name)) }, s.p.Log)
}

// history returns the entries of this kind, oldest first.
func (s *scene) history(kind string) []map[string]any {
	s.t.Helper()
	list, _ := s.p.JSON("failover", "history")["History"].([]any)
	var out []map[string]any
	for _, x := range list {
		if m, _ := x.(map[string]any); m["kind"] == kind {
			out = append(out, m)
		}
	}
	return out
}

// told waits for an entry of this kind, and fails the test when there is more than one.
func (s *scene) told(kind string) map[string]any {
	s.t.Helper()
	return s.toldTimes(1, kind)[0]
}

// toldTimes waits for n entries of this kind, since the history is written after what status shows, and fails the
// test when there are more.
func (s *scene) toldTimes(n int, kind string) []map[string]any {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, fmt.Sprintf("%d times %s in the history", n, kind), func() bool { return len(s.history(kind)) >= n }, s.p.Log)
	h := s.history(kind)
	if len(h) != n {
		s.t.Fatalf("%d entries of kind %s in the history, want %d: %v", len(h), kind, n, h)
	}
	return h
}

// says checks that a field of a history entry, or of a status, contains a text.
func says(t testing.TB, entry map[string]any, key, text string) {
	t.Helper()
	if got := fmt.Sprint(entry[key]); !strings.Contains(got, text) {
		t.Errorf("%s is %q, which doesn't say %q", key, got, text)
	}
}

// neverWithin watches for d that cond stays false.
func neverWithin(t testing.TB, d time.Duration, what string, cond func() bool) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if cond() {
			t.Fatalf("%s, which must not happen", what)
		}
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// quiet watches for d that no hook starts.
func (s *scene) quiet(d time.Duration) {
	s.t.Helper()
	neverWithin(s.t, d, "a hook ran", func() bool { return len(s.failover.Runs())+len(s.notify.Runs()) > 0 })
}

// login is what an attempt to log in ended with.
type login struct {
	c   *pgtest.Client
	err error
}

// logIn starts to log in and returns at once.
func (s *scene) logIn() <-chan login {
	out := make(chan login, 1)
	go func() {
		c, err := s.p.try(s.p.Config("postgres", "", "postgres"))
		out <- login{c, err}
	}()
	return out
}

// served waits for the end of a login that has to succeed.
func (s *scene) served(l <-chan login) *pgtest.Client {
	s.t.Helper()
	got := <-l
	if got.err != nil {
		s.t.Fatalf("a login that should be served: %v\n%s", got.err, s.p.Log())
	}
	s.t.Cleanup(func() { got.c.Close() })
	return got.c
}

// refused waits for the end of a login that has to fail with this code.
func (s *scene) refused(l <-chan login, code string) {
	s.t.Helper()
	got := <-l
	if got.err == nil {
		got.c.Close()
		s.t.Fatalf("a login was served that should get %s", code)
	}
	if pgtest.Code(got.err) != code {
		s.t.Fatalf("a login got %v, want %s", got.err, code)
	}
}

// at tells which node a client's session is on.
func at(t testing.TB, c *pgtest.Client) string {
	t.Helper()
	return mustQuery(t, c, "SHOW cluster_name")[0][0]
}

// via are server sections of the nodes of a cluster, each behind a proxy of its own.
func via(t testing.TB, c *pgtest.Cluster) ([]Server, []*pgtest.Proxy) {
	t.Helper()
	var servers []Server
	var proxies []*pgtest.Proxy
	for _, n := range c.Nodes {
		x := pgtest.NewProxy(t, n.Addr())
		proxies = append(proxies, x)
		servers = append(servers, Server{Name: n.Name, Host: "127.0.0.1", Port: x.Port()})
	}
	return servers, proxies
}

// argsOf are the arguments that server sections give.
func argsOf(servers ...Server) []string {
	var out []string
	for _, s := range servers {
		out = append(out, s.Host, strconv.Itoa(s.Port))
	}
	return out
}

// promoteVia is promote for servers that are reached at other ports than their own.
func promoteVia(c *pgtest.Cluster, servers []Server) string {
	body := promote(c)
	for i, n := range c.Nodes {
		body = strings.Replace(body, fmt.Sprintf("\n%d)", n.Port), fmt.Sprintf("\n%d)", servers[i].Port), 1)
	}
	return body
}

// replicationVia has a standby receive through a proxy of its own.
func replicationVia(t testing.TB, c *pgtest.Cluster, standby *pgtest.Node) *pgtest.Proxy {
	t.Helper()
	x := pgtest.NewProxy(t, c.Primary().Addr())
	must(t, standby.Follow(t.Context(), "127.0.0.1", x.Port()))
	pgtest.WaitUntil(t, generous, standby.Name+" to receive through its proxy", func() bool { return x.Connections() > 0 })
	must(t, standby.WaitStreaming(t.Context(), c.Primary()))
	return x
}

// with adds keys to others.
func with(keys, more map[string]string) map[string]string {
	out := maps.Clone(keys)
	maps.Copy(out, more)
	return out
}

// within bounds an operation of the test on a cluster.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	t.Cleanup(cancel)
	return ctx
}
