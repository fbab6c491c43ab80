package layout_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pgagroal-go/pgagroal"

// allowed says which packages of ours a package may import; a name ending in
// /... stands for all below it. Packages without a row may import nothing of
// ours. Tests are free.
var allowed = map[string][]string{
	"cmd/pgagroal":              {"supervisor", "worker", "prober", "scriptrunner", "internal/config", "internal/proc", "internal/logline", "internal/release"},
	"cmd/pgagroal-cli":          {"ipc", "internal/auth", "internal/config", "internal/control", "internal/pgwire", "internal/release", "internal/screen", "internal/tlsdial", "internal/tlsmem", "internal/tlspolicy", "internal/top"},
	"cmd/pgagroal-admin":        {"cmd/pgagroal-admin/...", "internal/config", "internal/release"},
	"cmd/pgagroal-scriptrunner": {"scriptrunner", "internal/logline", "internal/release"},
	"cmd/pgagroal-console":      {"console", "internal/proc", "internal/release"},

	"cmd/pgagroal-admin/pgbouncer": {"internal/config"},
	"cmd/pgagroal-admin/checkup":   {"supervisor", "scriptrunner", "prober/health", "ipc", "internal/config", "internal/tlsdial", "internal/tlsmem"},

	"supervisor":          {"supervisor/...", "ipc", "internal/auth", "internal/config", "internal/tlspolicy", "internal/control", "internal/pgwire", "internal/pool", "internal/proc", "internal/logline"},
	"supervisor/listen":   {"internal/control", "internal/config", "internal/pgwire", "internal/proc"},
	"supervisor/logs":     {"internal/config", "internal/logline"},
	"supervisor/statedir": {"supervisor/failover", "internal/config", "internal/proc"},
	"supervisor/control":  {"ipc", "internal/auth", "internal/config", "internal/control", "internal/logline", "internal/pgwire"},
	"supervisor/failover": {},

	"worker":         {"worker/reactor", "worker/relay", "internal/confine", "internal/tlsdial", "internal/tlsmem", "internal/tlspolicy", "ipc", "internal/config", "internal/auth", "internal/pool", "internal/pgwire", "internal/proc", "internal/logline"},
	"worker/reactor": {"internal/tlsmem"},
	"worker/relay":   {"internal/leftovers", "internal/pgwire"},
	"prober":         {"prober/health", "internal/confine", "internal/tlsdial", "ipc", "internal/proc", "internal/logline"},
	"prober/health":  {"ipc", "internal/auth", "internal/pgwire", "internal/tlsdial", "internal/tlsmem"},
	"scriptrunner":   {"ipc", "internal/config", "internal/proc", "internal/logline"},
	"console":        {"internal/auth", "internal/confine", "internal/control", "internal/pgwire", "internal/tlsdial", "internal/tlsmem", "internal/tlspolicy", "ipc", "internal/proc", "internal/logline"},

	"ipc":                {},
	"internal/config":    {"internal/leftovers", "internal/pattern", "internal/pbkdf", "internal/tlspolicy"},
	"internal/confine":   {},
	"internal/control":   {},
	"internal/pgwire":    {},
	"internal/auth":      {"internal/pattern", "internal/pbkdf", "internal/pgwire"},
	"internal/pattern":   {},
	"internal/pbkdf":     {},
	"internal/leftovers": {},
	"internal/pool":      {},
	"internal/proc":      {},
	"internal/logline":   {},
	"internal/tlsdial":   {"ipc", "internal/auth", "internal/pgwire", "internal/tlsmem", "internal/tlspolicy"},
	"internal/tlsmem":    {"internal/logline"},
	"internal/release":   {},
	"internal/screen":    {},
	"internal/top":       {"internal/control", "internal/screen"},
	"internal/tlspolicy": {},
}

// forTests are packages that no shipped program may import, and which may
// import what they need.
var forTests = []string{"internal/pgtest", "test"}

