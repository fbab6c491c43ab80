package metrics

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// reference is what C pgagroal exports, without the metrics of certificates: name, type and
// labels.
const reference = `
state gauge
pipeline_mode gauge
server_reset_query_behavior_on_failure gauge
server_error counter name state
server_streaming gauge name
server_health gauge server auth
server_version gauge server
failed_servers gauge
logging_info gauge
logging_warn gauge
logging_error gauge
logging_fatal gauge
wait_time gauge
query_count counter
connection_query_count counter id user database application_name
tx_count counter
active_connections gauge
total_connections gauge
max_connections counter
connection gauge id user database application_name state
limit gauge user database type
limit_awaiting gauge user database
connection_awaiting gauge
session_time_seconds histogram
connection_error counter
connection_kill counter
connection_remove counter
connection_timeout counter
connection_return counter
connection_invalid counter
connection_get counter
connection_idletimeout counter
connection_max_connection_age counter
connection_flush counter
connection_success counter
auth_user_success counter
auth_user_bad_password counter
auth_user_error counter
client_wait gauge
client_active gauge
network_sent gauge
network_received gauge
client_sockets gauge
self_sockets gauge
os_info gauge os major minor patch
`

// TestAScrape has several pools in front of one server.
func TestAScrape(t *testing.T) {
	t.Parallel()
	servers := pool.Nodes(pgtest.New(t, pgtest.Options{}))
	for name, test := range map[string]func(*testing.T, []pool.Server){
		"shows what clients do": showsClients, "has every metric of C pgagroal": hasReference, "is bounded": isBounded,
		"answers each path": answersPaths, "doesn't wait for a server": waitsForNoServer, "is cached": isCached, "fails first in a shutdown": failsFirst,
		"agrees with pgbench": agreesWithPgbench, "has a web console beside it": hasWebConsole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, servers)
		})
	}
}

func showsClients(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{Servers: servers, Keys: map[string]string{"pipeline": "transaction"}})
	cl := s.Connect()
	for range 10 {
		pool.MustQuery(t, cl, "SELECT 1")
	}
	pool.MustQuery(t, cl, "BEGIN")
	pool.MustQuery(t, cl, "SELECT 1")
	f := s.becomes(12, "query_count")
	for name, want := range map[string]float64{
		"active_connections": 1, "client_active": 1, "tx_count": 1, "auth_user_success": 1, "client_login_seconds": 1,
		"connection_success": 1, "writable": 1, "state": 1, "pipeline_mode": 2, "workers": 2, "failover_epoch": 1,
	} {
		f.want(t, want, name)
	}
	f.want(t, 1, "clients", "state", "active")
	f.want(t, 12, "query_seconds", "server", "n1")
	f.want(t, 10, "transaction_seconds", "server", "n1")
	f.want(t, 12, "wait_seconds", "server", "n1")
	f.want(t, 1, "backend_login_seconds", "server", "n1")
	f.want(t, 1, "pool_connections", "database", "postgres", "user", "postgres", "server", "n1", "state", "active")
	f.want(t, 1, "server_state", "server", "n1", "state", "primary")
	f.want(t, -1, "server_streaming", "name", "n1")
	f.want(t, 1, "failover_phase", "phase", "open")
	f.want(t, 1, "leases", "state", "used")
	if _, _, code := s.CLI("clear", "prometheus"); code != 0 {
		t.Errorf("clear prometheus: exit code %d", code)
	}
	f = s.becomes(0, "query_count")
	f.want(t, 0, "query_seconds", "server", "n1")
	f.want(t, 1, "active_connections")
	if _, there := f.value("connection"); there {
		t.Error("there are series of connections, which nobody has asked for")
	}
	if v, ok := f.value("process_resident_memory_bytes", "process", "worker 0"); !ok || v < 1<<20 {
		t.Errorf("worker 0 has %v bytes", v)
	}
}

