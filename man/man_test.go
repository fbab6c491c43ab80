package man_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// pages are all that there must be.
var pages = []string{
	"pgagroal-admin.1", "pgagroal-cli.1", "pgagroal-console.7", "pgagroal-failover.7", "pgagroal-hooks.7", "pgagroal-metrics.7", "pgagroal-privsep.7", "pgagroal-scriptrunner.8",
	"pgagroal-tuning.7", "pgagroal.8",
	"pgagroal.conf.5", "pgagroal_databases.conf.5", "pgagroal_hba.conf.5", "pgagroal_ident.conf.5", "pgagroal_users.conf.5",
}

// binaries is where TestMain has built the programs.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "man")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../cmd/...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the programs can't be built: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func TestEveryPageIsThere(t *testing.T) {
	found, err := filepath.Glob("*.[1-8]")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	if d := cmp.Diff(pages, found); d != "" {
		t.Errorf("pages (-wanted +found):\n%s", d)
	}
}

func TestPagesPassMandoc(t *testing.T) {
	path, err := exec.LookPath("mandoc")
	if err != nil {
		t.Fatal("mandoc is not installed; the package of that name has it")
	}
	for _, p := range pages {
		if out, err := exec.Command(path, "-Tlint", "-Wwarning", p).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", p, err, out)
		}
	}
}

func TestPagesReferToPagesThatExist(t *testing.T) {
	for _, p := range pages {
		for _, m := range regexp.MustCompile(`(?m)^\.Xr (pgagroal\S*) (\d)`).FindAllStringSubmatch(page(t, p), -1) {
			if name := m[1] + "." + m[2]; !slices.Contains(pages, name) {
				t.Errorf("%s refers to %s, which is not there", p, name)
			}
		}
	}
}

// TestKeysAreDocumented compares type, default, reload class and the marks of
// what has no effect and what is not yet in effect of every key with the table, in both directions.
func TestKeysAreDocumented(t *testing.T) {
	text := page(t, "pgagroal.conf.5")
	main := section(t, text, "MAIN KEYS")
	server := section(t, text, "SERVER KEYS")
	wanted := map[string]string{}
	for _, r := range config.Keys() {
		wanted[sectionName(r)+"."+r.Name] = facts(r)
	}
	found := map[string]string{}
	for name, part := range map[string]string{"main": main, "server": server} {
		for _, it := range items(part, "Ic") {
			key := name + "." + it.name
			if _, twice := found[key]; twice {
				t.Errorf("%s is documented twice", key)
			}
			facts, meaning, ok := strings.Cut(it.body, "\n.br\n")
			if !ok || strings.TrimSpace(meaning) == "" {
				t.Errorf("%s has no meaning behind .br", key)
			}
			found[key] = plain(facts)
		}
	}
	if d := cmp.Diff(wanted, found); d != "" {
		t.Errorf("keys (-table +page):\n%s", d)
	}
}

func sectionName(r config.Row) string {
	if r.Section == config.ServerSection {
		return "server"
	}
	return "main"
}

// facts is what the page says of a key before its meaning.
func facts(r config.Row) string {
	def := r.Default
	if def == "" {
		def = "none"
	}
	if r.Failover != "" {
		def += "; " + r.Failover + " with failover = on"
	}
	text := "Type: " + typeText(r) + ". Default: " + def + ". Reload: " + r.Reload.String() + "."
	if r.Inert {
		text += " Without effect."
	}
	if r.Later {
		text += " Not yet in effect."
	}
	return text
}

func typeText(r config.Row) string {
	switch r.Kind {
	case config.Path:
		return "path"
	case config.File:
		return "file"
	case config.Enum:
		return "one of " + strings.Join(r.Values, ", ")
	case config.Bool:
		return "on or off"
	case config.Int:
		return "integer" + bounds(r)
	case config.Port:
		return fmt.Sprintf("port, %d to 65535", r.Min)
	case config.Workers:
		return "auto or integer" + bounds(r)
	case config.Size:
		if r.Max != 0 {
			return fmt.Sprintf("size, at most %d", r.Max)
		}
		return "size"
	case config.Duration:
		if r.Max != 0 {
			return fmt.Sprintf("duration, at most %ds", r.Max/1000)
		}
		return "duration" + leastTime(r)
	case config.DurationMS:
		return "duration with ms" + leastTime(r)
	case config.Seconds:
		return "seconds"
	case config.Millis:
		return "milliseconds" + bounds(r)
	}
	return "string"
}

func bounds(r config.Row) string {
	switch {
	case r.Max != 0:
		return fmt.Sprintf(", %d to %d", r.Min, r.Max)
	case r.Min == math.MinInt32:
		return ""
	}
	return fmt.Sprintf(", at least %d", r.Min)
}

func leastTime(r config.Row) string {
	least := time.Duration(r.Min) * time.Millisecond
	switch {
	case least == 0:
		return ""
	case least%time.Second == 0:
		return fmt.Sprintf(", at least %ds", least/time.Second)
	}
	return fmt.Sprintf(", at least %dms", r.Min)
}
