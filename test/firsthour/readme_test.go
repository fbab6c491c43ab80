//go:build bare

package firsthour

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBareReadme types the lines of README.md, MIGRATION.md and CONTRIBUTING.md on a Debian with a copy of this checkout, make, and Go.
func TestBareReadme(t *testing.T) {
	m := newBareMachine(t, copyCheckout)
	m.must("apt-get -q -y install make git && " + repository)
	shown := strings.NewReplacer("$CONF", block(t, "[pgagroal]"), "$HBA", block(t, "host all"), "$SQL", block(t, "CREATE ROLE"))
	for _, l := range typedLines {
		if l.elsewhere != "" {
			continue
		}
		commands := l.text
		if l.as != "" {
			commands = strings.ReplaceAll(shown.Replace(l.as), "$LINE", l.text)
		}
		if l.text == "make demo" {
			l.prints = shownRun(t)
		}
		out := m.must(commands)
		t.Logf("%s\n%s", l.text, out)
		if want := missing(l.prints, out); want != "" {
			t.Errorf("%s: %s prints no %q:\n%s", filepath.Base(l.document), l.text, want, out)
		}
	}
}

// repository makes a clone of the copy, so to speak: packages and archives have the time of its last commit.
const repository = "git init -q . && git config user.name x && git config user.email x@example.com && git add -A && git commit -q -m x"

// differs is what is another thing in each run of the demo: times, places in the WAL, ports, how the death was first seen,
// and which standby is chosen.
var differs = regexp.MustCompile(`\+[0-9.]+|\b[0-9]+ ms|127\.0\.0\.1 [0-9]+|of [0-9]{3,}|first sign: .*|candidate: .*|n[23]`)

// shownRun is the demo of README.md without that.
func shownRun(t *testing.T) []string {
	t.Helper()
	return strings.Split(differs.ReplaceAllString(block(t, "+0.000 s"), "…"), "\n")
}

// block returns the block of README.md that begins with these words.
func block(t *testing.T, begin string) string {
	t.Helper()
	b, err := os.ReadFile(readme)
	must(t, err)
	found := regexp.MustCompile("(?ms)^```\\w+\n(" + regexp.QuoteMeta(begin) + ".*?)\n```$").FindSubmatch(b)
	if found == nil {
		t.Fatalf("README.md has no block that begins with %s", begin)
	}
	return string(found[1])
}
