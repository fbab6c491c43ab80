"""psycopg2: verify-full and the right authority come from the environment."""
import io, os, sys, threading
import psycopg2

def say(step, what=""):
    print(step, " ".join(str(what).split()), flush=True)

def fails(step, **options):
    try:
        psycopg2.connect("", **options)
        say(step, "let in")
    except psycopg2.OperationalError as e:
        say(step, e)

c = psycopg2.connect("")
c.autocommit = True
k = c.cursor()
k.execute("SELECT session_user")
say("login", k.fetchone()[0])
fails("wrong-password", password="wrong")
fails("wrong-ca", sslrootcert=os.environ["WRONG_CA"])

total = 0  # psycopg2 has no prepared statements of its own, so SQL has to make one
k.execute("BEGIN; PREPARE p(int) AS SELECT $1 * 2")
for i in range(1, 11):
    k.execute("EXECUTE p(%s)", (i,))
    total += k.fetchone()[0]
k.execute("DEALLOCATE p; COMMIT")
say("prepared", total)

say("sleeping")
canceller = threading.Thread(target=lambda: (sys.stdin.readline(), c.cancel()))
canceller.start()
try:
    k.execute("SELECT pg_sleep(600) /* %s */" % os.environ["NAME"])
except psycopg2.errors.QueryCanceled as e:
    say("cancel", e)
canceller.join()  # until the request's connection ends, it can hit the next statement

k.execute("BEGIN; CREATE TEMP TABLE c (i int) ON COMMIT DROP")
k.copy_expert("COPY c FROM STDIN", io.StringIO("".join("%d\n" % i for i in range(100))))
k.execute("SELECT count(*) FROM c")
say("copy", k.fetchone()[0])
k.execute("COMMIT")

say("ready")
if sys.stdin.readline().strip() == "failover":
    try:
        k.execute("SELECT 1")
        say("lost", "-")
    except psycopg2.Error as e:
        say("lost", e)
        k = psycopg2.connect("").cursor()
    k.execute("SELECT inet_server_port()")
    say("after", k.fetchone()[0])
