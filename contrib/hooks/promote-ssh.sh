#!/usr/bin/env bash
# pgagroal: check
#
# failover_script for servers on other machines: promotes one of them over ssh.
#
#   promote-ssh.sh OLD_HOST OLD_PORT NEW_HOST NEW_PORT
#
# It runs promote-local.sh, which has to be beside it, on the machine that SERVERS
# in hooks.conf names; nothing needs to be installed there but PostgreSQL, bash and
# the public key of the user who runs the scripts. Where the old primary may run, because
# the switchover is planned or the failover was ordered by force, it is stopped first, on
# its machine; otherwise nothing is promoted.
set -u

here=$(dirname "$0")
settings=${HOOKS_CONF:-$here/hooks.conf}

fail() {
    printf 'promote-ssh: %s\n' "$1" >&2
    exit 1
}

# destination prints where ssh finds the machine of HOST PORT.
destination() {
    local host port data ssh
    # shellcheck disable=SC2034 # data is for the script on the other side
    while read -r host port data ssh; do
        [ "$host $port" = "$1 $2" ] && [ -n "$ssh" ] && [ "$ssh" != - ] && printf '%s\n' "$ssh" && return 0
    done <<<"$SERVERS"
    return 1
}

# whole_script prints one script that needs no file on the other side. The braces
# make bash read all of it before it runs a line, so that no program in it can
# swallow the rest.
whole_script() {
    local PGAGROAL_HOOK_PART=$1 PGAGROAL_PLANNED=${PGAGROAL_PLANNED:-off} PGAGROAL_FORCED=${PGAGROAL_FORCED:-off} PGAGROAL_OLD_ALIVE=${PGAGROAL_OLD_ALIVE:-off}
    local PGAGROAL_CHECK=${PGAGROAL_CHECK:-0}
    printf 'HOOKS_CONF=/dev/null\n'
    declare -p PG_BIN PG_USER SERVERS SYNC_STANDBY_NAMES STOP_COMMAND PGAGROAL_HOOK_PART PGAGROAL_PLANNED PGAGROAL_FORCED PGAGROAL_OLD_ALIVE PGAGROAL_CHECK
    printf '{\n'
    cat "$here/promote-local.sh"
    printf 'exit\n} </dev/null\n'
}

[ $# -eq 4 ] || fail "four arguments are needed, OLD_HOST OLD_PORT NEW_HOST NEW_PORT, not $#"
[ -r "$settings" ] || fail "can't read $settings: copy hooks.conf.sample there and fill it in"
[ -r "$here/promote-local.sh" ] || fail "promote-local.sh must be beside me, in $here"
PG_BIN='' PG_USER=postgres SYNC_STANDBY_NAMES='' STOP_COMMAND=''
# shellcheck source=/dev/null
. "$settings" || fail "$settings has errors, see above"
target=$(destination "$3" "$4") || fail "SERVERS in $settings has no ssh destination for $3:$4: add it as the fourth field"

# ssh must not ask anything, because nobody is there to answer. Host keys must be known
# already, because a failover is no moment to trust a new one.
read -ra remote <<<"${SSH_COMMAND:-ssh -T -o BatchMode=yes -o ConnectTimeout=5}"

# there runs a part of promote-local.sh on a machine. It returns 255 if ssh failed.
there() {
    local part=$1 target=$2 what=$3 status
    shift 3
    whole_script "$part" | "${remote[@]}" "$target" "bash -s -- $(printf '%q ' "$@")"
    status=$?
    [ $status -eq 0 ] || [ $status -eq 255 ] || fail "$what at $target failed with exit code $status, see above"
    return $status
}

unreachable() { fail "ssh to $1 failed: try 'ssh -o BatchMode=yes $1 true' as $(id -un)"; }

# stop_old stops the old primary if it may run. By force a server is also promoted when the
# machine of an old primary that doesn't answer can't be reached.
stop_old() {
    local old
    [[ "${PGAGROAL_PLANNED:-} ${PGAGROAL_FORCED:-} ${PGAGROAL_OLD_ALIVE:-}" == *on* ]] || return 0
    old=$(destination "$1" "$2") || fail "SERVERS in $settings has no ssh destination for $1:$2, the old primary, which may run: add it as the fourth field"
    there stop "$old" "stopping the old primary $1:$2" "$@" && return
    [[ "${PGAGROAL_PLANNED:-} ${PGAGROAL_OLD_ALIVE:-}" != *on* ]] || unreachable "$old"
    printf 'promote-ssh: the old primary %s:%s does not answer and ssh to %s failed: it can not be stopped, and I go on\n' "$1" "$2" "$old"
}

# check looks whether both machines can be reached and used.
check() {
    local old bad=0
    (there promote "$target" "the check of $3:$4" "$@" || unreachable "$target") || bad=1
    old=$(destination "$1" "$2") || fail "SERVERS in $settings has no ssh destination for $1:$2: add it as the fourth field"
    (there stop "$old" "the check of $1:$2" "$@" || unreachable "$old") || bad=1
    exit $bad
}

[ "${PGAGROAL_CHECK:-}" != 1 ] || check "$@"
stop_old "$@"
there promote "$target" "promotion of $3:$4" "$@" || unreachable "$target"
