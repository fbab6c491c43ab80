//go:build bare

package firsthour

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBareReadme types the lines of README.md and MIGRATION.md on a Debian with a copy of this checkout, make, and Go.
func TestBareReadme(t *testing.T) {
	m := newBareMachine(t, copyCheckout)
	m.must("apt-get -q -y install make")
	shown := strings.NewReplacer("$CONF", block(t, "[pgagroal]"), "$HBA", block(t, "host all"), "$SQL", block(t, "CREATE ROLE"))
	for _, l := range typedLines {
		if l.elsewhere != "" {
			continue
		}
		commands := l.text
		if l.as != "" {
			commands = strings.ReplaceAll(shown.Replace(l.as), "$LINE", l.text)
		}
		out := m.must(commands)
		t.Logf("%s\n%s", l.text, out)
		if want := missing(l.prints, out); want != "" {
			t.Errorf("%s: %s prints no %q:\n%s", filepath.Base(l.document), l.text, want, out)
		}
	}
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
