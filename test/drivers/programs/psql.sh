#!/usr/bin/env bash
# psql: verify-full and the right authority come from the environment.
set -um # with job control a process in the background takes SIGINT
run() { psql -XAtqv ON_ERROR_STOP=1 "$@" 2>&1 | tr '\n' ' '; }

echo "login $(run -c 'SELECT session_user')"
echo "wrong-password $(PGPASSWORD=wrong run -c 'SELECT 1')"
echo "wrong-ca $(PGSSLROOTCERT=$WRONG_CA run -c 'SELECT 1')"

sum=0
while read -r n; do sum=$((sum + n)); done < <(
    {
        echo "BEGIN; PREPARE p(int) AS SELECT \$1 * 2;"
        for i in {1..10}; do echo "EXECUTE p($i);"; done
        echo 'DEALLOCATE p; COMMIT;'
    } | psql -XAtq
)
echo "prepared $sum"

cancelled=$(mktemp)
echo sleeping
psql -XAtqc "SELECT pg_sleep(600) /* $NAME */" >"$cancelled" 2>&1 &
read -r _
kill -INT $!
wait $!
echo "cancel $(tr '\n' ' ' <"$cancelled")"
rm -f "$cancelled"

echo "copy $(
    {
        printf 'BEGIN; CREATE TEMP TABLE c (i int) ON COMMIT DROP;\n\\copy c from stdin\n'
        seq 100
        printf '\\.\nSELECT count(*) FROM c; COMMIT;\n'
    } | run
)"

coproc kept { psql -XAtq 2>&1; }
echo "SELECT 'here';" >&"${kept[1]}"
read -r _ <&"${kept[0]}"
echo ready
read -r what
[ "$what" = failover ] || exit 0
echo "SELECT '-';" >&"${kept[1]}"
read -r answer <&"${kept[0]}"
echo "lost $answer"
echo "after $(run -c 'SELECT inet_server_port()')"
