package contrib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// promtool runs promtool in a directory; without the program the test fails.
func promtool(t *testing.T, dir string, args ...string) (output string, err error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing, so the alerts can't be checked; install prometheus")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const (
	rulesFile = "pgagroal.rules.yml"
	rulesTest = "pgagroal.rules.test.yml"
)

func TestAlertsFireWhenTheyShould(t *testing.T) {
	if out, err := promtool(t, "prometheus", "check", "rules", rulesFile); err != nil {
		t.Fatal(out)
	}
	if out, err := promtool(t, "prometheus", "test", "rules", rulesTest); err != nil {
		t.Error(out)
	}
}

var alertRule = regexp.MustCompile(`- alert: (\w+)\n +expr: (.*)\n`)

// TestEachAlertIsTested has no alert ever fire, which a test of each must see.
func TestEachAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("prometheus", rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	found := alertRule.FindAllStringSubmatch(string(rules), -1)
	if len(found) != strings.Count(string(rules), "- alert:") || len(found) == 0 {
		t.Fatalf("%d alerts are understood", len(found))
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("prometheus")); err != nil {
		t.Fatal(err)
	}
	never := alertRule.ReplaceAllString(string(rules), "- alert: $1\n        expr: vector(0) > 1\n")
	if err := os.WriteFile(filepath.Join(dir, rulesFile), []byte(never), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := promtool(t, dir, "test", "rules", rulesTest)
	if err == nil {
		t.Fatal("the tests pass without any alert")
	}
	for _, m := range found {
		if !strings.Contains(out, "alertname: "+m[1]+",") {
			t.Errorf("no test sees that %s never fires: %s", m[1], out)
		}
	}
}
