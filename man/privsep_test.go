package man_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPromiseAboutATakeoverHasItsTest looks for the test that the source of
// pgagroal-privsep(7) names behind each sentence.
func TestEveryPromiseAboutATakeoverHasItsTest(t *testing.T) {
	page, err := os.ReadFile("pgagroal-privsep.7")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), ".Ss What a process that was taken over can't do\n")
	section, _, ended := strings.Cut(section, "\n.Ss ")
	if !found || !ended {
		t.Fatal("the section is not there")
	}
	tests := testFunctions(t)
	promises := strings.Split(section, "\n.It\n")[1:]
	if len(promises) < 10 {
		t.Errorf("only %d promises", len(promises))
	}
	named := regexp.MustCompile(`^\.\\" test: (Test\w+)\n`)
	for _, p := range promises {
		m := named.FindStringSubmatch(p)
		switch {
		case m == nil:
			t.Errorf("no test is named: %q", p)
		case !tests[m[1]]:
			t.Errorf("there is no test %s for %q", m[1], p)
		}
	}
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
