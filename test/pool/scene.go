package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Scene is a pool with both hooks in front of a cluster.
type Scene struct {
	T                testing.TB
	Cluster          *pgtest.Cluster
	Pool             *Pool
	Failover, Notify *Hook
}

// Plan says how a scene differs from the usual one.
type Plan struct {
	Keys    map[string]string
	Servers []Server     // the nodes of the cluster when nil
	Script  string       // body of the failover script; promotes when empty
	Notify  string       // body of the notify script; ends with exit code 0 when empty
	Before  func(*Scene) // runs just before the start
	Users   map[string]string
}

// Play starts a scene and returns when pgagroal is ready; Opened waits for a primary.
func Play(t testing.TB, c *pgtest.Cluster, pl Plan) *Scene {
	t.Helper()
	s := Ready(t, c, pl)
	s.Pool.Run()
	return s
}

// Ready prepares a scene without starting the pool.
func Ready(t testing.TB, c *pgtest.Cluster, pl Plan) *Scene {
	t.Helper()
	if pl.Servers == nil {
		pl.Servers = Nodes(c)
	}
	if pl.Script == "" {
		pl.Script = PromoteScript(c)
	}
	if pl.Notify == "" {
		pl.Notify = "exit 0"
	}
	s := &Scene{T: t, Cluster: c, Pool: Prepare(t, Setup{Servers: pl.Servers, Keys: FailoverKeys(pl.Keys), Users: pl.Users})}
	s.Failover, s.Notify = s.Pool.Hook("failover.sh", pl.Script), s.Pool.Hook("notify.sh", pl.Notify)
	s.Pool.SetKey("failover_script", s.Failover.Path)
	s.Pool.SetKey("failover_notify_script", s.Notify.Path)
	if pl.Before != nil {
		pl.Before(s)
	}
	return s
}

// PlayOpen starts a scene in front of a cluster, open on n1.
func PlayOpen(t testing.TB, standbys int, pl Plan) *Scene {
	t.Helper()
	pl.Keys = HastyKeys(pl.Keys)
	s := Play(t, pgtest.New(t, pgtest.Options{Standbys: standbys}), pl)
	s.Opened("n1")
	if pl.Keys["failover"] != "off" {
		s.Pool.WaitLog("script runner is ready") // the runner has checked the scripts
	}
	return s
}

// FailedOver returns a scene after one failover from n1, which is dead, to n2. n2 is
// open and verified, and the notify script has ended.
func FailedOver(t testing.TB, standbys int) *Scene {
	t.Helper()
	return FailedOverWith(t, standbys, nil)
}

// FailedOverWith is FailedOver with more keys.
func FailedOverWith(t testing.TB, standbys int, keys map[string]string) *Scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	s := Play(t, c, Plan{Keys: keys})
	s.Opened("n1")
	s.Pool.Connect()
	Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Told("notify")
	return s
}

// GatedPlan returns a plan whose failover script waits until open is called.
func GatedPlan(t *testing.T, c *pgtest.Cluster, keys map[string]string) (pl Plan, open func()) {
	t.Helper()
	dir := privateDir(t)
	file := dir + "/go"
	return Plan{Keys: keys, Script: gated(file, PromoteScript(c))}, func() { Must(t, os.WriteFile(file, nil, 0o644)) }
}

// NoCandidate sets failover_candidate = off.
func NoCandidate(servers []Server, is ...int) []Server {
	for _, i := range is {
		servers[i-1].More = map[string]string{"failover_candidate": "off"}
	}
	return servers
}

// StartFailover starts a pool in front of a cluster with a promoting hook and a
// notify hook that both note their runs; keys may replace any key.
func StartFailover(t testing.TB, c *pgtest.Cluster, keys map[string]string) (p *Pool, failover, notify *Hook) {
	t.Helper()
	p = Prepare(t, Setup{Servers: Nodes(c), Keys: FailoverKeys(keys)})
	failover, notify = p.Hook("failover.sh", PromoteScript(c)), p.Hook("notify.sh", "exit 0")
	p.SetKey("failover_script", failover.Path)
	p.SetKey("failover_notify_script", notify.Path)
	p.Run()
	return p, failover, notify
}

// Node is a node by the number in its name.
func (s *Scene) Node(i int) *pgtest.Node { return s.Cluster.Nodes[i-1] }

// Kill kills a node with all its processes while a client is connected through the
// pool, so that pgagroal notices at once.
func (s *Scene) Kill(i int) {
	s.T.Helper()
	s.Pool.Connect()
	Must(s.T, s.Node(i).Kill())
}

