//go:build systemd

package systemd

import (
	"fmt"
	"strings"
	"testing"
)

func installing(version string) string { return "dpkg -i /root/pgagroal-go_" + version + "-1_*.deb" }

// load starts pgbench as a unit with this name, and waits until its clients work.
func (m *machine) load(t *testing.T, unit string) {
	t.Helper()
	m.must(t, `cat >/root/count.sql <<'END'
\set i random(1, 1000000)
SELECT :i;
END
systemd-run --quiet --unit `+unit+` --setenv=PGPASSWORD=$PGPASSWORD --property=RemainAfterExit=yes --property=KillSignal=SIGINT \
    $(command -v pgbench) -n -h 127.0.0.1 -p 2345 -U app -c 8 -j 1 -T 600 -R 200 -P 1 -f /root/count.sql app`)
	m.must(t, "timeout 60 sh -c 'until journalctl -o cat --no-pager -u "+unit+" | grep -q progress:; do systemctl is-active "+unit+" && sleep 0.2; done'")
}

// unhurt says that the load's clients are all served, and ends it. pgbench says when it has lost one.
func (m *machine) unhurt(t *testing.T, unit string) {
	t.Helper()
	m.want(t, "systemctl show -P SubState "+unit, "running\n")
	said := m.must(t, "journalctl -o cat --no-pager -u "+unit)
	if strings.Contains(said, "aborted") || strings.Contains(said, "ERROR") || strings.Contains(said, "FATAL") {
		t.Errorf("the clients have seen:\n%s", said)
	}
	more := `a=$(journalctl -o cat --no-pager -u ` + unit + ` | wc -l); until [ $(journalctl -o cat --no-pager -u ` + unit + ` | wc -l) -gt $((a + 2)) ]; do sleep 0.2; done`
	m.must(t, more+"; systemctl stop "+unit)
}

// replaced: another version is installed while clients work. An edited conffile stays as it is, nobody is disconnected,
// and the process, which is the unit's, is the same; it runs the installed version. So do the pools of the template, and the runner.
func (m *machine) replaced(t *testing.T, version string) {
	t.Helper()
	unit := "load-" + strings.ReplaceAll(version, ".", "-")
	conf := m.must(t, "sha256sum /etc/pgagroal/pgagroal.conf")
	pids := "systemctl show -P MainPID pgagroal pgagroal@blue pgagroal@green"
	before := m.must(t, pids)
	m.load(t, unit)
	said := m.must(t, installing(version))
	m.until(t, "pgagroal-cli status", "pgagroal "+version+": running")
	m.until(t, "systemctl status pgagroal", "Active: active (running)", `Status: "open, primary `)
	m.unhurt(t, unit)
	if strings.Contains(said, "has not been replaced") {
		t.Errorf("the package says that nothing was replaced:\n%s", said)
	}
	if now := m.must(t, pids); now != before {
		t.Errorf("the pools are the processes %q instead of %q", now, before)
	}
	for _, pool := range pools {
		m.want(t, "pgagroal-cli -c /etc/pgagroal/"+pool+"/pgagroal.conf status", "pgagroal "+version+": running")
	}
	m.portsAnswer(t)
	// A program whose file was replaced shows as deleted.
	m.until(t, "readlink /proc/$(systemctl show -P MainPID pgagroal-scriptrunner)/exe | grep -x /usr/bin/pgagroal-scriptrunner")
	if after := m.must(t, "sha256sum /etc/pgagroal/pgagroal.conf"); after != conf {
		t.Errorf("pgagroal.conf was changed: %s, %s", conf, after)
	}
	m.want(t, "systemctl show -P NRestarts pgagroal", "0\n")
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
}

func (m *machine) upgrade(t *testing.T) {
	m.must(t, "systemctl restart pgagroal") // NRestarts begins anew
	m.replaced(t, newVersion)
}

func (m *machine) downgrade(t *testing.T) { m.replaced(t, oldVersion) }

