//go:build systemd

package systemd

import (
	"strings"
	"testing"
)

// failover: the host of the primary dies. The runner's unit runs the packaged hooks as the owner of the data: a standby is
// promoted, the other one follows it, the dead one comes back as a standby, and lives on when the runner's unit ends.
func (m *machine) failover(t *testing.T) {
	m.must(t, "systemctl restart pgagroal") // for pipeline = transaction
	m.must(t, query("CREATE TABLE seen (at timestamptz)"))
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well")
	// The client stays connected, and writes.
	m.must(t, `cat >/root/writes.sh <<'END'
for i in $(seq 3000); do
    [ ! -e /root/enough ] || break
    echo 'INSERT INTO seen VALUES (clock_timestamp());'
    sleep 0.1
done | psql -Xq -h 127.0.0.1 -p 2345 -U app
END
systemd-run --quiet --unit client --setenv=PGPASSWORD=$PGPASSWORD --setenv=PATH=$PATH --property=RemainAfterExit=yes bash /root/writes.sh`)
	m.until(t, query("SELECT count(*) > 3 FROM seen"), "t\n")

	m.must(t, "touch /srv/pg/hold; systemctl kill --signal=KILL postgres@n1")
	m.until(t, "systemctl status pgagroal pgagroal-scriptrunner", `Status: "running, `, `Status: "Running failover, run `)
	m.must(t, "rm /srv/pg/hold")
	m.until(t, "systemctl status pgagroal", `Status: "open, primary n2"`)
	m.until(t, "pgagroal-cli failover history 5", "failover, primary -> n2: exit code 0")
	m.want(t, "journalctl -o cat --no-pager -u pgagroal-scriptrunner", "hook=failover exit=0")
	m.until(t, "pgagroal-cli status", "n2       Primary  UP", "n3       Replica  UP")
	m.until(t, "pgagroal-cli failover status", "back as a standby")
	m.must(t, "pgagroal-cli clear server primary")
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well: without n2")

	before := strings.TrimSpace(m.must(t, query("SELECT count(*) FROM seen")))
	m.until(t, query("SELECT count(*) > "+before+" + 3 FROM seen"), "t\n")
	m.must(t, "touch /root/enough")
	m.until(t, "systemctl show -P SubState client", "exited\n")
	// One statement may have been on its way when its server died; no connection was lost.
	said := m.must(t, "journalctl -o cat --no-pager -u client")
	if strings.Contains(said, "connection to server") || strings.Contains(said, "server closed") || strings.Count(said, "ERROR") > 1 {
		t.Errorf("the client has seen:\n%s", said)
	}
	m.must(t, "systemctl stop client")

	m.must(t, "systemctl stop pgagroal-scriptrunner.service")
	m.want(t, "runuser -u postgres -- pg_ctl status -D /srv/pg/n1", "server is running")
	m.until(t, "pgagroal-cli failover rehearse", "A failover would go well: without n2") // the socket has started another runner
}
