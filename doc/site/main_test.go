package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryPageAndDocumentIsOnTheSite builds the site of this checkout, whose links then all lead somewhere.
func TestEveryPageAndDocumentIsOnTheSite(t *testing.T) {
	root, to := "../..", filepath.Join(t.TempDir(), "site")
	if err := build(root, to); err != nil {
		t.Fatal(err)
	}
	index := read(t, filepath.Join(to, "index.html"))
	for _, pattern := range []string{"man/*.[1-8]", "doc/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) < 8 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, f := range found {
			name := strings.TrimSuffix(filepath.Base(f), ".md") + ".html"
			text := read(t, filepath.Join(to, name))
			if !strings.Contains(index, `<a href="`+name+`"`) {
				t.Errorf("the list doesn't have %s", name)
			}
			if i := strings.Index(text, "<main"); len(text)-i < 1000 || !strings.Contains(text, `aria-current="page"`) {
				t.Errorf("%s has hardly a text", name)
			}
		}
	}
	if strings.Contains(index, "<script") || strings.Contains(index, `src="http`) {
		t.Error("a page has something from elsewhere")
	}
}

func TestALinkThatLeadsNowhereIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"# A\n\n[b](doc/B.md)":       "B.md",
		"# A\n\n[b](#there)":         "#there",
		"# A\n\n![b](doc/there.png)": "there.png",
		"# A\n\n[b](#a)":             "",
		"# A\n\n[b](contrib/x)":      "",
	} {
		root := t.TempDir()
		for _, n := range append([]string{"CHANGELOG.md"}, first...) {
			write(t, filepath.Join(root, n), "# "+n)
		}
		write(t, filepath.Join(root, "contrib", "x"), "")
		write(t, filepath.Join(root, "README.md"), text)
		err := build(root, filepath.Join(root, "site"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
