package console

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A series or a vector: a name, and perhaps matchers or labels.
	namedMetric = regexp.MustCompile(`pgagroal_(\w+)(?:\{([^}]*)\})?`)
	namedLabel  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*["']`)
)

// byPrometheus are the labels that a scrape adds.
var byPrometheus = []string{"job", "instance"}

// unknown returns what a text with PromQL or series names that no row of the table has.
func unknown(text string) []string {
	all := newMetrics()
	var list []string
	for _, m := range namedMetric.FindAllStringSubmatch(text, -1) {
		row, ok := all[m[1]]
		labels := byPrometheus
		if !ok {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if r := all[strings.TrimSuffix(m[1], suffix)]; r != nil && r.kind == histogram {
					row, labels = r, append([]string{"le"}, byPrometheus...)
				}
			}
		}
		if row == nil {
			list = append(list, m[0])
			continue
		}
		for _, l := range namedLabel.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(row.labels, l[1]) && !slices.Contains(labels, l[1]) {
				list = append(list, m[0])
			}
		}
	}
	return list
}

func TestAlertsAndDocumentsNameMetricsThatExist(t *testing.T) {
	for _, name := range []string{"contrib/prometheus/pgagroal.rules.yml", "contrib/prometheus/pgagroal.rules.test.yml", "doc/MONITORING.md"} {
		b, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), prefix); n < 20 {
			t.Errorf("%s names only %d metrics", name, n)
		}
		for _, x := range unknown(strings.ReplaceAll(string(b), "pgagroal_databases.conf", "")) {
			t.Errorf("%s: there is no %s", name, x)
		}
	}
}

func TestUnknownMetricsAreSeen(t *testing.T) {
	for _, good := range []string{`pgagroal_state == 1`, `rate(pgagroal_wait_seconds_bucket{server="x", le="+Inf", job="p"}[5m])`, `pgagroal_limit{type=~"max"}`} {
		if x := unknown(good); x != nil {
			t.Errorf("%s: %v", good, x)
		}
	}
	for _, bad := range []string{`pgagroal_states`, `pgagroal_state_bucket`, `pgagroal_wait_seconds{sever="x"}`, `1 + pgagroal_limit{user="a", le="1"}`} {
		if unknown(bad) == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
