#!/usr/bin/env bash
# Makes one standby follow a new primary. follow-new-primary.sh runs it on the
# standby's machine as the owner of the data, with the settings of hooks.conf.
#
#   repoint-standby.sh NAME DATA_DIRECTORY NEW_HOST NEW_PORT
#
# It first tries primary_conninfo and a reload, without a restart; then pg_rewind; then
# a new base backup. It touches only a standby with the new primary's system identifier,
# and removes no data directory. With rejoin=yes the directory is that of a former
# primary: it is started as a standby if it was shut down and the new primary has all of
# its WAL; otherwise it is rewound. It gets no base backup.
set -u
export LC_ALL=C

# Seconds to wait before a standby that seems to need pg_rewind gets it: enough for two
# attempts to stream with the default wal_retrieve_retry_interval.
AHEAD_WAIT=7

# Files that belong to this server and not to the database: pg_rewind and a base backup
# bring those of the new primary.
OWN_FILES='postgresql.auto.conf postgresql.conf pg_hba.conf pg_ident.conf postmaster.opts standby.signal'

name=$1 data=$2 new_host=$3 new_port=$4

say() { printf '%s: %s\n' "$name" "$1"; }

complain() { say "$1" >&2; }

fail() {
    complain "$1"
    exit 1
}

pg() {
    local program=$1
    shift
    "${PG_BIN:+$PG_BIN/}$program" "$@"
}

# new_primary and standby run SQL from standard input and print bare values.
new_primary() { pg psql -XqAt -w -v ON_ERROR_STOP=1 -d "$ADMIN_CONNINFO host=$new_host port=$new_port" "$@"; }

standby() {
    local dir
    dir=$(sed -n 5p "$data/postmaster.pid")
    pg psql -XqAt -w -v ON_ERROR_STOP=1 -d "host=${dir:-localhost} port=$(sed -n 4p "$data/postmaster.pid") dbname=postgres user=$PG_USER" "$@"
}

controldata() { pg pg_controldata -D "$data" | sed -n "s/^$1: *//p"; }

# postmaster prints the process id in postmaster.pid.
postmaster() { sed -n 1p "$data/postmaster.pid" 2>/dev/null; }

# is_zombie says whether the server was killed and its parent hasn't reaped it. pg_ctl
# and PostgreSQL take such a process for a running server.
is_zombie() {
    local pid
    pid=$(postmaster)
    [ -n "$pid" ] && [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) == [ZX]* ]]
}

is_running() { pg pg_ctl status -D "$data" >/dev/null 2>&1 && ! is_zombie; }

# --- what must hold before anything is changed

check_new_primary() {
    local answer
    answer=$(new_primary <<<"SELECT NOT pg_is_in_recovery(), system_identifier FROM pg_control_system()") ||
        fail "can't ask $new_host:$new_port from here: make ADMIN_CONNINFO and its pg_hba.conf agree"
    [ "${answer%|*}" = t ] || fail "$new_host:$new_port is in recovery, so nobody can follow it as a primary"
    [ "${answer#*|}" = "$(controldata 'Database system identifier')" ] ||
        fail "$data belongs to another database system than $new_host:$new_port: correct SERVERS in hooks.conf"
}

