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

// The two ways in which the guide installs pgagroal; the last words of the headings of their parts.
const (
	ofPackage  = "package"
	ofCheckout = "checkout"
)

// TestGettingStarted does what the guide says, from the first block to the last, with pgagroal from this checkout.
// TestBareGettingStarted does it on machines that have nothing else, in both ways.
func TestGettingStarted(t *testing.T) { newMachine(t).getStarted(ofCheckout) }

func (m *machine) getStarted(way string) {
	m.t.Helper()
	steps := readSteps(m.t)
	played, tried := 0, false
	for _, s := range steps {
		if s.way != "" && s.way != way {
			continue
		}
		if s.section == inEarnest && !tried {
			m.tryMistakes(readMistakes(m.t))
			tried = true
		}
		m.play(s)
		if strings.Contains(s.commands, "apt install") {
			m.must("pg_ctlcluster 15 main start; systemctl start pgagroal") // which the packages do where systemd runs
		}
		played++
	}
	if played < 10 || !tried {
		m.t.Errorf("only %d blocks of commands in the guide for a %s, or no section %q", played, way, inEarnest)
	}
	if way == ofPackage {
		m.must("pg_ctlcluster 15 main stop") // Debian's own server, of which the guide says nothing
	}
	if out := m.must(left); out != "root bash" {
		m.t.Errorf("at the end there is %s", out)
	}
}

// left prints who the reader is in the end, the programs that run, and what he has made and still finds.
const left = `echo -n $(id -un; cat $(ls -d /proc/[0-9]*/comm) 2>/dev/null | sort -u | grep -v '^cat$\|^sort$\|^grep$'
find ~ -maxdepth 1 -name .pgpass
find /etc /run /var/lib /srv -xdev \( -iname '*pgagroal*' -o -path '/srv/pg*' \) ! -path '/var/lib/dpkg/*' ! -path '/srv/files*' ! -path '/run/units/*')`

// must runs commands that have to succeed.
func (m *machine) must(commands string) string {
	m.t.Helper()
	out, code := m.run(commands)
	if code != 0 {
		m.t.Fatalf("exit code %d of\n%s\n%s", code, commands, out)
	}
	return out
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
