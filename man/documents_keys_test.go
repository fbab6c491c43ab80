package man_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// assignment is a line of a configuration.
var assignment = regexp.MustCompile(`^([a-z][a-z_]+) = (\S.*)$`)

// serversParameters returns the names of PostgreSQL's own parameters.
func serversParameters(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(pgtest.Binary("postgres"), "--describe-config").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range bytes.Lines(out) {
		name, _, _ := bytes.Cut(line, []byte("\t"))
		names = append(names, strings.ToLower(string(name)))
	}
	return names
}

// TestSettingsInDocumentsAreKnown takes each KEY = VALUE of the documents and pages: the
// key is one of ours, and the configuration with it loads, or it is a parameter of
// PostgreSQL.
func TestSettingsInDocumentsAreKnown(t *testing.T) {
	foreign, found := serversParameters(t), 0
	for _, name := range documents(t) {
		for _, c := range codeOf(t, name) {
			m := assignment.FindStringSubmatch(c.text)
			if m == nil || m[0] == "key = value" {
				continue
			}
			found++
			rows := rowsOf(m[1])
			if len(rows) == 0 && !slices.Contains(foreign, m[1]) {
				t.Errorf("%s: %s: there is no such key", name, c.text)
			}
			if len(rows) == 0 {
				continue
			}
			for _, value := range strings.Split(m[2], " | ") {
				if !slices.ContainsFunc(rows, func(r config.Row) bool { return loads(t, r, value) == nil }) {
					t.Errorf("%s: %s = %s: %v", name, m[1], value, loads(t, rows[0], value))
				}
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d settings found; the documents look different now", found)
	}
}

// rowsOf returns the rows of a key, which may be one of both kinds of sections.
func rowsOf(key string) []config.Row {
	return slices.DeleteFunc(config.Keys(), func(r config.Row) bool { return r.Name != key })
}

// loads tells whether a configuration with this value is accepted.
func loads(t *testing.T, r config.Row, value string) error {
	t.Helper()
	main := map[string]string{"host": "*", "port": "2345", "unix_socket_dir": "/tmp"}
	server := map[string]string{"host": "192.0.2.1", "port": "5432"}
	if r.Section == config.ServerSection {
		server[r.Name] = value
	} else {
		main[r.Name] = value
	}
	text := "[pgagroal]\n" + lines(main) + "[one]\n" + lines(server) + "[two]\nhost = 192.0.2.2\nport = 5432\n"
	path := filepath.Join(t.TempDir(), "pgagroal.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.LoadMain(path)
	return err
}

func lines(keys map[string]string) string {
	var b strings.Builder
	for k, v := range keys {
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	return b.String()
}

// TestConfigurationsInDocumentsLoad loads each configuration that a document or a page
// shows as a whole.
func TestConfigurationsInDocumentsLoad(t *testing.T) {
	whole := regexp.MustCompile(`(?s)\[pgagroal\]\n.*?(?:\nEND\n|\z)`)
	found := 0
	for _, name := range documents(t) {
		blocks := fenced
		if filepath.Ext(name) != ".md" {
			blocks = literal
		}
		for _, m := range blocks.FindAllStringSubmatch(page(t, name), -1) {
			text := strings.TrimSuffix(whole.FindString(m[1]), "END\n")
			if text == "" || !strings.Contains(text, "unix_socket_dir") {
				continue
			}
			found++
			path := filepath.Join(t.TempDir(), "pgagroal.conf")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.LoadMain(path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d configurations found; the documents look different now", found)
	}
}

// TestFieldsInGuidesExist looks for the names of fields of answers in the types of the
// answers.
func TestFieldsInGuidesExist(t *testing.T) {
	answers := source(t, "../internal/control/*.go")
	field, found := regexp.MustCompile(`^[A-Z][a-z]\w*(\.[A-Z][a-z]\w*)*$`), 0
	for _, name := range []string{"../doc/FAILOVER.md", "../doc/GETTING-STARTED.md"} {
		for _, c := range codeOf(t, name) {
			if !c.inText || !field.MatchString(c.text) {
				continue
			}
			for part := range strings.SplitSeq(c.text, ".") {
				found++
				if !regexp.MustCompile(`(?m)^\t(\w+, )*` + part + `\b`).MatchString(answers) {
					t.Errorf("%s: no answer has a field %s", name, part)
				}
			}
		}
	}
	if found < 12 {
		t.Errorf("only %d fields found; the documents look different now", found)
	}
}

// placeholder is what stands in a row for the name of a server, or between two texts.
var placeholder = regexp.MustCompile(`\bNAME\b|\bNEW\b|;`)

// TestAlarmsOfTheGuideAreRaised looks for the words of each alarm and each reason of a
// hold in the code. A row may have several, with semicolons.
func TestAlarmsOfTheGuideAreRaised(t *testing.T) {
	code := source(t, "../supervisor/failover/*.go") + source(t, "../supervisor/*.go") + source(t, "../supervisor/statedir/*.go")
	guide := page(t, "../doc/FAILOVER.md")
	for _, head := range []string{"| alarm | do |", "| reason | ends by itself when | otherwise |"} {
		_, table, ok := strings.Cut(guide, head+"\n")
		table, _, _ = strings.Cut(table, "\n\n")
		rows := strings.Split(table, "\n")
		if !ok || len(rows) < 10 {
			t.Fatalf("the guide has no table %s, or a short one", head)
		}
		for _, row := range rows[1:] {
			words := strings.TrimSpace(strings.Split(row, "|")[1])
			for _, part := range placeholder.Split(words, -1) {
				if part = strings.TrimSpace(part); !strings.Contains(code, part) {
					t.Errorf("nothing in the supervisor says %q", part)
				}
			}
		}
	}
}

// TestMessagesInPagesAreWritten looks for each text of the pages' diagnostics, without
// the SQLSTATE before it, in the code. TestRefusalsAreDocumented does it for the refusals.
func TestMessagesInPagesAreWritten(t *testing.T) {
	code := ""
	for _, dir := range []string{"worker", "supervisor", "supervisor/failover", "internal/auth", "internal/config", "internal/pgwire"} {
		code += source(t, "../"+dir+"/*.go")
	}
	states, found := regexp.MustCompile(`\b[0-9A-Z]{5}\b[ ,]*`), 0
	for _, name := range pages {
		if name == "pgagroal.8" || !strings.Contains(page(t, name), ".Sh DIAGNOSTICS") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^\.It (.*)$`).FindAllStringSubmatch(section(t, page(t, name), "DIAGNOSTICS"), -1) {
			words := states.ReplaceAllString(m[1], "")
			if found++; !strings.Contains(code, words) {
				t.Errorf("%s: nothing writes %q", name, words)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d messages found; the pages look different now", found)
	}
}
