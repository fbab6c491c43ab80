package man_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

const (
	messagesPage  = "../doc/MESSAGES.md"
	messagesBegin = "<!-- Written by: go test ./man -run TestMessages -rewrite. What they mean and what to do is kept. -->\n"
)

// sections are the directories that log, in the order of the page. The longest that fits a file counts.
var sections = []struct{ dir, title string }{
	{"supervisor/failover", "Failover"},
	{"supervisor", "Supervisor"},
	{"worker", "Workers"},
	{"prober", "Prober"},
	{"console", "Console"},
	{"scriptrunner", "Script runner"},
	{"cmd/pgagroal-scriptrunner", "Script runner"},
	{"internal/logline", "Every process"},
}

// loggers are the functions that log, with the place of the text among their arguments. The level is in their name, or else it is
// the argument before the text.
var loggers = map[string]int{
	"Info": 0, "Warn": 0, "Error": 0, "Log": 2, "log": 1, "logOnce": 2, "tell": 1, "NewRecord": 2, "notifyFailed": 0, "endAdopted": 1,
}

// fixed are the levels of functions that say it nowhere.
var fixed = map[string]string{"notifyFailed": "ERROR", "endAdopted": "WARN", "worker is killed": "ERROR"}

// variants are the texts that are put together.
var variants = map[string][]string{
	"... is ready":           {"prober is ready", "console is ready"},
	"... is killed":          {"prober is killed", "console is killed"},
	"... ended":              {"prober ended", "console ended"},
	"... broke the protocol": {"prober broke the protocol", "console broke the protocol"},
	"... can't be started":   {"prober can't be started", "console can't be started"},
	"failover ...":           {"failover pause", "failover resume"},
	"database is ...":        {"database is disabled: it lets no new client in", "database is enabled"},
	"the kernel lacks a part of what confines the ...; see pgagroal-privsep(7)": {
		"the kernel lacks a part of what confines the workers; see pgagroal-privsep(7)",
		"the kernel lacks a part of what confines the prober; see pgagroal-privsep(7)",
		"the kernel lacks a part of what confines the console; see pgagroal-privsep(7)",
	},
}

// chosen are texts that the code chooses among before it logs one.
var chosen = []message{
	{section: "Supervisor", text: "configuration is reloaded", level: "INFO"},
	{section: "Supervisor", text: "credentials of the service manager are those of the start; a changed one needs a restart", level: "INFO"},
	{section: "Supervisor", text: "a socket of the service manager is not served: its key is not set", level: "WARN"},
	{section: "Supervisor", text: "credential files have changed, and are in effect", level: "INFO"},
}

var journalID = regexp.MustCompile(`MESSAGE_ID=[0-9a-f]{32}`)

// message is a row of the page. Its last two fields are written by people.
type message struct{ section, text, level, means, do string }

// TestMessagesAreDocumented compares the catalogue of messages with the code: each message at level info and above, and no other one.
func TestMessagesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(messagesPage)
	if err != nil {
		t.Fatal(err)
	}
	before, is, ok := strings.Cut(string(page), messagesBegin)
	if !ok {
		t.Fatalf("%s has no place for the messages", messagesPage)
	}
	known := documented(is)
	want := messageTables(messagesOfCode(t), known)
	if *rewrite {
		if err := os.WriteFile(messagesPage, []byte(before+messagesBegin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, is); d != "" {
		t.Errorf("doc/MESSAGES.md differs from the code: go test ./man -run TestMessages -rewrite, then fill its empty columns (-code +page):\n%s", d)
	}
	for _, id := range journalID.FindAllString(before, -1) {
		if !strings.Contains(is, " "+strings.TrimPrefix(id, "MESSAGE_ID=")+" |\n") {
			t.Errorf("no message has %s", id)
		}
	}
	for text, m := range known {
		if m.means == "" {
			t.Errorf("%q: %s doesn't say what it means", text, messagesPage)
		}
	}
}

// documented returns the rows of the page by their text.
func documented(page string) map[string]message {
	known := map[string]message{}
	for _, line := range strings.Split(page, "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Message ") {
			continue
		}
		text := strings.TrimPrefix(cells[0], "| ")
		known[text] = message{text: text, level: cells[1], means: strings.TrimSpace(cells[2]), do: strings.TrimSpace(cells[3])}
	}
	return known
}

