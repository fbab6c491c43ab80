"""psycopg 3: verify-full and the right authority come from the environment."""
import os, sys, threading
import psycopg

def say(step, what=""):
    print(step, " ".join(str(what).split()), flush=True)

def fails(step, **options):
    try:
        psycopg.connect("", **options)
        say(step, "let in")
    except psycopg.OperationalError as e:
        say(step, e)

def one(sql, *args, **options):
    return c.execute(sql, args or None, **options).fetchone()[0]

c = psycopg.connect("", autocommit=True)
say("login", one("SELECT session_user"))
fails("wrong-password", password="wrong")
fails("wrong-ca", sslrootcert=os.environ["WRONG_CA"])
say("prepared", sum(one("SELECT %s::int * 2", i, prepare=True) for i in range(1, 11)))

say("sleeping")
canceller = threading.Thread(target=lambda: (sys.stdin.readline(), c.cancel()))
canceller.start()
try:
    c.execute("SELECT pg_sleep(600) /* %s */" % os.environ["NAME"])
except psycopg.errors.QueryCanceled as e:
    say("cancel", e)
canceller.join()  # until the request's connection ends, it can hit the next statement

with c.transaction():
    c.execute("CREATE TEMP TABLE c (i int) ON COMMIT DROP")
    with c.cursor().copy("COPY c FROM STDIN") as copy:
        for i in range(100):
            copy.write_row((i,))
    say("copy", one("SELECT count(*) FROM c"))

say("ready")
if sys.stdin.readline().strip() == "failover":
    try:
        one("SELECT 1")
        say("lost", "-")
    except psycopg.Error as e:
        say("lost", e)
        c = psycopg.connect("", autocommit=True)
    say("after", one("SELECT inet_server_port()"))
