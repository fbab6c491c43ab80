package firsthour

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	readme       = "../../README.md"
	migration    = "../../doc/MIGRATION.md"
	contributing = "../../doc/CONTRIBUTING.md"
)

// line is a command line of a document other than the guide, whose lines are all typed. Each is typed by
// TestBareReadme, in the order of this table.
type line struct {
	document, text string
	// as is what is typed instead, with the line as $LINE, if it needs another user, an answer, or somebody who ends it.
	as string
	// prints is what has to be in the output, in lines as in a promise of the guide.
	prints []string
	// elsewhere is the file, and after a colon the text in it, that runs the line in place of TestBareReadme, and why says
	// why that does.
	elsewhere, why string
}

const asPgagroal = "runuser -u pgagroal -- $LINE"

// typedLines is every command line of README.md, MIGRATION.md and CONTRIBUTING.md.
var typedLines = []line{
	{document: readme, text: "make demo"}, // and what it prints is shown
	{document: readme, text: "make demo PIPELINE=transaction", prints: []string{"ok 0 of … acknowledged writes lost"}},
	{document: readme, text: "make demo PICTURE=doc/demo.svg", as: "rm doc/demo.svg; $LINE && grep -q '<svg' doc/demo.svg"},
	{document: readme, text: "make demo-up", as: "$LINE && test -d demo-data"},
	{document: readme, text: "make demo-down", as: "$LINE && test ! -e demo-data"},
	{document: readme, text: "make test", elsewhere: ".ci/run:step test >", why: "it takes a quarter of an hour, and .ci/run types it in a clean checkout"},
	{document: readme, text: "make deb rpm", as: "$LINE && ls dist", prints: []string{"pgagroal-go-….x86_64.rpm", "pgagroal-go_…_….deb"}},
	{document: readme, text: "make dist", prints: []string{"….tar.gz"}},
	{document: readme, text: "make html", as: "$LINE && ls dist/html/*", prints: []string{"dist/html/index.html"}},
	{document: readme, text: "man ./man/pgagroal.8", as: "apt-get -q -y install man-db >/dev/null && MANPAGER=cat $LINE", prints: []string{"… connection pool …"}},
	{document: readme, text: "make build"},
	{document: contributing, text: "make build"},
	{document: contributing, text: "go test ./worker/relay", prints: []string{"ok …/worker/relay …"}},
	{document: contributing, text: "go test -race ./test/hooks -run AHangingNotifyScript", as: "apt-get -q -y install gcc libc6-dev >/dev/null && $LINE", prints: []string{"ok …/test/hooks …"}},
	{document: contributing, text: "make test", elsewhere: ".ci/run:step test >", why: "as in README.md"},
	{document: contributing, text: "make lint", elsewhere: ".ci/run:step lint", why: "it gets its linters from the network"},
	{document: readme, text: "sudo make install"},
	// The package, three servers, and the configuration that the page shows.
	{document: readme, text: "sudo -u pgagroal pgagroal-admin master-key -g", as: configured + "$LINE"},
	{document: readme, text: "sudo pgagroal-admin user add -U pgagroal", as: "echo 'the password of the probes' | $LINE"},
	{document: migration, text: "pgagroal -t -D /etc/pgagroal", prints: []string{"failover_script = /etc/pgagroal/promote.sh"}},
	{document: readme, text: "systemctl reload pgagroal", as: "systemctl restart pgagroal && sed -i 's/^max_connections.*/max_connections = 80/; s/^failover = on/&\\nhealth_check_period = 4s/' /etc/pgagroal/pgagroal.conf && $LINE && pgagroal-cli conf get health_check_period", prints: []string{"! needs a restart: max_connections, from 90 to 80", "4s"}},
	{document: readme, text: "bin/pgagroal -c pgagroal.conf -a hba.conf -t", as: "systemctl stop pgagroal; cp /etc/pgagroal/pgagroal.conf . && cp /etc/pgagroal/pgagroal_hba.conf hba.conf && " + asPgagroal, prints: []string{"health_check_user = pgagroal"}},
	{document: readme, text: "bin/pgagroal-admin check -c pgagroal.conf", as: asPgagroal, prints: []string{"ok server pg1 …", "0 errors, …"}},
	{document: readme, text: "bin/pgagroal -c pgagroal.conf -a hba.conf", as: asPgagroal + " </dev/null & timeout 60 sh -c 'until bin/pgagroal-cli -c pgagroal.conf ping --write >/dev/null 2>&1; do sleep 0.1; done'"},
	{document: readme, text: "bin/pgagroal-cli -c pgagroal.conf status", prints: []string{"pgagroal …: running, primary pg1, …"}},
	{document: readme, text: "bin/pgagroal-cli -c pgagroal.conf top", as: "$LINE --once", prints: []string{"pg1 Primary UP …"}},
	{document: readme, text: "bin/pgagroal-cli -c pgagroal.conf failover history"},
	// The account that pgagroal runs as moves in, in the place of a PgBouncer.
	{document: migration, text: "pgagroal-admin master-key -g", as: bouncer + asPgagroal},
	{document: migration, text: "pgagroal-admin import pgbouncer.ini userlist.txt --to /etc/pgagroal", as: asPgagroal},
	{document: migration, text: "pgagroal-admin check", as: asPgagroal + " | tail -n 1", prints: []string{"… errors…"}},
}