// processes never import one another: they share links, not code.
var processes = []string{"supervisor", "worker", "prober", "scriptrunner", "console"}

// only says which packages may import a module of others.
var only = map[string][]string{
	"github.com/vmihailenco/msgpack": {"ipc"},
	"github.com/prometheus":          {"console"},
	"net/http":                       {"console"},
	"charm.land":                     {"internal/top"},
	"golang.org/x/sys/unix":          {"ipc", "internal/confine", "internal/logline", "internal/proc", "supervisor", "supervisor/listen", "supervisor/logs", "worker", "worker/reactor"},
}

// vague are names that say nothing.
var vague = []string{"util", "utils", "common", "types", "helpers", "helper", "misc"}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Doc          string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	Error        *struct{ Err string }
}

// path is the import path without the module.
func (p pkg) path() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func (p pkg) forTests() bool {
	return slices.ContainsFunc(forTests, func(t string) bool { return below(p.path(), t) })
}

// below says that a path is root or below it.
func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// packages returns every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("only %d packages found", len(list))
	}
	return list
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		if p.forTests() || len(p.GoFiles) == 0 {
			continue
		}
		for _, imported := range p.Imports {
			path, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			ok := slices.ContainsFunc(allowed[p.path()], func(a string) bool {
				all, tree := strings.CutSuffix(a, "/...")
				return path == a || tree && below(path, all)
			})
			if !ok {
				t.Errorf("%s may not import %s", p.path(), path)
			}
		}
	}
}

func TestProcessesShareNoCode(t *testing.T) {
	for _, p := range packages(t) {
		for _, mine := range processes {
			if !below(p.path(), mine) {
				continue
			}
			for _, other := range processes {
				for _, imported := range p.Imports {
					if other != mine && below(strings.TrimPrefix(imported, module+"/"), other) {
						t.Errorf("%s imports %s", p.path(), imported)
					}
				}
			}
		}
	}
}

func TestModulesStayWhereTheyBelong(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		if p.forTests() {
			continue
		}
		for _, imported := range p.Imports {
			for name, homes := range only {
				if !below(imported, name) {
					continue
				}
				seen[name] = true
				if !slices.Contains(homes, p.path()) {
					t.Errorf("%s imports %s; only %s may", p.path(), imported, strings.Join(homes, ", "))
				}
			}
		}
	}
	for name := range only {
		if !seen[name] {
			t.Errorf("nobody imports %s; its rule holds nothing", name)
		}
	}
}

func TestShippedProgramsHoldNoTestCode(t *testing.T) {
	for _, p := range packages(t) {
		if p.forTests() {
			continue
		}
		for _, imported := range p.Imports {
			path := strings.TrimPrefix(imported, module+"/")
			if imported == "testing" || slices.ContainsFunc(forTests, func(x string) bool { return path != imported && below(path, x) }) {
				t.Errorf("%s imports %s", p.path(), imported)
			}
		}
	}
}

func TestNamesOfPackagesSaySomething(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(vague, p.Name) || slices.Contains(vague, filepath.Base(p.Dir)) {
			t.Errorf("%s: the name says nothing", p.ImportPath)
		}
	}
}

func TestEveryPackageIsDescribed(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestRulesNamePackagesThatExist(t *testing.T) {
	var paths []string
	for _, p := range packages(t) {
		paths = append(paths, p.path())
	}
	for name := range allowed {
		if !slices.Contains(paths, name) {
			t.Errorf("there is no package %s", name)
		}
	}
}

// TestSubjectsAreListed keeps the overview of the black-box tests complete.
func TestSubjectsAreListed(t *testing.T) {
	dir := filepath.Join(root(t), "test")
	doc, err := os.ReadFile(filepath.Join(dir, "doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !regexp.MustCompile(`(?m)^//\t(\w+, )?`+e.Name()+`\b`).Match(doc) {
			t.Errorf("test/doc.go doesn't say what test/%s holds", e.Name())
		}
	}
}