func hasReference(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{
		Servers: servers, Databases: "postgres postgres 10 0 0\n", Keys: map[string]string{"metrics_detail": "connection"},
	})
	cl := s.ConnectAs(pool.WithParam(s.Config("postgres", "", "postgres"), "application_name", "a \"ledger\"\n\\"))
	pool.MustQuery(t, cl, "SELECT 1")
	f := s.becomes(1, "connection_query_count")
	for line := range strings.Lines(strings.TrimSpace(reference)) {
		want := strings.Fields(line)
		family := f["pgagroal_"+want[0]]
		if family == nil {
			t.Errorf("%s is missing", want[0])
			continue
		}
		if got := strings.ToLower(family.GetType().String()); got != want[1] || family.GetHelp() == "" {
			t.Errorf("%s is a %s with the help %q, want a %s", want[0], got, family.GetHelp(), want[1])
		}
		if got := labelsOf(family.Metric[0]); !slices.Equal(got, slices.Sorted(slices.Values(want[2:]))) {
			t.Errorf("%s has the labels %v, want %v", want[0], got, want[2:])
		}
	}
	f.want(t, 1, "connection", "user", "postgres", "database", "postgres", "application_name", "a \"ledger\"\n\\", "state", "in_use")
	for kind, v := range map[string]float64{"min": 0, "initial": 0, "max": 10, "active": 1, "backend": 1} {
		f.want(t, v, "limit", "user", "postgres", "database", "postgres", "type", kind)
	}
}

func labelsOf(m *dto.Metric) []string {
	names := []string{}
	for _, l := range m.Label {
		names = append(names, l.GetName())
	}
	return slices.Sorted(slices.Values(names))
}

func isBounded(t *testing.T, servers []pool.Server) {
	var rules strings.Builder
	for i := range 30 {
		fmt.Fprintf(&rules, "db%d all 1 0 0\n", i)
	}
	s := start(t, pool.Setup{Servers: servers, Databases: rules.String(), Keys: map[string]string{"metrics_max_series": "100"}})
	f := s.scrape()
	f.want(t, 30*6-100, "metrics_dropped_series")
	if n := len(f["pgagroal_limit"].Metric) + len(f["pgagroal_limit_awaiting"].Metric); n != 100 {
		t.Errorf("there are %d series, want 100", n)
	}
}

func answersPaths(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{Servers: servers})
	for path, want := range map[string]struct {
		code int
		kind string
		text string
	}{
		"/metrics":    {200, "text/plain; version=0.0.4", "# HELP pgagroal_state State of pgagroal"},
		"/metrics?x":  {200, "text/plain; version=0.0.4", "# TYPE pgagroal_query_count counter\n"},
		"/healthz":    {200, "text/plain", "ok"},
		"/readyz":     {200, "text/plain", "ready"},
		"/":           {200, "text/html", "pgagroal_failover_phase"},
		"/index.html": {200, "text/html", "pgagroal_connection_error"},
		"/etc/passwd": {404, "", ""},
		"/metrics/x":  {404, "", ""},
	} {
		code, body, header := s.get(path)
		if code != want.code || !strings.HasPrefix(header.Get("Content-Type"), want.kind) || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d, %v, %.80q", path, code, header, body)
		}
	}
	r, err := s.client.Post(s.url("/metrics"), "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered with %d", r.StatusCode)
	}
}

