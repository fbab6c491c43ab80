//go:build systemd

package systemd

import (
	"flag"
	"strings"
	"testing"
)

const (
	oldVersion = "1.2.3"
	newVersion = "1.2.4"
)

var dist = flag.String("packages", "", "directory in which the packages are kept; those of an earlier run in it are used again")

// TestTheLifeOfAnInstallation plays the scenes in this order. One that fails doesn't hide those after it, except the
// first one.
func TestTheLifeOfAnInstallation(t *testing.T) {
	if *dist == "" {
		*dist = t.TempDir()
	}
	m := newMachine(t, packaged(t, *dist, oldVersion), packaged(t, *dist, newVersion))
	m.startServers(t)
	if !t.Run("install", m.install) {
		t.Fatal("nothing is installed")
	}
	for _, s := range []struct {
		name string
		play func(t *testing.T)
	}{
		{"the socket starts the service", m.socketStarts},
		{"reload", m.reload},
		{"the socket listens while the service is stopped", m.stopAndNextClient},
		{"crashes heal", m.crashes},
		{"what is stuck is replaced", m.watchdog},
		{"metrics, console and management on sockets", m.ports},
		{"failover", m.failover},
		{"pools of the template", m.instances},
		{"upgrade under load", m.upgrade},
		{"downgrade under load", m.downgrade},
		{"an upgrade to a broken version", m.brokenUpgrade},
		{"the master key as a credential", m.credential},
		{"remove, install again, purge", m.removal},
	} {
		t.Run(s.name, s.play)
	}
}

// install: with the files of the package alone a client of this host reaches its server, over both kinds of sockets.
func (m *machine) install(t *testing.T) {
	m.must(t, installing(oldVersion))
	m.want(t, "systemctl is-enabled pgagroal.socket pgagroal-scriptrunner.socket pgagroal.service", "enabled\nenabled\nenabled\n")
	m.want(t, "systemctl status pgagroal.service", "Active: active (running)", "TriggeredBy: ", `Status: "open, primary primary"`,
		"pgagroal: prober", "pgagroal: worker 0", "man:pgagroal(8)")
	m.want(t, "systemctl status pgagroal.socket", "[::]:2345 (Stream)", "/run/pgagroal/.s.PGSQL.2345 (Stream)")
	m.want(t, query("SELECT inet_server_addr()"), "127.0.0.1\n")
	m.want(t, "psql -XAtq -h /run/pgagroal -p 2345 -U app -c 'SELECT current_user'", "app\n")
	m.want(t, "pgagroal-cli status", "pgagroal "+oldVersion+": running, primary primary")
	m.want(t, "stat -c '%n %a %U' /etc/pgagroal/pgagroal.conf /run/pgagroal /var/lib/pgagroal", "/etc/pgagroal/pgagroal.conf 644 root", "/run/pgagroal 755 pgagroal", "/var/lib/pgagroal 750 pgagroal")
	m.want(t, "ps -o user= -p "+m.pid(t, "pgagroal"), "pgagroal\n")
}

// socketStarts: a client starts pgagroal, over each of the sockets, and waits meanwhile.
func (m *machine) socketStarts(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "/run/pgagroal"} {
		m.must(t, "systemctl stop pgagroal.service; ! systemctl --quiet is-active pgagroal.service; systemctl is-active pgagroal.socket")
		m.want(t, "psql -XAtq -h "+host+" -p 2345 -U app -c 'SELECT 41 + 1'", "42\n")
		m.want(t, "systemctl is-active pgagroal.service", "active\n")
	}
}

// reload: what can't take effect is refused, and said; what can, does without an end of the process or of a session.
func (m *machine) reload(t *testing.T) {
	m.configureFailover(t)
	main := m.pid(t, "pgagroal")
	m.must(t, "sed -i 's/^pipeline = transaction/pipeline = trans/' /etc/pgagroal/pgagroal.conf")
	if out, err := m.try("systemctl reload pgagroal"); err == nil {
		t.Errorf("a reload of a wrong file succeeds: %s", out)
	}
	m.want(t, "journalctl -o cat --no-pager -u pgagroal -n 20", "pgagroal.conf", "trans")
	m.want(t, query("SELECT 1"), "1\n")
	m.must(t, "sed -i 's/^pipeline = trans$/pipeline = transaction/' /etc/pgagroal/pgagroal.conf")
	m.want(t, "systemctl reload pgagroal; systemctl is-active pgagroal", "active\n")
	m.until(t, "pgagroal-cli status", "primary  Primary  UP", "n2       Replica  UP", "n3       Replica  UP", "Failover     on, phase open")
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
	m.want(t, "systemctl status pgagroal-scriptrunner.service", "Active: active (running)", `Status: "Ready"`)
	m.want(t, "ps -o user= -p "+m.pid(t, "pgagroal-scriptrunner"), "postgres\n")
	if now := m.pid(t, "pgagroal"); now != main {
		t.Errorf("after a reload pgagroal is process %s instead of %s", now, main)
	}
}