// configured installs the package, starts the three servers that README.md's configuration has, as on hosts of their own,
// and writes what the page shows: its configuration, its rules and, on the primary, its SQL.
const configured = `set -e
apt-get -q -y install ./dist/pgagroal-go_*_amd64.deb >/dev/null
pg_dropcluster --stop 15 main
printf '127.0.0.%s pg%s.example.com\n' 1 1 2 2 3 3 >>/etc/hosts
install -d -o postgres -g postgres /srv/pg
printf '%s\n' '*:*:*:postgres:admin-secret' '*:*:*:repl:repl-secret' >~postgres/.pgpass
chown postgres: ~postgres/.pgpass
chmod 600 ~postgres/.pgpass
echo admin-secret >/srv/pg/password
as() { runuser -u postgres -- env HOME=$(echo ~postgres) PATH=/usr/lib/postgresql/15/bin:$PATH "$@"; }
place() {
    install -d -o postgres -g postgres /srv/pg/socket$1
    printf "listen_addresses = '127.0.0.$1'\nunix_socket_directories = '/srv/pg/socket$1'\n" >>/srv/pg/n$1/postgresql.conf
    as pg_ctl -D /srv/pg/n$1 -l /srv/pg/n$1.log start </dev/null
}
as initdb -N -D /srv/pg/n1 --auth-local=peer --auth-host=scram-sha-256 --pwfile=/srv/pg/password
place 1
as psql -h /srv/pg/socket1 -c "CREATE ROLE repl LOGIN REPLICATION PASSWORD 'repl-secret'"
for n in 2 3; do
    as pg_basebackup -h 127.0.0.1 -U repl -D /srv/pg/n$n -R -c fast
    place $n
done
as psql -v ON_ERROR_STOP=1 -h /srv/pg/socket1 <<'END'
$SQL
END
cat >/etc/pgagroal/pgagroal.conf <<'END'
$CONF
END
cat >/etc/pgagroal/pgagroal_hba.conf <<'END'
$HBA
END
install contrib/hooks/promote-local.sh /etc/pgagroal/promote.sh
install contrib/hooks/follow-new-primary.sh /etc/pgagroal/follow.sh
cp contrib/hooks/hooks.conf.sample /etc/pgagroal/hooks.conf
set +e
`

// bouncer is a machine on which PgBouncer's files lie where one is, and pgagroal has nothing yet.
const bouncer = `runuser -u pgagroal -- bin/pgagroal-cli -c pgagroal.conf shutdown immediate
rm -r /etc/pgagroal/* ~pgagroal/.pgagroal
chown pgagroal /etc/pgagroal
install -d -o pgagroal /srv/bouncer && cd /srv/bouncer
cat >pgbouncer.ini <<'END'
[databases]
postgres = host=127.0.0.1 port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 2345
auth_type = scram-sha-256
auth_file = userlist.txt
END
echo '"postgres" "admin-secret"' >userlist.txt
`

var (
	fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	span  = regexp.MustCompile("`([^`\n]+)`")
	// command is the first word of what somebody could type.
	command = regexp.MustCompile(`^(make|sudo|systemctl|journalctl|man|go|git|apt|psql|pgagroal[a-z-]*|bin/pgagroal[a-z-]*) \S`)
)

