package man_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// programs are the programs, their pages, and the groups of commands that have
// a help of their own.
var programs = map[string]struct {
	page   string
	groups []string
}{
	"pgagroal":              {page: "pgagroal.8"},
	"pgagroal-cli":          {page: "pgagroal-cli.1"},
	"pgagroal-admin":        {page: "pgagroal-admin.1", groups: []string{"user", "conf"}},
	"pgagroal-scriptrunner": {page: "pgagroal-scriptrunner.8"},
}

// children are the programs that only pgagroal starts, which have no options, and the pages
// that tell of them.
var children = map[string]string{"pgagroal-console": "pgagroal-metrics.7"}

func TestEveryProgramHasAPage(t *testing.T) {
	built, err := filepath.Glob(filepath.Join(binaries, "*"))
	if err != nil || len(built) == 0 {
		t.Fatal("nothing was built", err)
	}
	for _, b := range built {
		_, ok := programs[filepath.Base(b)]
		if p := children[filepath.Base(b)]; p != "" {
			ok = strings.Contains(page(t, p), ".Nm "+filepath.Base(b)+"\n")
		}
		if !ok {
			t.Errorf("%s has no page", filepath.Base(b))
		}
	}
}

func TestOptionsAreDocumented(t *testing.T) {
	for name, p := range programs {
		wanted := helpOptions(help(t, name))
		if len(wanted) < 4 {
			t.Fatalf("%s: the help has only %v", name, wanted)
		}
		found := pageOptions(page(t, p.page))
		if d := cmp.Diff(wanted, found); d != "" {
			t.Errorf("options of %s (-help +page):\n%s", name, d)
		}
	}
}

func TestCommandsAreDocumented(t *testing.T) {
	for name, p := range programs {
		wanted := helpCommands(help(t, name))
		for _, g := range p.groups {
			wanted = slices.DeleteFunc(wanted, func(c string) bool { return c == g })
			for _, c := range helpCommands(help(t, name, g)) {
				wanted = append(wanted, g+" "+c)
			}
		}
		var found []string
		for _, it := range items(page(t, p.page), "Cm") {
			found = append(found, command(it, p.groups))
		}
		if d := cmp.Diff(unique(wanted), unique(found)); d != "" {
			t.Errorf("commands of %s (-help +page):\n%s", name, d)
		}
	}
}

// command is what an item is about: its first word, with the second one where
// the first is a group.
func command(it item, groups []string) string {
	words := strings.Fields(it.name)
	if slices.Contains(groups, words[0]) {
		return it.name
	}
	return words[0]
}

// TestWordsOfCommandsAreDocumented looks for the words that may follow a
// command of pgagroal-cli, which its help doesn't list one by one.
func TestWordsOfCommandsAreDocumented(t *testing.T) {
	words := regexp.MustCompile(`[a-z]{2,}`)
	rows := regexp.MustCompile(`command\("([a-z-]+)", "([^"]+)"`).FindAllStringSubmatch(source(t, "../cmd/pgagroal-cli/cmd_*.go"), -1)
	if len(rows) < 5 {
		t.Fatalf("only %d commands with words found; the source looks different now", len(rows))
	}
	documented := section(t, page(t, "pgagroal-cli.1"), "COMMANDS")
	for _, r := range rows {
		var heads []string
		for _, line := range strings.Split(documented, "\n") {
			if strings.HasPrefix(line, ".It Cm "+r[1]) {
				heads = append(heads, strings.Fields(line)...)
			}
		}
		for _, w := range words.FindAllString(r[2], -1) {
			if !slices.Contains(heads, w) {
				t.Errorf("%s: the word %s is not in its items", r[1], w)
			}
		}
	}
}

func TestExitCodesOfCLIAreDocumented(t *testing.T) {
	text := help(t, "pgagroal-cli")
	_, text, _ = strings.Cut(text, "Exit codes:")
	text, _, _ = strings.Cut(text, "COMMANDS:")
	var wanted, found []string
	for _, m := range regexp.MustCompile(`(?m)^ +(\d)  `).FindAllStringSubmatch(text, -1) {
		wanted = append(wanted, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It (\d)$`).FindAllStringSubmatch(section(t, page(t, "pgagroal-cli.1"), "EXIT STATUS"), -1) {
		found = append(found, m[1])
	}
	if d := cmp.Diff(wanted, found); d != "" || len(wanted) < 4 {
		t.Errorf("exit codes (-help +page):\n%s", d)
	}
}

// TestPermitsAreDocumented compares the table of the control socket with the page.
func TestPermitsAreDocumented(t *testing.T) {
	permits := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\tcontrol\.(\w+): +\{permit: (\w+),`).FindAllStringSubmatch(source(t, "../supervisor/control/command.go"), -1) {
		permits[m[1]] = m[2]
	}
	var wanted, found []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) += "([a-z-]+)"$`).FindAllStringSubmatch(source(t, "../internal/control/command.go"), -1) {
		if permit := permits[m[1]]; permit != "" {
			wanted = append(wanted, fmt.Sprintf("%s %s %d", m[2], permit, control.Find(m[2]).Failure))
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It ([a-z-]+) Ta (\w+) Ta (\d+)$`).FindAllStringSubmatch(page(t, "pgagroal-cli.1"), -1) {
		found = append(found, strings.Join(m[1:], " "))
	}
	if d := cmp.Diff(unique(wanted), unique(found)); d != "" || len(wanted) != len(control.Commands) {
		t.Errorf("permits (-table +page):\n%s", d)
	}
}

// help returns what a program prints for --help, whatever its exit code.
func help(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(binaries, name), append(args, "--help")...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// helpOptions returns the options of a help, with their dashes.
func helpOptions(text string) []string {
	var list []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "-") {
			continue
		}
		for line != "" && line[0] == '-' {
			m := regexp.MustCompile(`^(--?[A-Za-z?][a-z-]*)(?: [A-Za-z]+)?`).FindStringSubmatch(line)
			if m == nil {
				break
			}
			list = append(list, m[1])
			rest, more := strings.CutPrefix(line[len(m[0]):], ", ")
			if !more {
				break
			}
			line = rest
		}
	}
	return unique(list)
}

// helpCommands returns the commands of a help.
func helpCommands(text string) []string {
	_, text, ok := strings.Cut(text, "COMMANDS:\n")
	if !ok {
		return nil
	}
	text, _, _ = strings.Cut(text, "\n\n")
	var list []string
	for _, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			list = append(list, f[0])
		}
	}
	return list
}

// pageOptions returns the options that are items of a page.
func pageOptions(text string) []string {
	var list []string
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, ".It Fl ") {
			continue
		}
		words := strings.Fields(strings.ReplaceAll(line, `\&`, ""))
		for i := 2; i < len(words); i++ {
			if words[i-1] == "Fl" || words[i-1] == "," && words[i] != "Fl" {
				list = append(list, "-"+words[i])
			}
		}
	}
	return unique(list)
}