// waitsForNoServer: a probe of a host that is gone takes five minutes here. Nobody else waits for it: no
// client, no command, no scrape and no page.
func waitsForNoServer(t *testing.T, servers []pool.Server) {
	host := pgtest.SilentAddr(t)
	name, port, _ := strings.Cut(host, ":")
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	page := pgtest.Port(t)
	s := start(t, pool.Setup{
		Servers: append(slices.Clone(servers), pool.Server{Name: "gone", Host: name, Port: n}),
		Keys: map[string]string{
			"failover_probe_timeout": "5m", "health_check": "on", "health_check_period": "1s", "health_check_user": "postgres", "console": strconv.Itoa(page),
		},
	})
	web := over(s.Pool, page)
	for _, x := range []struct {
		from *scraped
		path string
	}{{s, "/metrics"}, {s, "/healthz"}, {web, "/"}, {web, "/api"}} {
		promptly(t, x.path, func() {
			if code, body, _ := x.from.get(x.path); code != http.StatusOK {
				t.Errorf("%s: %d, %s", x.path, code, body)
			}
		})
	}
	promptly(t, "/readyz", func() {
		if _, body, _ := s.get("/readyz"); strings.Contains(body, "doesn't answer") {
			t.Errorf("readiness has waited: %s", body)
		}
	})
	promptly(t, "a login", func() {
		cl := s.Connect()
		pool.MustQuery(t, cl, "SELECT 1")
		cl.Close()
	})
	for _, words := range []string{
		"ping", "status", "status details", "failover status", "failover history", "servers", "pools", "clients", "conf get port",
		"flush idle", "pause", "resume", "conf reload", "top --once",
	} {
		promptly(t, words, func() {
			if out, errs, code := s.CLI(strings.Fields(words)...); code != 0 {
				t.Errorf("%s: exit code %d, %s%s", words, code, out, errs)
			}
		})
	}
	f := s.scrape()
	f.want(t, 0, "server_state", "server", "gone", "state", "primary")
	if _, ended := f.value("server_probe_age_seconds", "server", "gone"); ended {
		t.Error("a probe has ended: nobody could have waited for it")
	}
}

// promptly has something done long before a probe that hangs comes to its end.
func promptly(t *testing.T, what string, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("%s took %v while a probe hangs", what, d)
	}
}

func isCached(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{Servers: servers, Keys: map[string]string{"metrics_cache_max_age": "1h"}})
	_, first, _ := s.get("/metrics")
	pool.MustQuery(t, s.Connect(), "SELECT 1")
	if _, again, _ := s.get("/metrics"); again != first {
		t.Error("the second answer isn't the first one")
	}
}

// fell returns the counters that are lower in b than in a, or gone.
func fell(a, b families) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		for _, m := range a[name].Metric {
			if m.Counter == nil && m.Histogram == nil {
				continue
			}
			var labels []string
			for _, l := range m.Label {
				if name == "pgagroal_server_error" && l.GetName() == "state" {
					continue // it changes with the server
				}
				labels = append(labels, l.GetName(), l.GetValue())
			}
			was, _ := families{name: {Metric: []*dto.Metric{m}}}.value(strings.TrimPrefix(name, "pgagroal_"))
			is, there := b.value(strings.TrimPrefix(name, "pgagroal_"), labels...)
			if !there || is < was {
				list = append(list, fmt.Sprintf("%s%v from %v to %v", name, labels, was, is))
			}
		}
	}
	return list
}

func TestCountersSurviveWorkersAndTheConsole(t *testing.T) {
	t.Parallel()
	s := start(t, pool.Setup{Keys: map[string]string{"workers": "2"}})
	for _, cl := range pool.BothWorkers(t, s.Pool) {
		for range 5 {
			pool.MustQuery(t, cl, "SELECT 1")
		}
	}
	before := s.scrape()
	n, _ := before.value("query_count")
	if n < 10 {
		t.Fatalf("%v queries were counted, want 10 or more", n)
	}
	victim := s.Workers()[0]
	pool.Must(t, syscall.Kill(victim, syscall.SIGKILL))
	pgtest.WaitUntil(t, pool.Generous, "another worker to be there", func() bool {
		all := s.Workers()
		return len(all) == 2 && !slices.Contains(all, victim)
	})
	after := s.becomes(2, "workers")
	if list := fell(before, after); len(list) > 0 {
		t.Errorf("after the death of a worker: %s", strings.Join(list, "; "))
	}
	pool.MustQuery(t, s.Connect(), "SELECT 1")
	after = s.becomes(n+1, "query_count")
	s.killConsole()
	if list := fell(after, s.scrape()); len(list) > 0 {
		t.Errorf("after the death of the console: %s", strings.Join(list, "; "))
	}
}

