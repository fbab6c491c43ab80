package console

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write golden files and the lists of the manual page anew")

const page = "../man/pgagroal-metrics.7"

// list is what the manual page says of metrics.
func list(rows []row) string {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, r := range rows {
		b.WriteString(".It Li " + prefix + r.name + "\n.Em " + r.kind.String())
		if len(r.labels) > 0 {
			b.WriteString(" ;\nlabels " + strings.Join(r.labels, ", ") + ".\n")
		} else {
			b.WriteString(" .\n")
		}
		b.WriteString(".br\n" + wrapped(r.help+".") + "\n")
	}
	b.WriteString(".El\n")
	return b.String()
}

// wrapped breaks a text into lines of 78 columns.
func wrapped(text string) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(text) {
		switch {
		case width == 0:
		case width+1+len(word) > 78:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}

func TestManualPageListsTheMetrics(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, part := range []struct {
		title string
		rows  []row
	}{{"Metrics of C pgagroal", compatible}, {"Other metrics", ours}} {
		begin := strings.Index(text, ".Ss "+part.title+"\n")
		if begin < 0 {
			t.Fatalf("the page has no section %q", part.title)
		}
		from := begin + strings.Index(text[begin:], ".Bl -tag")
		to := from + strings.Index(text[from:], "\n.El\n") + len("\n.El\n")
		want := list(part.rows)
		if d := cmp.Diff(want, text[from:to]); d != "" && !*rewrite {
			t.Errorf("%s (-table +page):\n%s", part.title, d)
		}
		text = text[:from] + want + text[to:]
	}
	if *rewrite {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoMetricIsThereTwice(t *testing.T) {
	if got, want := len(newMetrics()), len(compatible)+len(ours); got != want {
		t.Errorf("%d names for %d rows", got, want)
	}
}
