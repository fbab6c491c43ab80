"""asyncpg: Python's ssl checks authority and name."""
import asyncio, os, ssl, sys
import asyncpg

def say(step, what=""):
    print(step, " ".join(str(what).split()), flush=True)

def connect(ca="CA", **options):
    tls = ssl.create_default_context(cafile=os.environ[ca])
    return asyncpg.connect(host=os.environ["PGHOST"], ssl=tls, **options)

async def fails(step, **options):
    try:
        await connect(**options)
        say(step, "let in")
    except (asyncpg.PostgresError, OSError) as e:
        say(step, e)

def told():
    """The next line of the test, which must not stop the loop."""
    return asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

async def main():
    c = await connect()
    say("login", await c.fetchval("SELECT session_user"))
    await fails("wrong-password", password="wrong")
    await fails("wrong-ca", ca="WRONG_CA")

    p = await c.prepare("SELECT $1::int * 2")
    say("prepared", sum([await p.fetchval(i) for i in range(1, 11)]))

    say("sleeping")
    query = asyncio.ensure_future(c.fetchval("SELECT pg_sleep(600) /* %s */" % os.environ["NAME"]))
    await told()
    query.cancel()
    try:
        await query
    except asyncio.CancelledError:  # asyncpg shows nothing else; the next statement waits for the server
        say("cancel", "CancelledError")

    async with c.transaction():
        await c.execute("CREATE TEMP TABLE c (i int) ON COMMIT DROP")
        await c.copy_records_to_table("c", records=[(i,) for i in range(100)])
        say("copy", await c.fetchval("SELECT count(*) FROM c"))

    say("ready")
    if (await told()).strip() == "failover":
        try:
            await c.fetchval("SELECT 1")
            say("lost", "-")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
            say("lost", e)
            c = await connect()
        say("after", await c.fetchval("SELECT inet_server_port()"))

asyncio.run(main())