func messageTables(all []message, known map[string]message) string {
	var b strings.Builder
	last := ""
	for _, m := range all {
		if m.section != last {
			fmt.Fprintf(&b, "\n## %s\n\n| Message | Level | What it means | What to do | MESSAGE_ID |\n|---|---|---|---|---|\n", m.section)
			last = m.section
		}
		k := known[m.text]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", m.text, m.level, k.means, k.do, logline.MessageID(m.text))
	}
	return b.String()
}

// messagesOfCode returns what the code logs at level info and above, in the order of the page.
func messagesOfCode(t *testing.T) []message {
	t.Helper()
	found := map[string]map[string]map[string]bool{} // levels by section and text
	for i, s := range sections {
		err := filepath.WalkDir(filepath.Join("..", s.dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if i != sectionOf(path) {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			logged(f, func(text, level string) {
				for _, v := range texts(text) {
					if found[s.title] == nil {
						found[s.title] = map[string]map[string]bool{}
					}
					if found[s.title][v] == nil {
						found[s.title][v] = map[string]bool{}
					}
					found[s.title][v][level] = true
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range chosen {
		found[m.section][m.text] = map[string]bool{m.level: true}
	}
	var all []message
	for _, s := range sections {
		for _, text := range slices.Sorted(maps.Keys(found[s.title])) {
			all = append(all, message{section: s.title, text: text, level: strings.Join(slices.Sorted(maps.Keys(found[s.title][text])), ", ")})
		}
		delete(found, s.title)
	}
	if len(all) < 100 {
		t.Fatalf("only %d messages found", len(all))
	}
	return all
}

func texts(text string) []string {
	if list := variants[text]; list != nil {
		return list
	}
	return []string{text}
}

// sectionOf returns the section of a file.
func sectionOf(path string) int {
	best := -1
	for i, s := range sections {
		if strings.HasPrefix(path, filepath.Join("..", s.dir)+"/") && (best < 0 || len(s.dir) > len(sections[best].dir)) {
			best = i
		}
	}
	return best
}

// logged calls report for each call of a function that logs at level info or above.
func logged(f *ast.File, report func(text, level string)) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		at, logs := loggers[sel.Sel.Name]
		if !logs || at >= len(call.Args) {
			return true
		}
		text, ok := textOf(call.Args[at])
		if !ok {
			return true
		}
		level := strings.ToUpper(sel.Sel.Name)
		switch {
		case fixed[text] != "":
			level = fixed[text]
		case fixed[sel.Sel.Name] != "":
			level = fixed[sel.Sel.Name]
		case at > 0:
			level = levelOf(call.Args[at-1])
		}
		if level != "DEBUG" && level != "" {
			report(text, level)
		}
		return true
	})
}

// levelOf returns the level that an argument names, as in Warn or slog.LevelWarn.
func levelOf(arg ast.Expr) string {
	name := ""
	switch a := arg.(type) {
	case *ast.Ident:
		name = a.Name
	case *ast.SelectorExpr:
		name = a.Sel.Name
	}
	name = strings.ToUpper(strings.TrimPrefix(name, "Level"))
	if !slices.Contains([]string{"INFO", "WARN", "ERROR", "DEBUG"}, name) {
		return "INFO to ERROR" // it depends
	}
	return name
}

// textOf returns a text with "..." for what isn't constant; ok is false if nothing of it is.
func textOf(arg ast.Expr) (text string, ok bool) {
	switch a := arg.(type) {
	case *ast.BasicLit:
		if a.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(a.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		x, okX := textOf(a.X)
		y, okY := textOf(a.Y)
		if !okX {
			x = "..."
		}
		if !okY {
			y = "..."
		}
		return x + y, okX || okY
	}
	return "", false
}
