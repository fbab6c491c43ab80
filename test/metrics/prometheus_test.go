package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

const contrib = "../../contrib/"

// watcher is a Prometheus that scrapes a pool once a second, with the alerts of contrib.
type watcher struct {
	t    testing.TB
	base string
}

// watch starts a Prometheus, which ends with the test.
func watch(t testing.TB, target int) *watcher {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is missing; .ci/setup test installs it")
	}
	rules, err := filepath.Abs(contrib + "prometheus/pgagroal.rules.yml")
	pool.Must(t, err)
	dir, port := t.TempDir(), pgtest.Port(t)
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\n"+
		"scrape_configs: [{job_name: pgagroal, static_configs: [{targets: ['127.0.0.1:%d']}]}]\n", rules, target)
	pool.Must(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	pool.Must(t, err)
	cmd := exec.Command(path, "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port))
	cmd.Stdout, cmd.Stderr = log, log
	pool.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		log.Close()
	})
	w := &watcher{t, fmt.Sprintf("http://127.0.0.1:%d/api/v1/", port)}
	pgtest.WaitUntil(t, pool.Generous, "the first scrape", func() bool {
		r, err := w.ask("query", url.Values{"query": {"pgagroal_state"}})
		return err == nil && len(r.Data.Result) == 1
	}, func() string {
		b, _ := os.ReadFile(log.Name())
		return string(b)
	})
	return w
}

// answer is what Prometheus says.
type answer struct {
	Status, Error string
	Data          struct {
		Result []json.RawMessage
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
}

func (w *watcher) ask(what string, v url.Values) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	var a answer
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+what+"?"+v.Encode(), nil)
	if err != nil {
		return a, err
	}
	r, err := http.DefaultClient.Do(rq)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// state returns the state of an alert: firing, pending or nothing.
func (w *watcher) state(alert string) string {
	w.t.Helper()
	a, err := w.ask("alerts", nil)
	pool.Must(w.t, err)
	for _, x := range a.Data.Alerts {
		if x.Labels["alertname"] == alert {
			return x.State
		}
	}
	return ""
}

// tells waits until an alert is in one of these states.
func (w *watcher) tells(alert string, states ...string) {
	w.t.Helper()
	seen := ""
	pgtest.WaitUntil(w.t, pool.Generous, alert+" to be "+strings.Join(states, " or "), func() bool {
		seen = w.state(alert)
		for _, s := range states {
			if s == seen {
				return true
			}
		}
		return false
	}, func() string { return "it is " + seen })
}

// finds waits until a query has a result.
func (w *watcher) finds(what, query string) {
	w.t.Helper()
	pgtest.WaitUntil(w.t, pool.Generous, what+" in a scrape", func() bool {
		a, err := w.ask("query", url.Values{"query": {query}})
		return err == nil && len(a.Data.Result) == 1
	})
}

// emptyNow are panels that have nothing to show after a failover without trouble.
var emptyNow = map[string]bool{"First certificate ends": true, "Clients that wait, by pool": true, "Alarms by name": true, "TLS handshakes": true}

// dashboardWorks has Prometheus evaluate each expression of the dashboard.
func (w *watcher) dashboardWorks() {
	w.t.Helper()
	b, err := os.ReadFile(contrib + "grafana/pgagroal.json")
	pool.Must(w.t, err)
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	pool.Must(w.t, json.Unmarshal(b, &d))
	n := 0
	for _, p := range d.Panels {
		for _, x := range p.Targets {
			n++
			query := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(x.Expr)
			a, err := w.ask("query", url.Values{"query": {query}})
			pool.Must(w.t, err)
			if a.Status != "success" || len(a.Data.Result) == 0 && !emptyNow[p.Title] {
				w.t.Errorf("%s: %s, %s: %d results for %s", p.Title, a.Status, a.Error, len(a.Data.Result), query)
			}
		}
	}
	if n < 40 {
		w.t.Errorf("the dashboard has %d expressions", n)
	}
}

// TestPrometheusTellsOfAFailover plays a failover before a Prometheus. The script waits until
// Prometheus has seen that there is no primary. Afterwards the log, the recorded series and the
// alerts tell the same story, which is printed with -v, and each panel has something to show.
func TestPrometheusTellsOfAFailover(t *testing.T) {
	t.Parallel()
	keys, port := keysWith(t, map[string]string{
		"health_check": "on", "health_check_period": "1s", "pipeline": "transaction", "log_line_prefix": "%H:%M:%S.%L",
	})
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	pl, open := pool.GatedPlan(t, c, pool.HastyKeys(keys))
	sc := pool.Play(t, c, pl)
	sc.Opened("n1")
	sc.Pool.WaitLog("script runner is ready")
	s := over(sc.Pool, port)
	pool.MustQuery(t, s.Connect(), "SELECT 1")
	w := watch(t, port)
	complaints(t, s)
	for _, alert := range []string{"PgagroalNoPrimary", "PgagroalFailoverHappened", "PgagroalFailoverFailed", "PgagroalSplitBrain"} {
		if state := w.state(alert); state != "" {
			t.Errorf("%s is %s before the failover", alert, state)
		}
	}
	began := time.Now()
	sc.Kill(1)
	w.tells("PgagroalNoPrimary", "pending", "firing")
	w.finds("the script's phase", `pgagroal_failover_phase{phase="running"} == 1`)
	open()
	sc.Opened("n2")
	w.tells("PgagroalFailoverHappened", "firing")
	w.tells("PgagroalServerFailed", "pending", "firing")
	w.tells("PgagroalNoPrimary", "")
	if state := w.state("PgagroalFailoverFailed"); state != "" {
		t.Errorf("a failover that worked has failed: %s", state)
	}
	pgtest.WaitUntil(t, pool.Generous, "queries on n2 in two scrapes", func() bool {
		pool.MustQuery(t, s.Connect(), "SELECT 1")
		a, err := w.ask("query", url.Values{"query": {`rate(pgagroal_query_seconds_count{server="n2"}[1m]) > 0`}})
		return err == nil && len(a.Data.Result) == 1
	})
	w.dashboardWorks()
	story := w.story(began, s.Log())
	t.Log("\n" + strings.Join(story, "\n"))
	inOrder(t, story, " log ", "new=suspect", "new=fencing", "new=running", "script has ended", "new=open")
	inOrder(t, story, " metric ", `pgagroal_failover_phase{phase="running"} 1`, `pgagroal_failover_runs_total{hook="failover", outcome="ok"} 1`)
	inOrder(t, story, " metric ", "pgagroal_writable 0", "pgagroal_writable 1")
	inOrder(t, story, " alert ", "PgagroalNoPrimary pending", "PgagroalFailoverHappened firing")
}

