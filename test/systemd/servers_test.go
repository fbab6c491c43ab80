//go:build systemd

package systemd

import (
	"strings"
	"testing"
)

const appPassword = "app-secret"

// serverUnit starts a server as distributions do: a service that ends with all of its processes.
const serverUnit = `
[Unit]
Description=PostgreSQL server %i
[Service]
Type=notify
User=postgres
ExecStart=BIN/postgres -D /srv/pg/%i
KillMode=mixed
KillSignal=SIGINT
TimeoutStartSec=60
`

// cluster makes a primary at 127.0.0.1, and standbys at 127.0.0.2 and 127.0.0.3: the same port, as on hosts of their own.
const cluster = `
install -d -o postgres -g postgres /srv/pg
home=$(getent passwd postgres | cut -d: -f6)
printf '%s\n' '*:*:*:postgres:admin-secret' '*:*:*:repl:repl-secret' >"$home/.pgpass"
chown postgres: "$home/.pgpass"
chmod 600 "$home/.pgpass"
as() { runuser -u postgres -- env -u PGPASSWORD HOME="$home" "$@"; }
echo admin-secret >/srv/pg/password
as initdb -N -D /srv/pg/n1 --data-checksums --auth-local=peer --auth-host=scram-sha-256 --pwfile=/srv/pg/password >/dev/null
cat >>/srv/pg/n1/postgresql.conf <<END
shared_buffers = 16MB
max_wal_size = 128MB
fsync = off
wal_keep_size = 64MB
wal_receiver_timeout = 10s
wal_retrieve_retry_interval = 1s
END
place() {
    install -d -o postgres -g postgres /srv/pg/socket$1
    printf "listen_addresses = '127.0.0.$1'\nunix_socket_directories = '/srv/pg/socket$1'\n" >>/srv/pg/n$1/postgresql.conf
}
place 1
systemctl start postgres@n1
as psql -q -h /srv/pg/socket1 <<END
CREATE ROLE repl LOGIN REPLICATION PASSWORD 'repl-secret';
CREATE ROLE monitor LOGIN PASSWORD 'monitor-secret' IN ROLE pg_monitor;
CREATE ROLE app LOGIN PASSWORD 'app-secret';
CREATE DATABASE app OWNER app;
END
for n in 2 3; do
    as pg_basebackup -h 127.0.0.1 -U repl -D /srv/pg/n$n -R -c fast
    place $n
    systemctl start postgres@n$n
done
`

func (m *machine) startServers(t *testing.T) {
	t.Helper()
	m.write(t, "/etc/systemd/system/postgres@.service", strings.ReplaceAll(serverUnit, "BIN", serverPrograms()))
	m.must(t, "systemctl daemon-reload\n"+cluster)
}

// failingOver is the packaged pgagroal.conf with two standbys, users with passwords, and failover on.
const failingOver = `
cat >>/etc/pgagroal/pgagroal.conf <<END

[n2]
host = 127.0.0.2
port = 5432

[n3]
host = 127.0.0.3
port = 5432
END
sed -i '/^scriptrunner_socket/a \
pipeline = transaction\
health_check_user = monitor\
failover = on\
failover_script = /usr/lib/pgagroal/hooks/promote-local.sh\
failover_notify_script = /usr/lib/pgagroal/hooks/follow-new-primary.sh' /etc/pgagroal/pgagroal.conf
cat >/usr/lib/pgagroal/hooks/hooks.conf <<END
SERVERS='
localhost 5432 /srv/pg/n1
127.0.0.2 5432 /srv/pg/n2
127.0.0.3 5432 /srv/pg/n3
'
PG_BIN=$(dirname "$(command -v initdb)")
PRIMARY_CONNINFO='user=repl'
REJOIN_OLD_PRIMARY=yes
while [ -e /srv/pg/hold ]; do sleep 0.1; done # the test looks at the state meanwhile
END
runuser -u pgagroal -- pgagroal-admin master-key -g >/dev/null
PGAGROAL_PASSWORD=app-secret pgagroal-admin user add -U app >/dev/null
PGAGROAL_PASSWORD=monitor-secret pgagroal-admin user add -U monitor >/dev/null
systemctl daemon-reload
pgagroal -t >/dev/null
`

// scriptsOfPostgres lets the scripts run as the user that owns the servers' data.
const scriptsOfPostgres = "[Service]\nUser=postgres\nGroup=postgres\n"

func (m *machine) configureFailover(t *testing.T) {
	t.Helper()
	m.write(t, "/etc/systemd/system/pgagroal-scriptrunner.service.d/user.conf", scriptsOfPostgres)
	m.must(t, failingOver)
}

// query is psql through the pool, over TCP.
func query(sql string) string { return "psql -XAtq -h 127.0.0.1 -p 2345 -U app -c \"" + sql + "\"" }
