#!/usr/bin/env bash
# pgagroal: check
#
# failover_script for servers on this machine: promotes one of them with pg_ctl.
#
#   promote-local.sh OLD_HOST OLD_PORT NEW_HOST NEW_PORT
#
# The data directories come from SERVERS in hooks.conf. Exit 0 means that the
# server is out of recovery; promoting it a second time changes nothing. Where the old
# primary may run, because the switchover is planned or the failover was ordered by force,
# it is stopped first; if it doesn't stop, the standby is not promoted.
set -u

settings=${HOOKS_CONF:-$(dirname "$0")/hooks.conf}

fail() {
    printf 'promote-local: %s\n' "$1" >&2
    exit 1
}

# as_owner runs a program of PostgreSQL, which refuses root, as the owner of the data.
as_owner() {
    local program=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        runuser -u "${PG_USER:-postgres}" -- env LC_ALL=C "${PG_BIN:+$PG_BIN/}$program" "$@"
    else
        LC_ALL=C "${PG_BIN:+$PG_BIN/}$program" "$@"
    fi
}

# data_dir prints the data directory of HOST PORT.
data_dir() {
    local host port data rest
    # shellcheck disable=SC2034 # rest takes what this script doesn't need
    while read -r host port data rest; do
        [ "$host $port" = "$1 $2" ] && printf '%s\n' "$data" && return 0
    done <<<"$SERVERS"
    return 1
}

# runs says whether a server runs in a data directory. pg_ctl takes a zombie, a killed
# server whose parent hasn't reaped it, for a running one.
runs() {
    local pid
    as_owner pg_ctl status -D "$1" >/dev/null 2>&1 || return 1
    pid=$(sed -n 1p "$1/postmaster.pid")
    [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) != [ZX]* ]]
}

# stop_waiting_for_standbys is explained at SYNC_STANDBY_NAMES in hooks.conf.sample.
# On a standby the setting has no effect, so there is no moment in which commits hang.
stop_waiting_for_standbys() {
    local pid_file=$1/postmaster.pid port socket_dir
    port=$(sed -n 4p "$pid_file")
    socket_dir=$(sed -n 5p "$pid_file")
    as_owner psql -XqAt -w -v ON_ERROR_STOP=1 -d "host=${socket_dir:-localhost} port=$port dbname=postgres user=${PG_USER:-postgres}" \
        -c "ALTER SYSTEM SET synchronous_standby_names = ''" -c 'SELECT pg_reload_conf()' >/dev/null
}

# stop_old stops the old primary, which ends only when its standbys have received
# everything that it wrote. A server that nobody has seen alive may be out of reach.
stop_old() {
    local data
    data=$(data_dir "$1" "$2") || fail "SERVERS in $settings has no line for $1:$2, the old primary, which may run: add host, port and data directory"
    if [ ! -f "$data/PG_VERSION" ]; then
        [ "${PGAGROAL_OLD_ALIVE:-}" != on ] || fail "the old primary $1:$2 runs, and $data is no data directory that I can read: correct SERVERS in $settings"
        echo "the old primary $1:$2 doesn't answer and $data can't be read: it can't be stopped, and I go on"
        return 0
    fi
    runs "$data" || return 0
    if [ -n "${STOP_COMMAND:-}" ]; then
        bash -c "$STOP_COMMAND" || fail "STOP_COMMAND did not stop the old primary $1:$2, so $new is not promoted"
    else
        as_owner pg_ctl stop -m fast -w -D "$data" || fail "pg_ctl did not stop the old primary $1:$2, so $new is not promoted"
    fi
    ! runs "$data" || fail "the old primary $1:$2 still runs, so $new is not promoted"
    echo "the old primary $1:$2 is stopped"
}

# check_server looks whether a server could be stopped or promoted, and changes nothing.
check_server() {
    local server=$1:$2 data program
    data=$(data_dir "$1" "$2") || fail "SERVERS in $settings has no line for $server: add host, port and data directory"
    [[ $data == /* ]] || fail "$data, the data directory of $server, is no absolute path: correct SERVERS in $settings"
    [ -f "$data/PG_VERSION" ] || fail "$data is no data directory that $(id -un) can read: correct SERVERS in $settings"
    for program in pg_ctl pg_controldata psql; do
        as_owner "$program" --version >/dev/null || fail "$program can't be executed: correct PG_BIN in $settings, or PG_USER"
    done
    as_owner pg_controldata -D "$data" >/dev/null || fail "pg_controldata can't read $data as $(as_owner_name): correct PG_USER in $settings"
    runs "$data" || fail "no server $server runs in $data: start it, or correct SERVERS in $settings"
    [ "$(sed -n 4p "$data/postmaster.pid")" = "$2" ] || printf 'promote-local: the server in %s has port %s, not %s\n' "$data" "$(sed -n 4p "$data/postmaster.pid")" "$2"
    if [ -n "${SYNC_STANDBY_NAMES:-}" ]; then
        as_owner psql -XqAt -w -d "host=$(sed -n 5p "$data/postmaster.pid") port=$(sed -n 4p "$data/postmaster.pid") dbname=postgres user=${PG_USER:-postgres}" -c 'SELECT 1' >/dev/null ||
            fail "${PG_USER:-postgres} can't log in at $server through the Unix socket, which SYNC_STANDBY_NAMES needs: allow it in pg_hba.conf"
    fi
    echo "$server can be reached in $data"
}

as_owner_name() { if [ "$(id -u)" = 0 ]; then printf '%s' "${PG_USER:-postgres}"; else id -un; fi; }

[ $# -eq 4 ] || fail "four arguments are needed, OLD_HOST OLD_PORT NEW_HOST NEW_PORT, not $#"
new=$3:$4
[ -r "$settings" ] || fail "can't read $settings: copy hooks.conf.sample there and fill it in"
# shellcheck source=/dev/null
. "$settings" || fail "$settings has errors, see above"
part=${PGAGROAL_HOOK_PART:-all} # promote-ssh.sh does each part where it belongs
if [ "${PGAGROAL_CHECK:-}" = 1 ]; then
    bad=0
    [ "$part" = promote ] || (check_server "$1" "$2") || bad=1
    [ "$part" = stop ] || (check_server "$3" "$4") || bad=1
    exit $bad
fi
if [ "$part" != promote ] && [[ "${PGAGROAL_PLANNED:-} ${PGAGROAL_FORCED:-} ${PGAGROAL_OLD_ALIVE:-}" == *on* ]]; then
    stop_old "$1" "$2"
fi
[ "$part" != stop ] || exit 0
data=$(data_dir "$3" "$4") || fail "SERVERS in $settings has no line for $new: add host, port and data directory"
[ -f "$data/PG_VERSION" ] || fail "$data is no data directory that I can read: correct SERVERS in $settings"

runs "$data" || fail "no server runs in $data: start it, or let pgagroal choose another one"
state=$(as_owner pg_controldata -D "$data" | sed -n 's/^Database cluster state: *//p')
if [ "$state" = "in production" ]; then
    echo "$new is out of recovery already"
    exit 0
fi
if [ -n "${SYNC_STANDBY_NAMES:-}" ]; then
    stop_waiting_for_standbys "$data" || fail "can't turn synchronous_standby_names off at $new: let ${PG_USER:-postgres} log in through the Unix socket"
fi
as_owner pg_ctl promote -w -D "$data" || fail "pg_ctl could not promote $new: see the log of the server in $data"
