#!/usr/bin/env bash
# pgagroal: check
#
# failover_notify_script: makes the other standbys follow the new primary.
#
#   follow-new-primary.sh OLD_HOST OLD_PORT NEW_HOST NEW_PORT [HOST PORT]...
#
# For each standby repoint-standby.sh, which has to be beside this script, runs on
# the standby's machine: here, or over ssh when SERVERS in hooks.conf says so. If one
# standby fails, the others are still processed; exit 0 means that all of them stream
# from the new primary. A second run changes nothing.
#
# REJOIN_OLD_PRIMARY in hooks.conf says when the old primary is made a standby as well,
# after the others. If that fails after a planned switchover (PGAGROAL_PLANNED=on), this
# script fails. After the death of the old primary it does not, because the same fault may
# have caused the failover.
set -u

here=$(dirname "$0")
settings=${HOOKS_CONF:-$here/hooks.conf}
steps=$here/repoint-standby.sh

say() { printf 'follow-new-primary: %s\n' "$1"; }

complain() { say "$1" >&2; }

fail() {
    complain "$1"
    exit 1
}

# find_server sets data and ssh of HOST PORT.
find_server() {
    local host port
    while read -r host port data ssh; do
        [ "$host $port" = "$1 $2" ] && return 0
    done <<<"$SERVERS"
    return 1
}

# whole_script prints one script that needs no file on the other side. The braces
# make bash read all of it before it runs a line, so that no program in it can
# swallow the rest.
whole_script() {
    declare -p PG_BIN PG_USER ADMIN_CONNINFO PRIMARY_CONNINFO SYNC_STANDBY_NAMES STREAM_WAIT \
        ALLOW_REWIND ALLOW_BASEBACKUP START_COMMAND STOP_COMMAND REJOIN_OLD_PRIMARY rejoin PGAGROAL_CHECK
    printf '{\n'
    cat "$steps"
    printf 'exit\n} </dev/null\n'
}

# there runs bash on the standby's machine as the owner of the data, with the script on
# standard input.
there() {
    if [ -n "$ssh" ] && [ "$ssh" != - ]; then
        "${remote[@]}" "$ssh" "bash -s -- $(printf '%q ' "$@")"
    elif [ "$(id -u)" = 0 ]; then
        runuser -u "$PG_USER" -- bash -s -- "$@"
    else
        bash -s -- "$@"
    fi
}

# repoint processes one standby: HOST PORT.
repoint() {
    local data='' ssh='' status
    if ! find_server "$1" "$2"; then
        complain "SERVERS in $settings has no line for $1:$2: add host, port and data directory"
        return 1
    fi
    whole_script | there "$1:$2" "$data" "$new_host" "$new_port"
    status=$?
    [ $status -ne 255 ] || complain "ssh to $ssh failed: try 'ssh -o BatchMode=yes $ssh true' as $(id -un)"
    return $status
}

if [ $# -lt 4 ] || [ $(($# % 2)) -ne 0 ]; then
    fail "needed are OLD_HOST OLD_PORT NEW_HOST NEW_PORT and pairs HOST PORT, not $# arguments"
fi
old_host=$1 old_port=$2 new_host=$3 new_port=$4
shift 4
if [ $# -eq 0 ] && [ ! -e "$settings" ] && [ "${PGAGROAL_PLANNED:-}" != on ]; then
    say "there is no other standby, so there is nothing to do"
    exit 0
fi
[ -r "$settings" ] || fail "can't read $settings: copy hooks.conf.sample there and fill it in"
[ -r "$steps" ] || fail "repoint-standby.sh must be beside me, in $here"
PG_BIN='' PG_USER=postgres ADMIN_CONNINFO='user=postgres dbname=postgres' PRIMARY_CONNINFO='' SYNC_STANDBY_NAMES=''
STREAM_WAIT=30 ALLOW_REWIND=yes ALLOW_BASEBACKUP=yes START_COMMAND='' STOP_COMMAND=''
SSH_COMMAND='ssh -T -o BatchMode=yes -o ConnectTimeout=5' REJOIN_OLD_PRIMARY=planned
# shellcheck source=/dev/null
. "$settings" || fail "$settings has errors, see above"
read -ra remote <<<"$SSH_COMMAND"

[ $# -gt 0 ] || say "there is no other standby"
rejoin='' failed='' PGAGROAL_CHECK=${PGAGROAL_CHECK:-0}
if [ "$PGAGROAL_CHECK" = 1 ]; then
    while [ $# -gt 0 ]; do
        repoint "$1" "$2" || failed="$failed $1:$2"
        shift 2
    done
    if [ "$REJOIN_OLD_PRIMARY" != no ]; then
        rejoin=yes
        repoint "$old_host" "$old_port" || failed="$failed $old_host:$old_port"
    fi
    [ -z "$failed" ] || fail "these could not be made to follow $new_host:$new_port, for the reasons above:$failed"
    exit 0
fi
while [ $# -gt 0 ]; do
    if repoint "$1" "$2"; then
        say "$1:$2 streams from $new_host:$new_port"
    else
        failed="$failed $1:$2"
    fi
    shift 2
done
planned=${PGAGROAL_PLANNED:-}
if [ "$REJOIN_OLD_PRIMARY" = yes ] || [ "$REJOIN_OLD_PRIMARY$planned" = plannedon ]; then
    rejoin=yes
    if repoint "$old_host" "$old_port"; then
        say "$old_host:$old_port, the old primary, streams from $new_host:$new_port"
    elif [ "$planned" = on ]; then
        failed="$failed $old_host:$old_port"
    else
        complain "$old_host:$old_port, the old primary, is not rejoined, for the reason above: do it by hand"
    fi
elif [ "$planned" = on ]; then
    say "$old_host:$old_port, the old primary, stays as it is: REJOIN_OLD_PRIMARY is $REJOIN_OLD_PRIMARY"
fi
[ -z "$failed" ] || fail "these don't follow $new_host:$new_port, for the reasons above:$failed"
