//go:build systemd

package systemd

import (
	"fmt"
	"testing"
)

// pools are the instances of pgagroal@.service, at the ports 2350, 2351.
var pools = [...]string{"blue", "green"}

// aPool makes the files of an instance as its unit says, with one server.
const aPool = `
install -d /etc/pgagroal/%[1]s
cp /etc/pgagroal/pgagroal_hba.conf /etc/pgagroal/%[1]s/
cat >/etc/pgagroal/%[1]s/pgagroal.conf <<END
[pgagroal]
host = 127.0.0.1
port = %[2]d
unix_socket_dir = /run/pgagroal-%[1]s
state_dir = /var/lib/pgagroal-%[1]s
user = pgagroal

[n2]
host = 127.0.0.2
port = 5432
END
systemctl --quiet enable --now pgagroal@%[1]s
`

// instances: two pools of the template live beside pgagroal.service, and nothing that happens to one touches another.
func (m *machine) instances(t *testing.T) {
	for i, pool := range pools {
		m.must(t, fmt.Sprintf(aPool, pool, 2350+i))
		m.want(t, "systemctl status pgagroal@"+pool, "connection pool for PostgreSQL ("+pool+")", "Active: active (running)", `Status: "open, primary n2"`)
	}
	m.poolsServe(t)
	m.want(t, "systemctl reload pgagroal@blue; systemctl is-active pgagroal@blue", "active\n")

	others := "systemctl show -P MainPID pgagroal pgagroal@green"
	before := m.must(t, others)
	m.must(t, "kill -KILL $(systemctl show -P MainPID pgagroal@blue)")
	m.until(t, "systemctl show -P NRestarts -P ActiveState pgagroal@blue", "1\n", "active\n")
	m.poolsServe(t)
	m.must(t, "systemctl stop pgagroal@blue; ! ls /run/pgagroal-blue")
	if after := m.must(t, others); after != before {
		t.Errorf("the other pools are the processes %q instead of %q", after, before)
	}
	m.must(t, "systemctl start pgagroal@blue")
	m.poolsServe(t)
}

func (m *machine) poolsServe(t *testing.T) {
	t.Helper()
	for i, pool := range pools {
		for _, host := range []string{"127.0.0.1", "/run/pgagroal-" + pool} {
			m.until(t, fmt.Sprintf("psql -XAtq -h %s -p %d -U app -c 'SELECT inet_server_addr()'", host, 2350+i), "127.0.0.2\n")
		}
	}
}

// The passed ports are others than those of the keys, which only say that they are served.
const onSockets = `
PGAGROAL_PASSWORD=boss-secret pgagroal-admin -f /etc/pgagroal/pgagroal_admins.conf -U boss user add >/dev/null
sed -i '/^scriptrunner_socket/a \
metrics = 9\
console = 10\
management = 11' /etc/pgagroal/pgagroal.conf
systemctl stop pgagroal.service
systemctl --quiet enable --now pgagroal-metrics.socket pgagroal-console.socket pgagroal-management.socket
! systemctl --quiet is-active pgagroal.service
`

// ports: metrics, console and management listen at sockets of systemd. Whoever connects to one starts pgagroal.
func (m *machine) ports(t *testing.T) {
	m.must(t, onSockets)
	m.portsAnswer(t)
	m.want(t, "systemctl status pgagroal.service", "pgagroal-metrics.socket", "pgagroal-console.socket", "pgagroal-management.socket")
	m.must(t, "systemctl restart pgagroal")
	m.portsAnswer(t)
}

func (m *machine) portsAnswer(t *testing.T) {
	t.Helper()
	get := func(port int, path string) string {
		return fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; cat <&3", port, path)
	}
	m.until(t, get(2346, "/metrics"), "200 OK", "pgagroal_server_")
	m.until(t, get(2347, "/"), "200 OK", "<title>")
	m.until(t, "PGAGROAL_PASSWORD=boss-secret pgagroal-cli -h 127.0.0.1 -p 2348 -U boss status", "running, primary ")
}
