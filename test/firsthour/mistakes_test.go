package firsthour

import (
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// mistakes says how each row of the guide's table is made on a machine where all is well.
// The commands run as root in /etc/pgagroal. Where the command that finds the
// mistake is the mistake itself, there is nothing to make.
var mistakes = map[string]string{
	"`state_dir` isn't there":                     `sed -i 's|^state_dir.*|state_dir = /var/lib/pgagrol|' pgagroal.conf`,
	"no hba file":                                 `rm pgagroal_hba.conf`,
	"a key of another pool, `pool_mode`":          `sed -i 's|^pipeline|pool_mode|' pgagroal.conf`,
	"a users file made with another master key":   `rm ~pgagroal/.pgagroal/master.key; sudo -u pgagroal pgagroal-admin master-key -g`,
	"`health_check_user` isn't in the users file": `pgagroal-admin user del -U monitor`,
	"a script without x bit":                      `again; chmod 644 hooks/promote-local.sh`,
	"a script with CR LF, as from Windows":        `again; sed -i 's/$/\r/' hooks/promote-local.sh`,
	"a standby's wrong port":                      `sed -i 's/5503/5504/' pgagroal.conf; again`,
	"no hooks.conf beside the scripts":            `again; rm hooks/hooks.conf`,
	"a key that isn't there":                      `again`,
	"the limit of a rule is reached":              exhaust,
}

// exhaust has one client use up a rule while another one waits in vain. What the second
// one is told is of no interest here.
const exhaust = `echo 'app app 1' >pgagroal_databases.conf
sed -i 's/^pipeline.*/pipeline = session\nblocking_timeout = 1s/' pgagroal.conf
again
psql -h 127.0.0.1 -p 2345 -U app -c 'SELECT pg_sleep(60)' &
until pgagroal-cli --format tree status | grep 'ActiveConnections: 1'; do sleep 0.1; done
psql -h 127.0.0.1 -p 2345 -U app -c 'SELECT 1'
kill $!`

// well keeps a copy of everything while all is well, and gives pgagroal scripts of its own to spoil. Then again starts
// pgagroal anew, and mend puts everything back.
const well = `cp -r $HOOKS /etc/pgagroal/
sed -i "s|$HOOKS|/etc/pgagroal/hooks|" /etc/pgagroal/pgagroal.conf
cp -a /etc/pgagroal /srv/pg/well
cp -a ~pgagroal/.pgagroal /srv/pg/well.key
cd /etc/pgagroal
again() {
    systemctl restart pgagroal
    timeout 60 sh -c 'until pgagroal-cli failover status | grep -q "^Runner  *connected"; do sleep 0.1; done'
}
mend() { rm -rf /etc/pgagroal/* ~pgagroal/.pgagroal; cp -a /srv/pg/well/. /etc/pgagroal/; cp -a /srv/pg/well.key ~pgagroal/.pgagroal; }
again`

// notice bounds the wait until a running pgagroal has noticed a mistake.
const notice = time.Minute

// tryMistakes makes each mistake of the guide's table, and looks for the words that the
// table promises.
func (m *machine) tryMistakes(table []mistake) {
	m.t.Helper()
	if out, code := m.run(well); code != 0 {
		m.t.Fatal(out)
	}
	for name := range mistakes {
		if !slices.ContainsFunc(table, func(x mistake) bool { return x.what == name }) {
			m.t.Errorf("the guide's table has no %q", name)
		}
	}
	for _, x := range table {
		commands := mistakes[x.what]
		if commands == "" {
			m.t.Errorf("nobody knows how to make %q", x.what)
			continue
		}
		if x.foundBy != "pgagroal -t" && commands != "again" {
			m.quiet(x)
		}
		m.run(commands)
		m.finds(x)
		m.run("mend")
	}
	m.run("again; cd; rm -r /srv/pg/well /srv/pg/well.key")
}

// quiet checks that the words aren't there before the mistake is made.
func (m *machine) quiet(x mistake) {
	m.t.Helper()
	m.run("again")
	if out, _ := m.run(x.foundBy); lacks(out, x.words) == "" {
		m.t.Errorf("without the mistake %q, %s says\n%s", x.what, x.foundBy, out)
	}
}

// finds waits until a command says what the table promises: a running pgagroal needs a
// moment to notice.
func (m *machine) finds(x mistake) {
	m.t.Helper()
	out := ""
	pgtest.WaitUntil(m.t, notice, x.foundBy+" to find the mistake: "+x.what, func() bool {
		out, _ = m.run(x.foundBy)
		return lacks(out, x.words) == ""
	}, func() string { return "it lacks " + lacks(out, x.words) + " in\n" + out })
}

// lacks returns the first of these words that the output doesn't have, or nothing.
func lacks(out string, words []string) string {
	for _, w := range words {
		if !strings.Contains(out, w) {
			return w
		}
	}
	return ""
}