// Ran checks the runs of both hooks so far; they must be exactly these.
func (s *Scene) Ran(failover, notify [][]string) {
	s.T.Helper()
	if diff := cmp.Diff(failover, s.Failover.Runs(), cmpopts.EquateEmpty()); diff != "" {
		s.T.Errorf("runs of failover_script (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(notify, s.Notify.Runs(), cmpopts.EquateEmpty()); diff != "" {
		s.T.Errorf("runs of failover_notify_script (-want +got):\n%s", diff)
	}
}

// NothingRan checks that no hook was started.
func (s *Scene) NothingRan() {
	s.T.Helper()
	s.Ran(nil, nil)
}

// OneRun is a single run with these nodes as arguments.
func OneRun(ns ...*pgtest.Node) [][]string { return [][]string{RunArgs(ns...)} }

// Status is the answer of `failover status`.
func (s *Scene) Status() map[string]any {
	s.T.Helper()
	return s.Pool.JSON("failover", "status")
}

// Server is a server's part of `failover status`.
func (s *Scene) Server(name string) map[string]any {
	s.T.Helper()
	list, _ := s.Status()["Servers"].([]any)
	for _, x := range list {
		if m, _ := x.(map[string]any); m["Server"] == name {
			return m
		}
	}
	s.T.Fatalf("failover status has no server %s", name)
	return nil
}

// Word returns a text in `failover status`, empty if there is none.
func (s *Scene) Word(key string) string {
	s.T.Helper()
	w, _ := s.Status()[key].(string)
	return w
}

// Epoch returns the epoch in `failover status`.
func (s *Scene) Epoch() int {
	s.T.Helper()
	n, _ := s.Status()["Epoch"].(float64)
	return int(n)
}

// WaitStatus waits until a field of `failover status` has this value.
func (s *Scene) WaitStatus(key, want string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, "failover status "+key+" to be "+want, func() bool { return s.Word(key) == want },
		func() string { return s.Word(key) }, s.Pool.Log)
}

// Opened waits until the pool is open on a server.
func (s *Scene) Opened(name string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, "the pool to be open on "+name, func() bool {
		st := s.Status()
		return st["Phase"] == "open" && st["Primary"] == name && st["Held"] == false
	}, func() string { return fmt.Sprint(s.Status()) }, s.Pool.Log)
}

// Held waits until no primary is open, for a reason with this text.
func (s *Scene) Held(reason string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, fmt.Sprintf("a hold because of %q", reason), func() bool {
		st := s.Status()
		why, _ := st["HeldReason"].(string)
		return st["Phase"] == "held" && strings.Contains(why, reason)
	}, func() string { return fmt.Sprint(s.Status()) }, s.Pool.Log)
}

// Alarmed waits for an alarm with this text in `failover status`.
func (s *Scene) Alarmed(text string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, fmt.Sprintf("an alarm with %q", text), func() bool {
		return s.HasAlarm(text)
	}, func() string { return fmt.Sprint(s.Status()["Alarms"]) })
}

// HasAlarm reports whether `failover status` has an alarm with this text.
func (s *Scene) HasAlarm(text string) bool {
	s.T.Helper()
	list, _ := s.Status()["Alarms"].([]any)
	return slices.ContainsFunc(list, func(a any) bool { return strings.Contains(fmt.Sprint(a), text) })
}

// Seen waits until the latest probe of a server has this outcome.
func (s *Scene) Seen(name, outcome string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, "a probe of "+name+" to see "+outcome, func() bool {
		probe, _ := s.Server(name)["Probe"].(string)
		return strings.HasPrefix(probe, outcome)
	}, func() string { return fmt.Sprint(s.Server(name)) }, s.Pool.Log)
}

// History returns the entries of this kind, oldest first.
func (s *Scene) History(kind string) []map[string]any {
	s.T.Helper()
	list, _ := s.Pool.JSON("failover", "history")["History"].([]any)
	var out []map[string]any
	for _, x := range list {
		if m, _ := x.(map[string]any); m["kind"] == kind {
			out = append(out, m)
		}
	}
	return out
}

// Told waits for an entry of this kind, and fails the test if there is more than one.
func (s *Scene) Told(kind string) map[string]any {
	s.T.Helper()
	return s.ToldTimes(1, kind)[0]
}

// ToldTimes waits for n entries of this kind, since the history is written after status
// shows an event, and fails the test if there are more.
func (s *Scene) ToldTimes(n int, kind string) []map[string]any {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, fmt.Sprintf("%d times %s in the history", n, kind), func() bool { return len(s.History(kind)) >= n }, s.Pool.Log)
	h := s.History(kind)
	if len(h) != n {
		s.T.Fatalf("%d entries of kind %s in the history, want %d: %v", len(h), kind, n, h)
	}
	return h
}

