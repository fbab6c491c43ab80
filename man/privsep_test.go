package man_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is the line of the page's source that names a test.
var named = regexp.MustCompile(`(?m)^\.\\" test: (Test\w+)$`)

// TestEveryPromiseAboutATakeoverHasItsTest looks for the tests that the source of
// pgagroal-privsep(7) names before each paragraph and in each item.
func TestEveryPromiseAboutATakeoverHasItsTest(t *testing.T) {
	page, err := os.ReadFile("pgagroal-privsep.7")
	if err != nil {
		t.Fatal(err)
	}
	tests := testFunctions(t)
	promises := promisesOf(t, string(page))
	if len(promises) < 45 {
		t.Errorf("only %d promises", len(promises))
	}
	for _, p := range promises {
		names := named.FindAllStringSubmatch(p, -1)
		if names == nil {
			t.Errorf("no test is named: %q", p)
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("there is no test %s for %q", n[1], p)
			}
		}
	}
}

// promisesOf cuts the description into paragraphs and items, without tables, examples and
// what only leads to a list.
func promisesOf(t *testing.T, page string) []string {
	t.Helper()
	_, text, found := strings.Cut(page, ".Sh DESCRIPTION\n")
	text, _, ended := strings.Cut(text, ".Sh SEE ALSO\n")
	if !found || !ended {
		t.Fatal("the description is not there")
	}
	text = regexp.MustCompile(`(?s)\.Bd .*?\n\.Ed\n|\.Bl -column.*?\n\.El\n`).ReplaceAllString(text, "")
	blocks := regexp.MustCompile(`(?m)^\.(?:Ss|Pp|It|El)\b.*\n`).Split(text, -1)
	return slices.DeleteFunc(blocks, func(b string) bool {
		return strings.TrimSpace(b) == "" || strings.Contains(b, "\n.Bl ") || strings.HasPrefix(b, ".Bl ")
	})
}

// testFunctions are the names of all tests of the module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	def := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range def.FindAllSubmatch(b, -1) {
			all[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