// linesOf returns the command lines of a document, without their comments: the lines of its blocks, and what stands
// in its sentences.
func linesOf(t *testing.T, document string) (blocks, sentences []string) {
	t.Helper()
	b, err := os.ReadFile(document)
	must(t, err)
	text := string(b)
	for _, f := range fence.FindAllStringSubmatch(text, -1) {
		switch f[1] {
		case "sh":
			for l := range strings.Lines(f[2]) {
				l, _, _ = strings.Cut(l, " # ")
				blocks = append(blocks, strings.TrimSpace(l))
			}
		case "":
			t.Errorf("%s: a block that says not what it is, like sh or text:\n%s", document, f[2])
		}
	}
	for _, s := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if command.MatchString(s[1]) {
			sentences = append(sentences, s[1])
		}
	}
	return blocks, sentences
}

// TestEveryCommandLineIsTyped fails when one of these documents has a command line that no test types, and when the table
// has one that the documents lack. What the guide has in its blocks is typed; what it has in sentences must be part of
// that, of its table of mistakes, or of another document.
func TestEveryCommandLineIsTyped(t *testing.T) {
	var typed []string
	for _, l := range typedLines {
		blocks, sentences := linesOf(t, l.document)
		if !slices.Contains(blocks, l.text) && (l.document != readme || !slices.Contains(sentences, l.text)) {
			t.Errorf("%s has no line %q any more", l.document, l.text)
		}
		if file, text, found := strings.Cut(l.elsewhere, ":"); found {
			b, err := os.ReadFile(filepath.Join("../..", file))
			must(t, err)
			if !strings.Contains(string(b), text) || l.why == "" {
				t.Errorf("%s doesn't run %q: it has no %q", file, l.text, text)
			}
		}
		typed = append(typed, l.document+l.text)
	}
	for _, document := range []string{readme, migration, contributing} {
		lines, sentences := linesOf(t, document)
		if document == readme {
			lines = append(lines, sentences...)
		}
		if len(lines) < 4 {
			t.Errorf("only %d command lines in %s", len(lines), document)
		}
		for _, l := range lines {
			if !slices.Contains(typed, document+l) {
				t.Errorf("%s: nobody types %q", document, l)
			}
		}
	}
	everything := strings.Join(typed, "\n")
	for _, s := range readSteps(t) {
		everything += "\n" + s.commands
	}
	for _, x := range readMistakes(t) {
		everything += "\n" + x.foundBy + "\n" + strings.Join(x.words, "\n")
	}
	_, sentences := linesOf(t, guide)
	for _, l := range sentences {
		if elsewhere := builtOutside[l]; !strings.Contains(everything, l) && elsewhere == "" {
			t.Errorf("%s: nobody types %q", guide, l)
		}
	}
}

// builtOutside is what the guide has done on another machine.
var builtOutside = map[string]string{"make deb": "withPackage makes the package, and TestBareReadme types make deb rpm"}

// bootedElsewhere says of a verb of systemctl that test/systemd doesn't type why not.
var bootedElsewhere = map[string]string{
	"enable":  "the package does that by itself, and test/systemd asks is-enabled",
	"disable": "the package does that by itself, and test/systemd looks for what a purge leaves",
}

var verb = regexp.MustCompile(`systemctl (?:--\S+ )*([a-z-]+)`)

// TestWhatTheStandInDoesIsDoneBySystemd compares what documents have systemctl do, which a stand-in does here, with what
// test/systemd does on a booted machine.
func TestWhatTheStandInDoesIsDoneBySystemd(t *testing.T) {
	var booted strings.Builder
	files, err := filepath.Glob("../systemd/*_test.go")
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		booted.Write(b)
	}
	verbs := map[string]bool{}
	for _, document := range []string{guide, readme, migration, contributing} {
		b, err := os.ReadFile(document)
		must(t, err)
		for _, m := range verb.FindAllStringSubmatch(string(b), -1) {
			verbs[m[1]] = true
		}
	}
	for v := range verbs {
		if found := regexp.MustCompile("systemctl " + v + `[ "\n]`).MatchString(booted.String()); found == (bootedElsewhere[v] != "") {
			t.Errorf("systemctl %s: test/systemd types it: %v; bootedElsewhere says why it doesn't: %q", v, found, bootedElsewhere[v])
		}
	}
	for v := range bootedElsewhere {
		if !verbs[v] {
			t.Errorf("no document has systemctl %s", v)
		}
	}
	if len(verbs) < 5 {
		t.Errorf("only %d verbs of systemctl in the documents", len(verbs))
	}
}
