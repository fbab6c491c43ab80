package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The lines between which doc/PERFORMANCE.md has the tables.
const (
	markBegin = "<!-- bench:begin -->"
	markEnd   = "<!-- bench:end -->"
)

type column struct{ metric, title, format string }

// columns are the metrics of the tables, in their order.
var columns = []column{
	{tps, "tps", "%.0f"},
	{cpu, "CPU µs/tx", "%.2f"},
	{p50, "p50 ms", "%.2f"},
	{p99, "p99 ms", "%.2f"},
	{cycle, "ms a login", "%.2f"},
	{idleCPU, "CPU ms/s", "%.2f"},
	{memoryFixed, "fixed MiB", "%.1f"},
	{memoryEach, "KiB a client", "%.2f"},
	{perCPU, "clients/CPU s", "%.0f"},
	{rate, "clients/s", "%.0f"},
	{firstOne, "first login ms", "%.1f"},
	{firstSame, "50 of one user ms", "%.1f"},
	{firstMany, "50 users ms", "%.1f"},
	{firsts, "first ratio", "%.2f"},
	{workerCPU, "worker CPU µs/tx", "%.2f"},
	{worstOrder, "worst status ms", "%.1f"},
	{worstLogin, "worst login ms", "%.1f"},
	{worstScrape, "worst scrape ms", "%.1f"},
	{worstPage, "worst page ms", "%.1f"},
	{loadCPU, "load CPU µs/tx", "%.2f"},
}

// replaceMarked puts tables between the markers of a page.
func replaceMarked(page, tables string) (string, error) {
	before, rest, ok := strings.Cut(page, markBegin+"\n")
	_, after, ok2 := strings.Cut(rest, markEnd)
	if !ok || !ok2 {
		return "", errors.New("the page has no markers for the tables")
	}
	return before + markBegin + "\n" + strings.TrimSpace(tables) + "\n" + markEnd + after, nil
}

// report returns all results as Markdown that is readable as text.
func report(r *results) string {
	var b strings.Builder
	for _, m := range r.Runs {
		b.WriteString(m.text())
	}
	goals(&b, r)
	for _, w := range workloads() {
		section(&b, w, r)
	}
	if len(r.Failures) > 0 {
		b.WriteString("\n### Failed measurements\n\n")
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "- %s, %s: %s\n", f.Case, f.Target, f.Reason)
		}
	}
	return b.String()
}

func (m machine) text() string {
	pinned := "nothing pinned"
	if m.Pinned {
		pinned = "the pooler on a processor of its own"
	}
	peers := m.PgBouncer
	for _, p := range []string{m.Newer, m.HAProxy} {
		if p != "" {
			peers += "; " + p
		}
	}
	return fmt.Sprintf("\n%d × %s, %d MiB; Linux %s; %s; %s; %s; %s. %d rounds of %d s after %d s of warm-up, scale %d, %s; "+
		"idle clients: memory of %d after %s, processor time over %s.\n",
		m.Processors, m.Processor, m.MemoryMiB, m.Kernel, m.PostgreSQL, m.Pgagroal, peers, m.Go,
		m.Rounds, m.Seconds, m.Warmup, m.Scale, pinned, m.Idle, m.Settle, m.Window)
}

// goals writes the table of the goals and whether they were met.
func goals(b *strings.Builder, r *results) {
	rows := [][]string{{"case", "pgagroal", "metric", "against", "goal", "measured", "met"}}
	for _, w := range workloads() {
		for _, v := range append(verdicts(w, r), changes(w, r)...) {
			met := "no"
			if v.met {
				met = "yes"
			}
			rows = append(rows, []string{
				v.title, strings.TrimPrefix(v.target, pgagroal+" "), title(v.metric), v.against, v.bound, fmt.Sprintf("%.2f", v.value), met,
			})
		}
	}
	if len(rows) > 1 {
		b.WriteString("\n### Goals\n\n")
		table(b, rows)
	}
}

func title(metric string) string {
	for _, c := range columns {
		if c.metric == metric {
			return c.title
		}
	}
	return metric
}

// section writes the table of one case, if it was measured.
func section(b *strings.Builder, w workload, r *results) {
	rows := [][]string{{"target"}}
	shown := slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(r.Series, func(s series) bool { return s.Case == w.name && s.Metric == c.metric })
	})
	if len(shown) == 0 {
		return
	}
	ratios := slices.DeleteFunc([]string{tps, cpu}, func(m string) bool {
		_, _, ok := r.peer(w.name, m, bouncers("session", "transaction"))
		return !ok
	})
	for _, c := range shown {
		rows[0] = append(rows[0], c.title)
	}
	for _, m := range ratios {
		rows[0] = append(rows[0], title(m)+" to PgBouncer's")
	}
	for _, t := range withBefore(w.targets) {
		if row := rowOf(w, t, r); len(row) > 0 {
			rows = append(rows, row)
		}
	}
	fmt.Fprintf(b, "\n### %s: %s\n\n", w.name, w.title)
	table(b, rows)
}

// rowOf returns a target's median and spread of each metric, and its ratios.
func rowOf(w workload, t target, r *results) []string {
	row, any := []string{t.name()}, false
	for _, c := range columns {
		if !slices.ContainsFunc(r.Series, func(s series) bool { return s.Case == w.name && s.Metric == c.metric }) {
			continue
		}
		s := r.find(w.name, t.name(), c.metric)
		if s == nil {
			row = append(row, "-")
			continue
		}
		any = true
		row = append(row, fmt.Sprintf(c.format+" ("+c.format+"–"+c.format+")", median(s.Values), slices.Min(s.Values), slices.Max(s.Values)))
	}
	if !any {
		return nil
	}
	for _, m := range []string{tps, cpu} {
		if _, _, ok := r.peer(w.name, m, bouncers("session", "transaction")); ok {
			row = append(row, ratio(w, t, m, r))
		}
	}
	return row
}

func ratio(w workload, t target, metric string, r *results) string {
	v, ok := r.median(w.name, t.name(), metric)
	_, base, ok2 := r.peer(w.name, metric, peersOf(t))
	if !ok || !ok2 || t.isBouncer() && !t.secret {
		return "-"
	}
	return fmt.Sprintf("%.2f", v/base)
}

// table writes rows, the first of which is the head, with columns of equal width.
func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for _, width := range widths {
			b.WriteString("|" + strings.Repeat("-", width+2))
		}
		b.WriteString("|\n")
	}
}

// line returns one turn's values, to be shown while the rest is measured.
func line(values map[string]float64) string {
	var parts []string
	for _, c := range columns {
		if v, ok := values[c.metric]; ok {
			parts = append(parts, c.title+" "+fmt.Sprintf(c.format, v))
		}
	}
	return strings.Join(parts, ", ")
}