// stopAndNextClient: the sockets listen on, on the same inode, and the next client waits for a start. The runner ends with
// its pgagroal, and starts with the next one.
func (m *machine) stopAndNextClient(t *testing.T) {
	const socket = "stat -c %i /run/pgagroal/.s.PGSQL.2345 /run/pgagroal/scriptrunner.sock"
	before := m.must(t, socket)
	m.want(t, "systemctl stop pgagroal; systemctl is-active pgagroal.socket pgagroal-scriptrunner.socket", "active\nactive\n")
	m.want(t, "systemctl show -P Result pgagroal.service", "success\n")
	m.want(t, "ss -Hltn sport = :2345", "LISTEN")
	if after := m.must(t, socket); after != before {
		t.Errorf("the sockets are others after a stop: %q, %q", before, after)
	}
	m.until(t, "systemctl show -P ActiveState -P Result pgagroal-scriptrunner.service", "inactive\n", "success\n")
	m.want(t, query("SELECT 42"), "42\n")
	m.until(t, "systemctl is-active pgagroal pgagroal-scriptrunner", "active\nactive\n")
}

// crashes: each process is killed in turn. Whoever watches it starts it anew, and clients are served.
func (m *machine) crashes(t *testing.T) {
	main := m.pid(t, "pgagroal")
	for _, title := range []string{"worker 0", "worker 1", "prober"} {
		old := m.child(t, title)
		m.must(t, "kill -KILL "+old)
		m.until(t, "pgrep -P "+main+" -f '^pgagroal: "+title+"' | grep -vx "+old)
		m.until(t, query("SELECT 42"), "42\n")
	}
	if now := m.pid(t, "pgagroal"); now != main {
		t.Errorf("the death of a child has restarted pgagroal: %s, %s", main, now)
	}
	m.runnerIsReplaced(t, "KILL")
	m.want(t, "systemctl show -P NRestarts pgagroal", "0\n")

	m.must(t, "kill -KILL "+main)
	m.until(t, query("SELECT 42"), "42\n") // the socket holds the client meanwhile
	m.until(t, "systemctl show -P NRestarts -P ActiveState pgagroal", "1", "active")
	if now := m.pid(t, "pgagroal"); now == main {
		t.Errorf("a killed supervisor is still process %s", now)
	}
	m.until(t, "systemctl status pgagroal", `Status: "open, primary primary"`)
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
}

// runnerIsReplaced kills the runner of the scripts with a signal, and waits for the next one.
func (m *machine) runnerIsReplaced(t *testing.T, signal string) {
	t.Helper()
	runner := m.pid(t, "pgagroal-scriptrunner")
	m.must(t, "kill -"+signal+" "+runner)
	m.until(t, "systemctl show -P MainPID pgagroal-scriptrunner | grep -vx -e 0 -e "+runner)
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
	m.want(t, query("SELECT 42"), "42\n")
}

// watchdog: a stuck worker is killed by the supervisor, a stuck supervisor by systemd. A stuck runner's service is an
// alarm alone, because nothing says that its script may be interrupted; clients are served.
func (m *machine) watchdog(t *testing.T) {
	main, worker := m.pid(t, "pgagroal"), m.child(t, "worker 0")
	m.must(t, "kill -STOP "+worker)
	m.until(t, "pgrep -P "+main+" -f '^pgagroal: worker 0' | grep -vx "+worker)
	m.until(t, query("SELECT 42"), "42\n")
	if now := m.pid(t, "pgagroal"); now != main {
		t.Errorf("a stuck worker has restarted pgagroal: %s, %s", main, now)
	}

	runner := m.pid(t, "pgagroal-scriptrunner")
	m.load(t, "load-stopped")
	m.must(t, "kill -STOP "+runner)
	m.until(t, "systemctl status pgagroal", `Status: "open, primary primary, alarm: the script runner hangs: `)
	m.want(t, "pgagroal-cli failover status", "the script runner hangs")
	m.unhurt(t, "load-stopped")
	m.must(t, "kill -CONT "+runner)
	m.until(t, "systemctl status pgagroal", `Status: "open, primary primary"`)
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
	if now := m.pid(t, "pgagroal"); now != main || m.pid(t, "pgagroal-scriptrunner") != runner {
		t.Error("a stuck runner has restarted something")
	}

	m.must(t, "kill -STOP "+main)
	m.until(t, "journalctl -o cat --no-pager -u pgagroal", "Watchdog timeout (limit 30s)")
	m.until(t, query("SELECT 42"), "42\n")
	if now := m.pid(t, "pgagroal"); now == main {
		t.Error("a stuck supervisor is still there")
	}
	if left := strings.TrimSpace(m.must(t, "pgrep -f '^pgagroal: worker' | wc -l")); left != "2" {
		t.Errorf("%s workers instead of 2", left)
	}
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
}