// killConsole kills the console and waits until another one answers.
func (s *scraped) killConsole() {
	s.T.Helper()
	victim := s.Console()
	pool.Must(s.T, syscall.Kill(victim, syscall.SIGKILL))
	pgtest.WaitUntil(s.T, pool.Generous, "another console to be there", func() bool {
		pid := s.Console()
		return pid != 0 && pid != victim
	})
}

func TestConsoleThatIsKilledIsStartedAgain(t *testing.T) {
	t.Parallel()
	s := start(t, pool.Setup{})
	cl := s.Connect()
	s.killConsole()
	if code, body, _ := s.get("/readyz"); code != http.StatusOK {
		t.Errorf("the next console answers %d, %s", code, body)
	}
	pool.MustQuery(t, cl, "SELECT 1")
	if out, errs, code := s.CLI("ping"); code != 0 {
		t.Errorf("ping: %d, %s%s", code, out, errs)
	}
}

func TestAFailoverIsSeen(t *testing.T) {
	t.Parallel()
	keys, port := keysWith(t, map[string]string{"health_check": "on", "health_check_period": "1s"})
	sc := pool.PlayOpen(t, 1, pool.Plan{Keys: keys})
	s := over(sc.Pool, port)
	pool.MustQuery(t, s.Connect(), "SELECT 1")
	epoch, _ := s.scrape().value("failover_epoch")
	sc.Kill(1)
	sc.Opened("n2")
	f := s.becomes(1, "failover_runs_total", "hook", "failover", "outcome", "ok")
	f.want(t, epoch+1, "failover_epoch")
	f.want(t, 1, "server_state", "server", "n2", "state", "primary")
	if v, _ := f.value("failover_last_success_timestamp_seconds"); v < 1e9 {
		t.Errorf("the last failover was at %v", v)
	}
	if v, _ := f.value("failover_phase_seconds_total", "phase", "running"); v <= 0 {
		t.Errorf("the script ran for %v s", v)
	}
	for _, phase := range []string{"fencing", "running"} {
		if v, ok := f.value("failover_last_seconds", "phase", phase); !ok {
			t.Errorf("the last failover has no time of %s: %v", phase, v)
		}
	}
	if n, ok := f.value("server_probes_total", "server", "n1", "outcome", "refused"); !ok || n < 1 {
		t.Errorf("%v probes of n1 were refused", n)
	}
}

func TestReadinessEndsWithThePrimary(t *testing.T) {
	t.Parallel()
	keys, port := keysWith(t, map[string]string{"failover": "off", "health_check": "on", "health_check_period": "1s"})
	sc := pool.PlayOpen(t, 1, pool.Plan{Keys: keys})
	s := over(sc.Pool, port)
	if code, body, _ := s.get("/readyz"); code != http.StatusOK {
		t.Fatalf("at first: %d, %s", code, body)
	}
	sc.Kill(1)
	pgtest.WaitUntil(t, pool.Generous, "readiness to end", func() bool {
		code, body, _ := s.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "n1, the primary, is not reachable")
	})
	if code, _, _ := s.get("/healthz"); code != http.StatusOK {
		t.Errorf("pgagroal itself works, and /healthz says %d", code)
	}
	s.becomes(1, "alarm", "alarm", "primary_dead").want(t, 0, "writable")
}

// With worker_user the starter starts the console, from the program that it was given.
func TestTheConsoleIsOfTheWorkersUser(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	keys, port := keysWith(t, map[string]string{"user": "postgres", "worker_user": "nobody"})
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(pgtest.New(t, pgtest.Options{})), Keys: keys})
	p.AsRoot = true
	p.Run()
	s := over(p, port)
	s.scrape().want(t, 2, "workers")
	nobody, err := proc.CredentialOf("nobody")
	pool.Must(t, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Console()))
	pool.Must(t, err)
	if want := fmt.Sprintf("\nUid:\t%d\t%d\t%d\t%d\n", nobody.Uid, nobody.Uid, nobody.Uid, nobody.Uid); !strings.Contains(string(status), want) {
		t.Errorf("the console isn't nobody's: %s", status)
	}
	s.killConsole()
	s.scrape().want(t, 2, "workers")
}