check_directory() {
    [[ $data == /* ]] || fail "$data is no absolute path: correct SERVERS in hooks.conf"
    [ -f "$data/PG_VERSION" ] || fail "$data is no data directory that $(id -un) can read: correct SERVERS in hooks.conf"
    [ "$(cat "$data/PG_VERSION")" -ge 12 ] || fail "PostgreSQL $(cat "$data/PG_VERSION") has recovery.conf, which this script doesn't know"
}

# check_standby comes after settle_earlier, which restores the standby.signal that an
# interrupted pg_rewind has removed. pg_rewind writes the control file last.
check_standby() {
    [ -f "$data/standby.signal" ] || fail "$data has no standby.signal: it is no standby's, so it is left alone"
    case $(controldata 'Database cluster state') in
    'in archive recovery' | 'shut down in recovery' | 'starting up') ;;
    *) fail "$data was written as a primary's ($(controldata 'Database cluster state')): it is left alone" ;;
    esac
}

# check_former_primary refuses the new primary's own directory, named by mistake: its
# control file has the new timeline since the checkpoint.
check_former_primary() {
    local own
    own=$(controldata "Latest checkpoint's TimeLineID")
    [ "$own" -lt "$timeline" ] || fail "$data is on timeline $own and the new primary on $timeline: it is no former primary's, so it is left alone"
}

check_conninfo() {
    case $(own_conninfo) in
    '') fail "it has no primary_conninfo: set PRIMARY_CONNINFO in hooks.conf" ;;
    postgres://* | postgresql://*) fail "its primary_conninfo is a URI: set PRIMARY_CONNINFO in hooks.conf" ;;
    esac
}

# --- start and stop

# remember_log finds the server's log file, so that a restarted server goes on writing
# there. A server that inherited our output would keep the script runner, or ssh,
# waiting.
remember_log() {
    log=$(log_in_use)
    [ -n "$log" ] || log=$(log_of_collector)
    [ -n "$log" ] || log=$(log_found)
    if [ -z "$log" ] || [ ! -w "$log" ]; then
        log=$data/log-after-failover
        say "its log file can't be found or written: if it has to be started, its log goes on in $log"
    fi
}

# log_in_use prints the file that a running server writes to.
log_in_use() {
    local file
    is_running || return 0
    file=$(readlink "/proc/$(postmaster)/fd/2")
    [ ! -f "$file" ] || printf '%s\n' "$file"
}

# log_of_collector prints the latest file of the logging collector.
log_of_collector() {
    local dir
    [ "$(setting logging_collector)" = on ] || return 0
    dir=$(setting log_directory)
    [[ $dir == /* ]] || dir=$data/$dir
    newest "$dir"/*
}

# log_found looks for the log of a server that doesn't run: beside the data directory, in
# it, and where Debian has it. A log names the server's socket when the server starts.
log_found() {
    local port file found=()
    port=$(sed -n 4p "$data/postmaster.pid" 2>/dev/null)
    [ -n "$port" ] || port=${name##*:}
    for file in "$data"*log* "${data%/*}"/*log* "$data"/*log* /var/log/postgresql/*.log; do
        [ ! -f "$file" ] || ! grep -qsaF "/.s.PGSQL.$port\"" "$file" || found+=("$file")
    done
    newest "${found[@]}"
}

newest() {
    local file last=
    for file in "$@"; do
        [ ! -f "$file" ] || { [ -n "$last" ] && [ "$last" -nt "$file" ]; } || last=$file
    done
    printf '%s' "$last"
}

# absolute_options makes the paths in postmaster.opts absolute. A server that was started
# with "-D data" has them relative to the directory where it was started, and nobody can
# start it again from another one.
absolute_options() {
    local file=$data/postmaster.opts text given base='' key value
    [ -f "$file" ] || return 0
    text=$(cat "$file")
    if [[ $text =~ \"-D\"\ \"([^/\"][^\"]*)\" ]] || [[ $text =~ \"-D([^/\"][^\"]*)\" ]]; then
        given=${BASH_REMATCH[1]}
        text=${text//"${BASH_REMATCH[0]}"/"\"-D\" \"$data\""}
        given=${given#./} given=${given%/}
        [[ $data != */"$given" ]] || base=${data%/"$given"}
    fi
    for key in config_file hba_file ident_file external_pid_file; do
        [[ $text =~ (${key}|${key//_/-})=([^/\"][^\"]*)\" ]] || continue
        value=${BASH_REMATCH[2]}
        [ -n "$base" ] || fail "it was started with $key=$value, and where that is can't be found: start it once with absolute paths"
        text=${text//"=$value\""/"=$base/$value\""}
    done
    [ "$text" != "$(cat "$file")" ] || return 0
    printf '%s\n' "$text" >"$file" || fail "can't write $file: see above"
    say "it was started with relative paths: they are absolute in $file now"
}

# bury removes the lock files of a zombie, because PostgreSQL doesn't start beside it. The
# processes of the killed server must have ended, because without postmaster.pid PostgreSQL
# doesn't look for them.
bury() {
    local deadline=$((SECONDS + 10)) lock
    is_zombie || return 0
    while works_here; do
        [ $SECONDS -lt $deadline ] || fail "the server in $data was killed, but processes of it still run: end them"
        sleep 0.1
    done
    say "process $(postmaster), its killed server, is a zombie: its lock files are removed"
    lock=$(sed -n 5p "$data/postmaster.pid")/.s.PGSQL.$(sed -n 4p "$data/postmaster.pid").lock
    [ "$(sed -n 1p "$lock" 2>/dev/null)" != "$(postmaster)" ] || rm -- "$lock" || fail "can't remove $lock: see above"
    rm -- "$data/postmaster.pid" || fail "can't remove $data/postmaster.pid: see above"
}

# works_here says whether a process of PostgreSQL works in the data directory.
works_here() {
    local dir real
    real=$(readlink -f "$data")
    for dir in /proc/[0-9]*; do
        [ "$(readlink "$dir/cwd")" = "$real" ] && [[ $(readlink "$dir/exe") == */postgres* ]] && return 0
    done
    return 1
}

# start_server uses restart because it takes the options of the last start from
# postmaster.opts: they say where the configuration files are.
start_server() {
    bury
    mkdir -p "${log%/*}" # pg_rewind removes a log directory that the new primary doesn't have
    if [ -n "$START_COMMAND" ]; then
        bash -c "$START_COMMAND" || fail "START_COMMAND failed: see above and the server's log"
    else
        pg pg_ctl restart -w -s -D "$data" -l "$log" >/dev/null 2>&1 || fail "the server in $data does not start: see $log"
    fi
}

stop_server() {
    bury
    is_running || return 0
    if [ -n "$STOP_COMMAND" ]; then
        bash -c "$STOP_COMMAND" || fail "STOP_COMMAND failed: see above"
    else
        pg pg_ctl stop -w -s -m fast -D "$data" || fail "the server in $data does not stop: see $log"
    fi
}

# --- pointing it to the new primary

# conninfo prints the standby's primary_conninfo with the new address. It replaces the
# old address instead of appending the new one, which libpq would accept, because the
# setting would grow each time.
conninfo() {
    local now=$PRIMARY_CONNINFO
    [ -n "$now" ] || now=$(standby <<<'SHOW primary_conninfo') || return 1
    case $now in
    postgres://* | postgresql://*) fail "its primary_conninfo is a URI: set PRIMARY_CONNINFO in hooks.conf" ;;
    esac
    with_new_address "$now"
}

with_new_address() {
    sed -E "s/(^|[[:space:]])(host|hostaddr|port)[[:space:]]*=[[:space:]]*('([^'\\\\]|\\\\.)*'|[^[:space:]]*)//g" <<<"$1" |
        sed "s/^ *//; s/\$/ host=$new_host port=$new_port/"
}

make_slot() {
    [ -n "$1" ] || return 0
    new_primary -v slot="$1" >/dev/null <<<"SELECT pg_create_physical_replication_slot(:'slot', true)
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'slot')" ||
        fail "can't make replication slot $1 at $new_host:$new_port: see above"
}

repoint() {
    local wanted slot restart
    wanted=$(conninfo) || fail "can't log in through the Unix socket as $PG_USER: allow it in pg_hba.conf"
    slot=$(standby <<<'SHOW primary_slot_name')
    make_slot "$slot"
    standby -v wanted="$wanted" <<<"ALTER SYSTEM SET primary_conninfo = :'wanted'" || fail "can't set primary_conninfo: see above"
    restart=$(standby <<<"SELECT current_setting('server_version_num')::int < 130000 OR current_setting('recovery_target_timeline') <> 'latest'")
    if [ "$restart" = t ]; then
        standby <<<"ALTER SYSTEM SET recovery_target_timeline = 'latest'" || fail "can't set recovery_target_timeline: see above"
        stop_server
        start_server
    else
        standby <<<'SELECT pg_reload_conf()' >/dev/null || fail "can't reload the settings: see above"
    fi
}

# follows says whether the standby streams from the new primary on its timeline.
follows() {
    [ "$(standby -v host="$new_host" -v port="$new_port" -v timeline="$timeline" 2>/dev/null <<<"SELECT status = 'streaming'
        AND sender_host = :'host' AND sender_port = :'port'::int AND received_tli = :'timeline'::int FROM pg_stat_wal_receiver")" = t ]
}

wait_until_it_follows() {
    local deadline=$((SECONDS + $1))
    until follows; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

# timeline_history prints the history of the new primary's timeline: older timelines, and where each
# was left.
timeline_history() { new_primary -v file="pg_wal/$(printf '%08X' "$timeline").history" 2>/dev/null <<<"SELECT pg_read_file(:'file')"; }

# is_ahead says whether the standby seems to have replayed more of the old timeline than
# the new primary had when it left that timeline. Such a standby can't follow without
# pg_rewind. The answer only shortens the wait, because the standby shows its own
# timeline with a delay.
is_ahead() {
    local fork
    fork=$(timeline_history | awk 'NF >= 2 { lsn = $2 } END { print lsn }')
    [ -n "$fork" ] && [ "$(standby -v fork="$fork" -v timeline="$timeline" <<<"SELECT pg_last_wal_replay_lsn() > :'fork'::pg_lsn
        AND timeline_id < :'timeline'::int FROM pg_control_checkpoint()")" = t ]
}

# --- when it can't follow as it is

# The directory $kept exists from before pg_rewind until the data directory is whole
# again: a server that is only half rewound must not be started. Its files are the
# server's own, until they are back in the data directory. It belongs to one attempt.

unfinished() { [ -d "$kept" ]; }

# settle_earlier takes up an attempt that was interrupted. If the server was started
# since, its own files are in use and what was kept is old.
settle_earlier() {
    unfinished || return 0
    if is_running || [ "$data/postmaster.opts" -nt "$kept" ]; then
        say "$kept is of an earlier attempt, and the server was started since: it is removed, not used"
        forget_attempt
        return
    fi
    say "an earlier attempt, of $(date -r "$kept" '+%Y-%m-%d %H:%M:%S'), was interrupted: it is taken up, with the settings in $kept"
    local f
    for f in $OWN_FILES; do
        [ ! -f "$kept/$f" ] || cmp -s "$kept/$f" "$data/$f" || came_with_rewind "$f" ||
            fail "$data/$f was changed since then: make it what it is to be, copy it to $kept/$f, and run me again"
    done
    give_back
}

# came_with_rewind says whether a file of the data directory is the new primary's, or was
# removed because the new primary has none.
came_with_rewind() {
    [ -f "$data/$1" ] || return 0
    [ "$(new_primary -v file="$1" <<<"SELECT md5(pg_read_binary_file(:'file', 0, 1000000000, true))")" = "$(md5sum <"$data/$1" | cut -d ' ' -f 1)" ]
}

keep_settings() {
    local f
    rm -rf -- "$kept.new"
    mkdir -m 700 "$kept.new" || fail "can't write beside $data: see above"
    for f in $OWN_FILES; do
        [ ! -f "$data/$f" ] || cp -p "$data/$f" "$kept.new/$f" || fail "can't copy $data/$f: see above"
    done
    forget_attempt
    mv "$kept.new" "$kept" || fail "can't write beside $data: see above"
}

# give_back returns the server's own files. It removes them from $kept one by one, so
# that a later run can't bring back an old one.
give_back() {
    local f
    for f in $OWN_FILES; do
        [ -f "$kept/$f" ] || continue
        if ! cp -p "$kept/$f" "$data/" || ! rm -- "$kept/$f"; then fail "can't restore $data/$f from $kept: see above"; fi
    done
}

forget_attempt() { ! unfinished || rm -r -- "$kept" || fail "can't remove $kept: see above"; }

# checkpoint: without it the new primary's control file may still show the old
# timeline, and pg_rewind before 16 then says that there is nothing to do.
checkpoint() {
    new_primary <<<CHECKPOINT || fail "can't run CHECKPOINT at $new_host:$new_port: ADMIN_CONNINFO must name a superuser"
}

rewind() {
    local config_file
    config_file=$(sed -n 's/.*config_file=\([^"]*\)".*/\1/p' "$data/postmaster.opts")
    checkpoint
    stop_server
    keep_settings
    if ! pg pg_rewind -D "$data" --source-server="$ADMIN_CONNINFO host=$new_host port=$new_port" ${config_file:+--config-file="$config_file"}; then
        give_back
        complain "pg_rewind failed: its settings are as before, but its data may be half rewound; $kept says so until it is rewound, replaced, or started by hand"
        return 1
    fi
    give_back
    : >"$data/standby.signal" || fail "can't write into $data: see above"
    forget_attempt
    [ -z "$rejoin" ] || point_at_rest
    start_server
    wait_until_it_follows "$STREAM_WAIT"
}

# --- a former primary

# own_conninfo prints the connection string for a former primary: from hooks.conf, else
# from the server's own settings.
own_conninfo() {
    if [ -n "$PRIMARY_CONNINFO" ]; then printf '%s\n' "$PRIMARY_CONNINFO"; else setting primary_conninfo; fi
}

# setting prints a setting of the server in the data directory, running or not.
setting() {
    local config_file
    config_file=$(sed -n 's/.*\(config_file=[^"]*\)".*/\1/p' "$data/postmaster.opts")
    pg postgres -D "$data" ${config_file:+-c "$config_file"} -C "$1" 2>/dev/null
}

# point_at_rest writes the settings of a standby while the server is stopped.
point_at_rest() {
    local auto=$data/postgresql.auto.conf wanted
    wanted=$(with_new_address "$(own_conninfo)")
    make_slot "$(setting primary_slot_name)"
    {
        sed -E '/^[[:space:]]*(primary_conninfo|recovery_target_timeline)[[:space:]]*=/d' "$auto"
        printf "primary_conninfo = '%s'\nrecovery_target_timeline = 'latest'\n" "${wanted//\'/\'\'}"
    } >"$auto.new" || fail "can't write $auto.new: see above"
    mv "$auto.new" "$auto" || fail "can't write $auto: see above"
}

# lost_nothing says whether the new primary has all WAL of a former primary: it was shut
# down, and the new timeline begins after its last checkpoint. It can then follow as it is.
lost_nothing() {
    local own fork
    [ "$(controldata 'Database cluster state')" = 'shut down' ] || return 1
    own=$(controldata "Latest checkpoint's TimeLineID")
    fork=$(timeline_history | awk -v own="$own" '$1 == own { print $2 }')
    [ -n "$fork" ] && [ "$(new_primary -v last="$(controldata 'Latest checkpoint location')" -v fork="$fork" <<<"SELECT :'last'::pg_lsn < :'fork'::pg_lsn")" = t ]
}

# rejoin makes a former primary a standby.
rejoin() {
    if [ -f "$data/standby.signal" ] && is_running && follows; then return 0; fi
    checkpoint
    # A directory that was rewound but not started yet has the new timeline.
    if [ ! -f "$data/standby.signal" ] && ! unfinished || [ "$(controldata 'Database cluster state')" = 'in production' ]; then check_former_primary; fi
    check_conninfo
    absolute_options
    if ! unfinished && { [ -f "$data/standby.signal" ] || lost_nothing; } && follow_as_it_is; then
        say "follows without pg_rewind"
        return
    fi
    rewind || fail "pg_rewind can't make it a standby: see above and $log"
    say "rewound"
}

# follow_as_it_is starts a directory that needs no pg_rewind as a standby.
follow_as_it_is() {
    stop_server
    : >"$data/standby.signal" || fail "can't write into $data: see above"
    point_at_rest
    start_server
    wait_until_it_follows "$STREAM_WAIT"
}

base_backup() {
    local aside
    aside=$data.before-$(date +%Y%m%d%H%M%S)
    if [ -n "$(ls -A "$data/pg_tblspc" 2>/dev/null)" ]; then
        fail "it has tablespaces, which I don't replace: make a base backup by hand"
    fi
    stop_server
    [ ! -e "$data.new" ] || fail "$data.new is in the way: look at it and move it away"
    pg pg_basebackup -w -X stream -c fast -D "$data.new" -d "$ADMIN_CONNINFO host=$new_host port=$new_port" ||
        fail "pg_basebackup failed, see above; $data is as it was"
    local f
    for f in $OWN_FILES; do
        [ ! -f "$data/$f" ] || cp -p "$data/$f" "$data.new/" || fail "can't write into $data.new: see above"
    done
    : >"$data.new/standby.signal" || fail "can't write into $data.new: see above"
    mv "$data" "$aside" || fail "can't rename $data (a mount point?); the new backup is in $data.new"
    mv "$data.new" "$data" || fail "can't rename $data.new to $data; the old data is in $aside"
    say "the old data directory is kept as $aside: remove it when you don't need it any more"
    start_server
    wait_until_it_follows "$STREAM_WAIT"
}

# --- the check before it is needed, which changes nothing

wrong() {
    complain "$1"
    bad=1
}

# check looks whether all that may be needed is there. The new primary is still a standby.
check() {
    local bad=0 program answer programs='pg_ctl pg_controldata psql'
    (check_directory) || exit 1
    [ -z "$rejoin" ] && [ "$ALLOW_REWIND" != yes ] || programs="$programs pg_rewind"
    [ -n "$rejoin" ] || [ "$ALLOW_BASEBACKUP" != yes ] || programs="$programs pg_basebackup"
    for program in $programs; do
        pg "$program" --version >/dev/null || wrong "$program can't be executed: correct PG_BIN in hooks.conf"
    done
    [ -O "$data" ] || wrong "$data doesn't belong to $(id -un), as whom I run: correct PG_USER or the ssh destination in hooks.conf"
    [ -w "${data%/*}" ] || wrong "$(id -un) can't write beside $data, which pg_rewind and a base backup need"
    if is_running; then
        [ "$(standby <<<'SELECT rolsuper FROM pg_roles WHERE rolname = current_user')" = t ] ||
            wrong "$PG_USER can't log in through the Unix socket as a superuser: allow it in pg_hba.conf"
    else
        say "no server runs in $data"
    fi
    answer=$(new_primary <<<"SELECT rolsuper, system_identifier FROM pg_control_system(), pg_roles WHERE rolname = current_user")
    case $answer in
    '') wrong "can't log in to $new_host:$new_port from here: look at ADMIN_CONNINFO in hooks.conf, ~/.pgpass of $(id -un), and pg_hba.conf there" ;;
    f*) wrong "ADMIN_CONNINFO in hooks.conf is no superuser at $new_host:$new_port" ;;
    *)
        [ "${answer#*|}" = "$(controldata 'Database system identifier')" ] ||
            wrong "$data belongs to another database system than $new_host:$new_port: correct SERVERS in hooks.conf"
        ;;
    esac
    [ -z "$rejoin" ] || (check_conninfo) || bad=1
    if [ "$(controldata 'wal_log_hints setting')" != on ] && [ "$(controldata 'Data page checksum version')" = 0 ]; then
        if [ -n "$rejoin" ] && [ "$REJOIN_OLD_PRIMARY" = yes ]; then
            wrong "pg_rewind needs wal_log_hints = on, or data checksums"
        else
            say "pg_rewind can't be used here: it needs wal_log_hints = on, or data checksums"
        fi
    fi
    [ $bad -ne 0 ] || say "can be made to follow"
    exit $bad
}

# --- the order of things

kept=$data.settings-kept rejoin=${rejoin:-}
[ "${PGAGROAL_CHECK:-}" != 1 ] || check
check_directory
check_new_primary
timeline=$(new_primary <<<"SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int") || fail "can't ask $new_host:$new_port for its timeline: see above"
settle_earlier
[ -n "$rejoin" ] || check_standby
remember_log
if [ -n "$rejoin" ]; then
    rejoin
    forget_attempt
    exit
fi
absolute_options
unfinished || is_running || start_server
if unfinished || ! follows; then
    wait=$STREAM_WAIT
    if ! unfinished; then
        if is_ahead && [ "$wait" -gt "$AHEAD_WAIT" ]; then wait=$AHEAD_WAIT; fi
        repoint
    fi
    if unfinished || ! wait_until_it_follows "$wait"; then
        check_standby # somebody may have promoted it meanwhile
        if [ "$ALLOW_REWIND" = yes ] && rewind; then
            say "rewound"
        elif [ "$ALLOW_BASEBACKUP" = yes ]; then
            base_backup || fail "still not streaming after a base backup: see $log"
        else
            fail "does not stream after ${STREAM_WAIT}s, and hooks.conf allows nothing more: see $log"
        fi
    fi
fi
forget_attempt
if [ -n "$SYNC_STANDBY_NAMES" ]; then
    new_primary -v names="$SYNC_STANDBY_NAMES" >/dev/null <<<"ALTER SYSTEM SET synchronous_standby_names = :'names'; SELECT pg_reload_conf()" ||
        fail "it streams, but synchronous_standby_names of $new_host:$new_port is still off: set it by hand"
fi
