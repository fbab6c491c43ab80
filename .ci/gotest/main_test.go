package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outcome runs gotest over a module with one test file and returns the exit code
// and the last line.
func outcome(t *testing.T, source string) (code int, last, all string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example\n\ngo 1.26\n", "x_test.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var out, errs bytes.Buffer
	code = run(context.Background(), []string{"./..."}, &out, &errs)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return code, lines[len(lines)-1], out.String() + errs.String()
}

const (
	head = "package x\n\nimport \"testing\"\n\n"
	good = "func TestGood(t *testing.T) {}\n"
)

func TestNoFailureIsHidden(t *testing.T) {
	for _, tc := range []struct {
		name, source, last string
		code               int
	}{
		{"all pass", head + good, "1 passed, 0 failed", 0},
		{"subtests count, their parent doesn't", head + `func TestP(t *testing.T) { t.Run("a", func(*testing.T) {}); t.Run("b", func(*testing.T) {}) }`, "2 passed, 0 failed", 0},
		{"one fails", head + good + `func TestBad(t *testing.T) { t.Error("no") }`, "1 passed, 1 failed", 1},
		{"a subtest fails", head + `func TestP(t *testing.T) { t.Run("a", func(*testing.T) {}); t.Run("b", func(t *testing.T) { t.Fail() }) }`, "1 passed, 1 failed", 1},
		{"a parent fails by itself", head + `func TestP(t *testing.T) { t.Run("a", func(*testing.T) {}); t.Fail() }`, "1 passed, 1 failed", 1},
		{"a panic", head + good + `func TestPanic(t *testing.T) { panic("no") }`, "1 passed, 1 failed", 1},
		{"the process ends", "package x\n\nimport (\n\"os\"\n\"testing\"\n)\n" + good + `func TestExit(t *testing.T) { os.Exit(3) }`, "1 passed, 1 failed", 1},
		{"TestMain fails after the tests", "package x\n\nimport (\n\"os\"\n\"testing\"\n)\n" + good + `func TestMain(m *testing.M) { m.Run(); os.Exit(1) }`, "1 passed, 1 failed", 1},
		{"no build", head + good + "nonsense", "0 passed, 1 failed", 1},
		{"no test", "package x\n", "0 passed, 0 failed", 1},
		{"all skipped", head + `func TestS(t *testing.T) { t.Skip("why") }`, "0 passed, 0 failed", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, last, all := outcome(t, tc.source)
			if code != tc.code || last != tc.last {
				t.Errorf("exit code %d, %q; want %d, %q\n%s", code, last, tc.code, tc.last, all)
			}
		})
	}
}

func TestSkippedTestsAreNamed(t *testing.T) {
	_, _, all := outcome(t, head+good+`func TestS(t *testing.T) { t.Skip("why") }`)
	if !strings.Contains(all, "skipped: example TestS") {
		t.Errorf("the skipped test isn't named:\n%s", all)
	}
}

func TestCutOutputIsAFailure(t *testing.T) {
	var out bytes.Buffer
	c := newCount(&out)
	err := c.read(strings.NewReader(`{"Action":"start","Package":"p"}` + "\n" + `{"Action":"run","Package":"p","Test":"T"}` + "\n"))
	c.finish()
	if err != nil || c.failed != 2 {
		t.Errorf("%d failed, error %v; want the package and the test", c.failed, err)
	}
	if err := newCount(&out).read(strings.NewReader("FAIL something\n")); err == nil {
		t.Error("a line that isn't JSON was taken")
	}
}
