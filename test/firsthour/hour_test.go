package firsthour

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// written is the directory of PostgreSQL's programs in the guide, which tells its reader
// to write his own version.
const written = "/usr/lib/postgresql/15/bin"

// inEarnest is the section with which the guide ends, by removing everything.
const inEarnest = "9. In earnest"

// TestGettingStarted does what the guide says, from the first block to the last.
func TestGettingStarted(t *testing.T) {
	m := newMachine(t)
	steps := readSteps(t)
	if len(steps) < 10 {
		t.Fatalf("only %d blocks of commands in the guide", len(steps))
	}
	tried := false
	for _, s := range steps {
		if s.section == inEarnest {
			m.tryMistakes(readMistakes(t))
			tried = true
		}
		m.play(s)
	}
	if !tried {
		t.Error("there is no section " + inEarnest)
	}
	if out, _ := m.run("id -un; ls -A /etc/pgagroal /var/lib/pgagroal /srv/pg"); missing([]string{"root"}, out) != "" || strings.Contains(out, "pgagroal.conf") || strings.Contains(out, "n1") {
		t.Errorf("at the end there is\n%s", out)
	}
}

// play pastes a block, and compares what is printed with what the guide promises. After
// "a few seconds later" the block may be pasted again, as a reader would do.
func (m *machine) play(s step) {
	m.t.Helper()
	commands := strings.ReplaceAll(s.commands, written, filepath.Dir(pgtest.Binary("initdb")))
	out, code := m.run(commands)
	if s.settles {
		pgtest.WaitUntil(m.t, patience, "what section "+s.section+" promises of "+commands, func() bool {
			if missing(s.promise, out) != "" {
				out, code = m.run(commands)
			}
			return missing(s.promise, out) == ""
		}, func() string { return out })
	}
	if code != 0 {
		m.t.Fatalf("section %s: exit code %d of\n%s\n%s", s.section, code, commands, out)
	}
	if want := missing(s.promise, out); want != "" {
		m.t.Fatalf("section %s promises %q of\n%s\nwhich prints\n%s", s.section, want, commands, out)
	}
}
