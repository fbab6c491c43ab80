package screen

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func TestAPipeHasNoColourAndNoWidth(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, tt := range []struct {
		when string
		env  func(string) string
		want Screen
	}{
		{Auto, env(), Screen{}},
		{Auto, env("COLUMNS=100"), Screen{Width: 100}},
		{Auto, env("COLUMNS=wide"), Screen{}},
		{Always, env("NO_COLOR=1"), Screen{Colours: true}},
		{Never, env(), Screen{}},
	} {
		if got := Of(w, tt.env, tt.when); got != tt.want {
			t.Errorf("pipe, %s: %+v, want %+v", tt.when, got, tt.want)
		}
		if got := Of(&bytes.Buffer{}, tt.env, tt.when); got != tt.want {
			t.Errorf("buffer, %s: %+v, want %+v", tt.when, got, tt.want)
		}
	}
}

// sessions is a table with every kind of column.
func sessions() Table {
	return Table{
		Columns: []Column{{Title: "ID", Right: true}, {Title: "DATABASE"}, {Title: "CLIENT", Spare: 2}, {Title: "NONE"}, {Title: "APPLICATION", Spare: 1}},
		Rows: []Row{
			{Cells: []Cell{{Text: "7"}, {Text: "shop"}, {Text: "10.0.0.1:55555"}, {}, {Text: "a rather long name of an application"}}},
			{
				Cells: []Cell{{Text: "123456"}, {Text: "shop\x1b[2J", Colour: Bad}, {}, {}, {Text: "日本語"}},
				Notes: []Note{{Text: "it waits for a backend, and has waited longer than it should"}},
			},
		},
	}
}

func TestATableFitsItsWidth(t *testing.T) {
	for width, want := range map[int]string{
		0: `    ID  DATABASE     CLIENT          APPLICATION
     7  shop         10.0.0.1:55555  a rather long name of an application
123456  shop\x1b[2J                  日本語
    it waits for a backend, and has waited longer than it should
`,
		60: `    ID  DATABASE     CLIENT          APPLICATION
     7  shop         10.0.0.1:55555  a rather long name of …
123456  shop\x1b[2J                  日本語
    it waits for a backend, and has waited longer than it
    should
`,
		40: `    ID  DATABASE     APPLICATION
     7  shop         a rather long name…
123456  shop\x1b[2J  日本語
    it waits for a backend, and has
    waited longer than it should
`,
		20: `    ID  DATABASE
     7  shop
123456  shop\x1b[2J
    it waits for a
    backend, and has
    waited longer
    than it should
`,
	} {
		if d := cmp.Diff(want, Screen{Width: width}.Table(sessions())); d != "" {
			t.Errorf("width %d (-want +got)\n%s", width, d)
		}
	}
}

func TestColoursChangeNoColumn(t *testing.T) {
	plain, coloured := Screen{Width: 50}.Table(sessions()), Screen{Width: 50, Colours: true}.Table(sessions())
	if !strings.Contains(coloured, "\x1b[1;31mshop\\x1b[2J\x1b[0m") {
		t.Errorf("no red cell in %q", coloured)
	}
	codes := strings.NewReplacer("\x1b[1;31m", "", "\x1b[2m", "", "\x1b[0m", "")
	if d := cmp.Diff(plain, codes.Replace(coloured)); d != "" {
		t.Errorf("(-plain +coloured)\n%s", d)
	}
}

func TestPairsGoOnBelowThemselves(t *testing.T) {
	got := Screen{Width: 30}.Pairs([]Pair{{Name: "Runner", Text: "connected, process 4711, and more"}, {Name: "Empty"}, {Name: "LSN", Text: "0/1"}})
	want := "Runner  connected, process\n        4711, and more\nLSN     0/1\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestWordsAreNeverCut(t *testing.T) {
	got := Screen{Width: 12}.Wrap("! ", Plain, "see /a/path/that/is/long now")
	if want := "! see\n  /a/path/that/is/long\n  now\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestHostileTextIsHarmless(t *testing.T) {
	for text, want := range map[string]string{"a\tb": "a\tb", "\x1b[31m": `\x1b[31m`, "a\nb": `a\x0ab`, "x\u202ey": `x\x202ey`, "日本": "日本"} {
		if got := Clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestDurationsHaveTwoUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "", 0: "0ms", 250 * time.Millisecond: "250ms", 4290 * time.Millisecond: "4.2s", 9999 * time.Millisecond: "9.9s", 42 * time.Second: "42s",
		192 * time.Second: "3m12s", 5*time.Hour + 4*time.Minute: "5h04m", 12*24*time.Hour + 3*time.Hour: "12d03h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := Seconds(-1) + Seconds(1.5) + Seconds(1e12); got != "1.5s1000000000000s" {
		t.Error(got)
	}
}

func TestSizesHaveFourDigits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 10239: "10239 B", 10240: "10 kB", 16 << 20: "16 MB", 3 << 40: "3072 GB", 1 << 62: "4096 PB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