// brokenUpgrade: a version that doesn't come up leaves the one that runs alone, and the package says so.
func (m *machine) brokenUpgrade(t *testing.T) {
	m.load(t, "load-broken")
	m.must(t, `install -d /root/broken
dpkg-deb -R /root/pgagroal-go_`+newVersion+`-1_*.deb /root/broken
printf '#!/bin/sh\nexit 1\n' >/root/broken/usr/bin/pgagroal
dpkg-deb --root-owner-group -Znone -b /root/broken /root/broken.deb >/dev/null`)
	m.want(t, "dpkg -i /root/broken.deb 2>&1",
		"pgagroal.service has not been replaced, and serves its clients as before", "pgagroal@blue.service has not been replaced", "pgagroal@green.service has not been replaced")
	m.want(t, "dpkg-query -W -f '${Status}' pgagroal-go", "install ok installed")
	m.want(t, "pgagroal-cli status", "pgagroal "+oldVersion+": running")
	m.unhurt(t, "load-broken")
	m.replaced(t, oldVersion)
	m.must(t, "rm -r /root/broken /root/broken.deb")
}

// credential: the master key comes from a file of root by LoadCredential, and pgagroal has no other.
func (m *machine) credential(t *testing.T) {
	m.must(t, "install -m 600 /var/lib/pgagroal/.pgagroal/master.key /etc/pgagroal/master.key; rm /var/lib/pgagroal/.pgagroal/master.key")
	if out, err := m.try("systemctl restart pgagroal"); err == nil {
		t.Errorf("without a master key it starts: %s", out)
	}
	m.write(t, "/etc/systemd/system/pgagroal.service.d/key.conf", "[Service]\nLoadCredential=master.key:/etc/pgagroal/master.key\n")
	m.write(t, "/etc/systemd/system/pgagroal@.service.d/key.conf", "[Service]\nLoadCredential=master.key:/etc/pgagroal/master.key\n")
	m.must(t, "systemctl daemon-reload; systemctl reset-failed pgagroal.service pgagroal.socket; systemctl start pgagroal.socket; systemctl restart pgagroal pgagroal@blue pgagroal@green")
	m.poolsServe(t)
	m.want(t, query("SELECT 42"), "42\n")
	m.until(t, "pgagroal-cli status", "n2       Primary  UP")

	m.must(t, "echo >>/etc/pgagroal/master.key; touch /etc/pgagroal/master.key")
	m.want(t, "systemctl reload pgagroal; systemctl is-active pgagroal", "active\n")
	m.want(t, query("SELECT 42"), "42\n")
}

// removal: after a removal nothing runs and nothing listens, and a server that a script has started lives on. A package that
// comes back finds its configuration. After a purge nothing is left.
func (m *machine) removal(t *testing.T) {
	m.must(t, "dpkg -r pgagroal-go")
	gone := func() {
		t.Helper()
		if out, _ := m.try("pgrep -fa '^(/usr/bin/pgagroal|pgagroal:)'; ss -Hltn | grep :23[45]; ls /run/pgagroal/.s.PGSQL.2345 /run/pgagroal/scriptrunner.sock 2>/dev/null"); out != "" {
			t.Errorf("there is still\n%s", out)
		}
	}
	gone()
	m.want(t, "ls /etc/pgagroal /var/lib/pgagroal", "pgagroal.conf", "pgagroal.state")
	m.want(t, "runuser -u postgres -- pg_ctl status -D /srv/pg/n1", "server is running")

	m.must(t, installing(newVersion))
	m.want(t, "systemctl is-enabled pgagroal.socket pgagroal-scriptrunner.socket pgagroal.service", "enabled\nenabled\nenabled\n")
	m.until(t, "systemctl is-active pgagroal.socket pgagroal-scriptrunner.socket pgagroal.service", "active\nactive\nactive\n")
	m.want(t, query("SELECT 42"), "42\n")
	m.poolsServe(t)
	m.until(t, "pgagroal-cli status", fmt.Sprintf("pgagroal %s: running, primary n2", newVersion))

	m.must(t, "dpkg -P pgagroal-go")
	gone()
	// Drop-ins are the administrator's. The user stays, so that a file of it elsewhere gets no other owner.
	left := m.must(t, "find /etc /usr /var/lib /run /lib/systemd -xdev -iname '*pgagroal*' -not -path '/etc/systemd/system/*.d' -not -path '/var/lib/dpkg/*' -not -path '/run/systemd/*'")
	if left != "" {
		t.Errorf("after the purge there is\n%s", left)
	}
	// systemd remembers the runner's unit as long as the server that its script has started lives.
	m.must(t, "runuser -u postgres -- pg_ctl stop -m fast -D /srv/pg/n1 >/dev/null")
	m.until(t, "! (systemctl list-units --all --no-legend 'pgagroal*'; systemctl list-unit-files --no-legend 'pgagroal*') | grep .")
}
