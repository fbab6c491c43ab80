package man_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// item is one .It of a list.
type item struct {
	name string // plain text behind the macro, without arguments
	body string
}

// items returns the items whose head begins with macro.
func items(text, macro string) []item {
	var list []item
	for part := range strings.SplitSeq("\n"+text, "\n.It ") {
		head, body, _ := strings.Cut(part, "\n")
		name, ok := strings.CutPrefix(head, macro+" ")
		if !ok {
			continue
		}
		for _, stop := range []string{" Op ", " Oo ", " Ar "} {
			name, _, _ = strings.Cut(name, stop)
		}
		body, _, _ = strings.Cut(body, "\n.El")
		list = append(list, item{name, body})
	}
	return list
}

// plain is source without the macros that occur in the facts of a key.
func plain(text string) string {
	var words []string
	for line := range strings.SplitSeq(text, "\n") {
		for _, macro := range []string{".Em ", ".Ql "} {
			line = strings.TrimPrefix(line, macro)
		}
		words = append(words, strings.Fields(strings.ReplaceAll(line, " Ql ", " "))...)
	}
	out := strings.ReplaceAll(strings.Join(words, " "), `\-`, "-")
	return strings.NewReplacer(" :", ":", " .", ".").Replace(out)
}

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section returns the text of one .Sh.
func section(t *testing.T, text, name string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, "\n.Sh "+name+"\n")
	if !ok {
		t.Fatalf("there is no section %s", name)
	}
	text, _, _ = strings.Cut(text, "\n.Sh ")
	return text
}

// source returns the text of the files that match, tests left out.
func source(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no source at %s: %v", pattern, err)
	}
	var b strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

func unique(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