// NeverWithin watches for d that cond stays false.
func NeverWithin(t testing.TB, d time.Duration, what string, cond func() bool) {
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

// Quiet watches for d that no hook starts.
func (s *Scene) Quiet(d time.Duration) {
	s.T.Helper()
	NeverWithin(s.T, d, "a hook ran", func() bool { return len(s.Failover.Runs())+len(s.Notify.Runs()) > 0 })
}

// Login is the result of an attempt to log in.
type Login struct {
	c   *pgtest.Client
	err error
}

// LogIn starts a login and returns at once.
func (s *Scene) LogIn() <-chan Login {
	out := make(chan Login, 1)
	go func() {
		c, err := s.Pool.Try(s.Pool.Config("postgres", "", "postgres"))
		out <- Login{c, err}
	}()
	return out
}

// Served waits for the end of a login that must succeed.
func (s *Scene) Served(l <-chan Login) *pgtest.Client {
	s.T.Helper()
	got := <-l
	if got.err != nil {
		s.T.Fatalf("a login that should be served: %v\n%s", got.err, s.Pool.Log())
	}
	s.T.Cleanup(func() { got.c.Close() })
	return got.c
}

// Refused waits for the end of a login that must fail with this code.
func (s *Scene) Refused(l <-chan Login, code string) {
	s.T.Helper()
	got := <-l
	if got.err == nil {
		got.c.Close()
		s.T.Fatalf("a login was served that should get %s", code)
	}
	if pgtest.Code(got.err) != code {
		s.T.Fatalf("a login got %v, want %s", got.err, code)
	}
}

// NodeOf returns the name of the node that a client's session is on.
func NodeOf(t testing.TB, c *pgtest.Client) string {
	t.Helper()
	return MustQuery(t, c, "SHOW cluster_name")[0][0]
}

// CutFrom checks that two clients were cut from their server: a kept session goes on at another one, and one that can't be kept
// has ended.
func CutFrom(t testing.TB, kept, marked *pgtest.Client, to string) {
	t.Helper()
	if got := NodeOf(t, kept); got != to {
		t.Errorf("a kept session is on %s, want %s", got, to)
	}
	_, err := Query(marked, "SELECT 1")
	WantCode(t, err, "57P01", "terminating connection")
}

// ViaProxies returns server sections for the nodes of a cluster, each behind its own
// proxy.
func ViaProxies(t testing.TB, c *pgtest.Cluster) ([]Server, []*pgtest.Proxy) {
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

// RunArgsOf returns the arguments that a hook gets for server sections.
func RunArgsOf(servers ...Server) []string {
	var out []string
	for _, s := range servers {
		out = append(out, s.Host, strconv.Itoa(s.Port))
	}
	return out
}

// Do runs a command of pgagroal-cli that must succeed.
func (s *Scene) Do(args ...string) {
	s.T.Helper()
	if out, errs, code := s.Pool.CLI(args...); code != 0 {
		s.T.Fatalf("pgagroal-cli %v: exit %d\n%s%s", args, code, out, errs)
	}
}

// Deny runs a command that must be refused for a reason.
func (s *Scene) Deny(why string, args ...string) {
	s.T.Helper()
	out, errs, code := s.Pool.CLI(args...)
	if code == 0 {
		s.T.Errorf("pgagroal-cli %v: exit 0, want a refusal", args)
	}
	Says(s.T, map[string]any{"answer": out + errs}, "answer", why)
}

// Says checks that a field of a history entry, or of a status, contains a text.
func Says(t testing.TB, entry map[string]any, key, text string) {
	t.Helper()
	if got := fmt.Sprint(entry[key]); !strings.Contains(got, text) {
		t.Errorf("%s is %q, which doesn't say %q", key, got, text)
	}
}

// Dump waits for a file of the hooks directory and returns it without the last newline.
func (s *Scene) Dump(name string) string {
	s.T.Helper()
	var text string
	pgtest.WaitUntil(s.T, Generous, "the file "+name, func() bool {
		data, err := os.ReadFile(filepath.Join(s.Pool.Dir, "hooks", name))
		text = strings.TrimSuffix(string(data), "\n")
		return err == nil && strings.HasSuffix(string(data), "\n")
	}, s.Pool.Log)
	return text
}

// RunnerUp waits for a runner other than old that is linked and has read the same
// configuration.
func (s *Scene) RunnerUp(old int) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, Generous, "a new runner", func() bool {
		r, _ := s.Status()["Runner"].(map[string]any)
		pid, _ := r["PID"].(float64)
		return int(pid) != old && pid > 0 && r["Connected"] == true && r["DigestMatch"] == true && !s.HasAlarm("script runner is not available")
	}, func() string { return fmt.Sprint(s.Status()) }, s.Pool.Log)
}

// Follow makes a standby follow the primary, and returns when the standby could replace
// it.
func (s *Scene) Follow(standby, primary *pgtest.Node) {
	s.T.Helper()
	Must(s.T, standby.Follow(Within(s.T), primary.Host, primary.Port))
	Must(s.T, standby.WaitStreaming(Within(s.T), primary))
	s.Pool.WaitState(standby.Name, "Replica")
}

// Same checks that the pool is open on n1 in its first epoch and that nothing was run.
func (s *Scene) Same() {
	s.T.Helper()
	s.Opened("n1")
	if got := s.Epoch(); got != 1 {
		s.T.Errorf("epoch is %d, want 1", got)
	}
	s.NothingRan()
}