// inOrder checks that a story has lines of a source with these texts, in this order. The
// sources aren't compared with one another: a scrape sees a change up to a second later.
func inOrder(t *testing.T, story []string, source string, texts ...string) {
	t.Helper()
	next := 0
	for _, line := range story {
		if next < len(texts) && strings.Contains(line, source) && strings.Contains(line, texts[next]) {
			next++
		}
	}
	if next < len(texts) {
		t.Errorf("the %s has no %q after what comes before it", strings.TrimSpace(source), texts[next])
	}
}

// told are the series that a story shows.
const told = `{__name__=~"pgagroal_failover_(phase|epoch|runs_total|held_seconds)|pgagroal_server_state|pgagroal_writable|ALERTS"}`

// ofFailover are the lines of the log that a story shows.
var ofFailover = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d\d\d) ((?:INFO|WARN|ERROR) .* (?:failover|server state|alarm|script|logins) .*)$`)

// story is what log, series and alerts have told since began, in the order of time.
func (w *watcher) story(began time.Time, log string) []string {
	w.t.Helper()
	var lines []string
	for line := range strings.Lines(log) {
		m := ofFailover.FindStringSubmatch(strings.TrimSpace(line))
		if m != nil && m[1] >= began.Format("15:04:05.000") {
			lines = append(lines, m[1]+" log    "+m[2])
		}
	}
	a, err := w.ask("query_range", url.Values{
		"query": {told}, "start": {fmt.Sprint(began.Unix())}, "end": {fmt.Sprint(time.Now().Unix())}, "step": {"1"},
	})
	pool.Must(w.t, err)
	for _, raw := range a.Data.Result {
		lines = append(lines, changesOf(w.t, raw)...)
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:len("15:04:05.000")], b[:len("15:04:05.000")]) })
	return lines
}

// changesOf returns the times at which a series got another value.
func changesOf(t testing.TB, raw json.RawMessage) []string {
	t.Helper()
	var r struct {
		Metric map[string]string
		Values [][2]any // seconds and text
	}
	pool.Must(t, json.Unmarshal(raw, &r))
	name := r.Metric["__name__"]
	var labels []string
	for _, l := range slices.Sorted(maps.Keys(r.Metric)) {
		if !slices.Contains([]string{"__name__", "job", "instance", "alertname", "alertstate", "severity"}, l) {
			labels = append(labels, fmt.Sprintf("%s=%q", l, r.Metric[l]))
		}
	}
	var lines []string
	last := any(nil)
	for i, v := range r.Values {
		changed := v[1] != last
		last = v[1]
		if !changed || name != "ALERTS" && i == 0 || name == "pgagroal_failover_held_seconds" && v[1] != "0" {
			continue
		}
		at := time.Unix(int64(v[0].(float64)), 0).Format("15:04:05.000")
		if name == "ALERTS" {
			lines = append(lines, strings.TrimSpace(at+" alert  "+r.Metric["alertname"]+" "+r.Metric["alertstate"]+" "+strings.Join(labels, ", ")))
			continue
		}
		text := name
		if len(labels) > 0 {
			text += "{" + strings.Join(labels, ", ") + "}"
		}
		lines = append(lines, fmt.Sprintf("%s metric %s %v", at, text, v[1]))
	}
	return lines
}

var complaint = regexp.MustCompile(`(?m)^(pgagroal_\w+) (.*)$`)

// complaints checks that promtool complains of nothing but names of C pgagroal.
func complaints(t *testing.T, s *scraped) {
	t.Helper()
	_, body, _ := s.get("/metrics")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	out, _ := cmd.CombinedOutput() // fails with any complaint
	known := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(reference)) {
		known["pgagroal_"+strings.Fields(line)[0]] = true
	}
	found := complaint.FindAllStringSubmatch(string(out), -1)
	for _, m := range found {
		if !known[m[1]] {
			t.Errorf("promtool: %s", m[0])
		}
	}
	if len(found) == 0 || len(found) != strings.Count(strings.TrimSpace(string(out)), "\n")+1 {
		t.Errorf("promtool says what isn't understood: %s", out)
	}
}
