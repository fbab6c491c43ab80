package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// measured is one round of a case.
func measured(name string, cpus map[string]float64) *results {
	r := &results{Runs: []machine{{Rounds: leastRounds}}}
	for target, v := range cpus {
		r.add(name, target, map[string]float64{cpu: v, tps: 1000 / v})
	}
	return r
}

func caseNamed(t *testing.T, name string) workload {
	t.Helper()
	all, err := choose(name, "*")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d cases are called %s, %v", len(all), name, err)
	}
	return all[0]
}

func judged(t *testing.T, name string, r *results, metric string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	for _, v := range verdicts(caseNamed(t, name), r) {
		if v.metric == metric {
			got[v.target+" to "+v.against] = v.met
		}
	}
	return got
}

func TestGoalsAreHeldAgainstThePeerOfTheSameMode(t *testing.T) {
	r := measured("select-simple-16", map[string]float64{
		"PgBouncer session": 10, "PgBouncer transaction": 20, "direct": 1,
		"pgagroal session io_uring": 7.5, "pgagroal session epoll": 9.6,
		"pgagroal transaction io_uring": 15.1, "pgagroal transaction epoll": 19,
		"pgagroal performance io_uring": 10.1,
	})
	want := map[string]bool{
		"pgagroal session io_uring to PgBouncer session": true, "pgagroal session epoll to PgBouncer session": false,
		"pgagroal transaction io_uring to PgBouncer transaction": false, "pgagroal transaction epoll to PgBouncer transaction": true,
		"pgagroal performance io_uring to PgBouncer session": false,
	}
	if d := cmp.Diff(want, judged(t, "select-simple-16", r, cpu)); d != "" {
		t.Error(d)
	}
	for key := range want {
		want[key] = key != "pgagroal performance io_uring to PgBouncer session" // only it is slower
	}
	if d := cmp.Diff(want, judged(t, "select-simple-16", r, tps)); d != "" {
		t.Error(d)
	}
}

func TestTransactionsWithoutAPeerAreHeldAgainstSessions(t *testing.T) {
	r := measured("select-prepared-64", map[string]float64{"PgBouncer session": 10, "pgagroal transaction io_uring": 8.6})
	want := map[string]bool{"pgagroal transaction io_uring to PgBouncer session": false}
	if d := cmp.Diff(want, judged(t, "select-prepared-64", r, cpu)); d != "" {
		t.Error(d)
	}
}

func TestWorkersAreHeldAgainstOne(t *testing.T) {
	r := measured("workers", map[string]float64{
		"pgagroal session epoll": 10, "pgagroal session epoll, 2 workers": 11.4, "pgagroal session io_uring": 10, "pgagroal session io_uring, 2 workers": 11.6,
	})
	want := map[string]bool{
		"pgagroal session epoll, 2 workers to pgagroal session epoll": true, "pgagroal session io_uring, 2 workers to pgagroal session io_uring": false,
	}
	if d := cmp.Diff(want, judged(t, "workers", r, cpu)); d != "" {
		t.Error(d)
	}
}

func TestWhatWasNotMeasuredHasNoVerdict(t *testing.T) {
	r := measured("select-simple-16", map[string]float64{"pgagroal session io_uring": 1})
	if got := judged(t, "select-simple-16", r, cpu); len(got) > 0 {
		t.Errorf("without a peer: %v", got)
	}
	r = &results{}
	r.add("idle-memory", "pgagroal transaction epoll", map[string]float64{memoryEach: 0.9, memoryFixed: 26})
	if got := judged(t, "idle-memory", r, memoryEach); !got["pgagroal transaction epoll to -"] {
		t.Errorf("memory of a client: %v", got)
	}
	if got := judged(t, "idle-memory", r, memoryFixed); len(got) != 1 || got["pgagroal transaction epoll to -"] {
		t.Errorf("memory without clients: %v", got)
	}
}

func TestReportShowsMedianSpreadAndRatio(t *testing.T) {
	r := &results{}
	for _, v := range []float64{30, 10, 20} {
		r.add("result-1mb", "pgagroal session epoll", map[string]float64{cpu: v})
		r.add("result-1mb", "PgBouncer session", map[string]float64{cpu: v * 4})
	}
	r.fail("result-1mb", "direct", errors.New("it broke\nwith much to say"))
	text := report(r)
	for _, want := range []string{
		"| pgagroal session epoll | 20.00 (10.00–30.00)  | 0.25 ", "| PgBouncer session      | 80.00 (40.00–120.00) | - ",
		"| ≤ 0.40 | 0.25     | yes |", "- result-1mb, direct: it broke\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestTablesReplaceWhatIsBetweenTheMarkers(t *testing.T) {
	const page = "# Title\n" + markBegin + "\nold\n" + markEnd + "\nrest\n"
	got, err := replaceMarked(page, "\nnew\n")
	if want := "# Title\n" + markBegin + "\nnew\n" + markEnd + "\nrest\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, broken := range []string{"", markBegin + "\n", markEnd + markBegin + "\n"} {
		if _, err := replaceMarked(broken, "new"); err == nil {
			t.Errorf("%q is no error", broken)
		}
	}
}

func TestFewRoundsAreNotWrittenDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := publish(file, &results{Runs: []machine{{Rounds: leastRounds}, {Rounds: leastRounds - 1}}}); err == nil || !strings.Contains(err.Error(), "too few") {
		t.Errorf("got %v", err)
	}
}

func TestKeptResultsArePutTogether(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	a, b := measured("workers", map[string]float64{"pgagroal session epoll": 1}), measured("result-1mb", map[string]float64{"direct": 2})
	if err := errors.Join(a.store(one), b.store(two)); err != nil {
		t.Fatal(err)
	}
	got, err := loadResults([]string{one, two})
	if err != nil {
		t.Fatal(err)
	}
	want := &results{Runs: append(a.Runs, b.Runs...), Series: append(a.Series, b.Series...)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := loadResults([]string{one, one}); err == nil {
		t.Error("a case that was measured twice is no error")
	}
}

func TestThePageHasMarkers(t *testing.T) {
	page, err := os.ReadFile("../../doc/PERFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceMarked(string(page), "x"); err != nil {
		t.Error(err)
	}
}

func TestAWatchedTargetIsHeldAgainstTheOneThatIsNot(t *testing.T) {
	r := measured("watched", map[string]float64{
		"pgagroal transaction io_uring": 10, "pgagroal transaction io_uring, watched": 10.05,
		"pgagroal transaction epoll": 10, "pgagroal transaction epoll, watched": 10.5,
	})
	want := map[string]bool{
		"pgagroal transaction io_uring, watched to pgagroal transaction io_uring": true,
		"pgagroal transaction epoll, watched to pgagroal transaction epoll":       false,
	}
	if d := cmp.Diff(want, judged(t, "watched", r, tps)); d != "" {
		t.Error(d)
	}
}
