package metrics

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

var all = flag.Bool("all", false, "compare times with those of pgbench, too")

var latencyAverage = regexp.MustCompile(`latency average = ([\d.]+) ms`)

// agreesWithPgbench compares the histograms with what pgbench has measured: the number of
// transactions, and with -all the average of wait and transaction together within 10 %. Each
// transaction sleeps, so that
// the way between pgbench and pgagroal matters little.
func agreesWithPgbench(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{Servers: servers, Keys: map[string]string{"pipeline": "transaction"}})
	script := filepath.Join(t.TempDir(), "sleep.sql")
	pool.Must(t, os.WriteFile(script, []byte("SELECT pg_sleep(0.02);\n"), 0o600))
	const clients, each = 4, 25
	rounds := 1
	if *all {
		rounds = 8
	}
	n := float64(clients * each * rounds)
	out := pool.Succeed(t, s.Tool(t.Context(), "pgbench", "-n", "-f", script, "-c", strconv.Itoa(clients), "-t", strconv.Itoa(each*rounds)))
	m := latencyAverage.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("pgbench says no latency: %s", out)
	}
	theirs, err := strconv.ParseFloat(m[1], 64)
	pool.Must(t, err)
	f := s.becomes(n, "transaction_seconds", "server", "n1")
	f.want(t, n, "query_seconds", "server", "n1")
	sum := func(name string) float64 { return f["pgagroal_"+name].Metric[0].Histogram.GetSampleSum() / n * 1000 }
	waits, queries, transactions := sum("wait_seconds"), sum("query_seconds"), sum("transaction_seconds")
	t.Logf("on average %.2f ms of wait, %.2f of query, %.2f of transaction; pgbench says %.2f ms", waits, queries, transactions, theirs)
	if queries < 20 || transactions < 20 {
		t.Error("a sleep of 20 ms took less")
	}
	if ours := waits + transactions; *all && (ours < 0.9*theirs || ours > 1.1*theirs) {
		t.Errorf("%.2f ms on average, pgbench says %.2f ms", ours, theirs)
	}
}
