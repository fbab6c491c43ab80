package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

// page is where the tables go.
const page = "../../doc/FAILOVER.md"

// publish replaces the table of a name in the page.
func publish(name, text string) error { return pool.Publish(page, name, text) }

// text is the table of the matrix in Markdown.
func (b *table) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := [][]string{{"fault", "made by", "decision", "script starts after", "longest pause of all writes", "acknowledged rows lost", "clients disconnected"}}
	for _, f := range faults() {
		if all := b.rows[f.name]; len(all) > 0 {
			rows = append(rows, f.cells(all))
		}
	}
	return pool.Markdown(rows)
}

// cells are one row of the matrix.
func (f *fault) cells(all []outcome) []string {
	decision, after := "no run", "-"
	var runs, lost, disconnected int
	var decided, pauses []time.Duration
	for _, o := range all {
		runs, lost, disconnected = max(runs, o.runs), lost+o.lost, disconnected+o.disconnected
		decided, pauses = append(decided, o.decided), append(pauses, o.pause)
	}
	if runs > 0 {
		decision, after = fmt.Sprintf("%d run", runs), span(decided)
	}
	if f.decision != "" {
		decision = f.decision
	} else if f.probe != "" {
		decision += "; probes see: " + f.probe
		if f.state != "" {
			decision += "; " + f.state
		}
	} else if f.run {
		decision += ": " + f.reason
	}
	pause := span(pauses)
	if f.plan.idle {
		pause = "-"
	}
	return []string{f.name, f.how, decision, after, pause, fmt.Sprint(lost), fmt.Sprint(disconnected)}
}

// span is the least and the greatest of some times.
func span(times []time.Duration) string {
	least, most := seconds(slices.Min(times)), seconds(slices.Max(times))
	if least == most {
		return least + " s"
	}
	return least + " - " + most + " s"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func TestTheTableShowsTheWorstOfAllRounds(t *testing.T) {
	f := faults()[0]
	b := table{rows: map[string][]outcome{f.name: {
		{runs: 1, decided: 900 * time.Millisecond, pause: 1500 * time.Millisecond, lost: 1},
		{runs: 2, decided: 700 * time.Millisecond, pause: 1200 * time.Millisecond, disconnected: 3},
	}}}
	_, row, _ := strings.Cut(b.text(), "|\n|-")
	for _, want := range []string{"| 2 run: refused ", "| 0.7 - 0.9 s ", "| 1.2 - 1.5 s ", "| 1 ", "| 3 "} {
		if !strings.Contains(row, want) {
			t.Errorf("the row doesn't have %q:\n%s", want, row)
		}
	}
}

func TestThePageHasThePlacesOfTheTables(t *testing.T) {
	text, err := os.ReadFile(page)
	pool.Must(t, err)
	for _, name := range []string{"faults", "calm", "open"} {
		if _, err := pool.ReplaceMarked(string(text), name, ""); err != nil {
			t.Error(err)
		}
	}
}
