package faults

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// page is where the tables go.
const page = "../../doc/FAILOVER.md"

// publish replaces the table of a name in the page.
func publish(name, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	changed, err := replaceMarked(string(old), name, text)
	if err != nil {
		return err
	}
	if err := os.WriteFile(page, []byte(changed), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// replaceMarked puts text between the markers of a name.
func replaceMarked(page, name, text string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", errors.New("the page has no markers " + name)
	}
	return before + begin + strings.TrimSpace(text) + "\n" + end + after, nil
}

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
	return markdown(rows)
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
	return []string{f.name, f.how, decision, after, span(pauses), fmt.Sprint(lost), fmt.Sprint(disconnected)}
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

// markdown writes rows, the first of which is the head, with columns of equal width.
func markdown(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		for i, c := range r {
			fmt.Fprintf(&b, "| %-*s ", width[i], c)
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

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

func TestOnlyTheMarkedPartOfThePageIsReplaced(t *testing.T) {
	got, err := replaceMarked("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n", "x", "new\n")
	if want := "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"; got != want || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := replaceMarked("a\n<!-- x:end -->\n", "x", "new"); err == nil {
		t.Error("a page without the markers was accepted")
	}
}

func TestThePageHasThePlacesOfTheTables(t *testing.T) {
	text, err := os.ReadFile(page)
	must(t, err)
	for _, name := range []string{"faults", "calm", "open"} {
		if _, err := replaceMarked(string(text), name, ""); err != nil {
			t.Error(err)
		}
	}
}
