package transaction

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// Drivers run in their default modes, with more clients than backends.

func TestPooledPgbenchInEveryMode(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 4*pool.Generous)
	defer cancel()
	pool.Succeed(t, p.Tool(ctx, "pgbench", "-i", "-q", "-s", "1"))
	// A thread of pgbench blocks while one of its clients prepares or connects. If
	// another client of that thread had a transaction open, both would wait for ever.
	done := 0
	for _, args := range [][]string{
		{"-M", "simple", "-t", "10"}, {"-M", "extended", "-t", "10"}, {"-M", "prepared", "-t", "20"}, {"-M", "prepared", "-t", "3", "-C"},
	} {
		var n int
		_, _ = fmt.Sscan(args[3], &n)
		out := pool.Succeed(t, p.Tool(ctx, "pgbench", append([]string{"-n", "-c", "20", "-j", "20"}, args...)...))
		if want := fmt.Sprintf("%d/%d", 20*n, 20*n); !strings.Contains(out, want) {
			t.Errorf("%v: not %s transactions:\n%s", args, want, out)
		}
		done += 20 * n
	}
	if got := pool.AskNode(t, c.Primary(), "SELECT count(*) FROM pgbench_history"); got != fmt.Sprint(done) {
		t.Errorf("%s transactions in the table, pgbench counted %d", got, done)
	}
	if got := pool.AskNode(t, c.Primary(), "SELECT sum(abalance) - (SELECT sum(bbalance) FROM pgbench_branches) FROM pgbench_accounts"); got != "0" {
		t.Errorf("the balances differ by %s", got)
	}
}

func TestPooledPsqlScript(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	cmd := p.Tool(ctx, "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
	cmd.Stdin = strings.NewReader(`CREATE TABLE s (i int);
\copy s from stdin
1
2
\.
BEGIN; INSERT INTO s VALUES (3);
SAVEPOINT a; INSERT INTO s VALUES (4); ROLLBACK TO a; COMMIT;
\copy s to stdout
SELECT $1::int + 1 \bind 41 \g
\d s
`)
	if strings.Contains(pool.Succeed(t, p.Tool(ctx, "psql", "--version")), " 15") {
		cmd.Stdin = strings.NewReader("CREATE TABLE s (i int);\n\\copy s from stdin\n1\n2\n\\.\nBEGIN; INSERT INTO s VALUES (3);\n" +
			"SAVEPOINT a; INSERT INTO s VALUES (4); ROLLBACK TO a; COMMIT;\n\\copy s to stdout\nSELECT 42;\n\\d s\n")
	}
	if got := pool.Succeed(t, cmd); got != "1\n2\n3\n42\ni|integer|||\n" {
		t.Errorf("psql says %q", got)
	}
}

func TestPooledPgxWithItsStatementCache(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE items (id int, name text)")
	p := pool.TxPool(t, c, 2, nil)
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			if err := usePgx(t.Context(), fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.Port), i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Wait()
	if got := pool.AskNode(t, c.Primary(), "SELECT count(*) FROM items"); got != fmt.Sprint(6*(5*2+100)) {
		t.Errorf("%s rows", got)
	}
}

func usePgx(ctx context.Context, url string, client int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*pool.Generous)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for round := range 5 {
		var got int
		if err := conn.QueryRow(ctx, "SELECT $1::int * 2", client).Scan(&got); err != nil || got != 2*client {
			return fmt.Errorf("query: %d, %w", got, err)
		}
		batch := &pgx.Batch{}
		for j := range 2 {
			batch.Queue("INSERT INTO items VALUES ($1, $2)", client, fmt.Sprint(j))
		}
		batch.Queue("SELECT count(*) FROM items WHERE id = $1", client)
		res := conn.SendBatch(ctx, batch)
		_, _ = res.Exec()
		_, _ = res.Exec()
		if err := res.QueryRow().Scan(&got); err != nil || got != 2*(round+1) {
			return fmt.Errorf("batch: %d, %w", got, err)
		}
		if err := res.Close(); err != nil {
			return err
		}
		if err := failInTransaction(ctx, conn, client); err != nil {
			return err
		}
	}
	rows := pgx.CopyFromSlice(100, func(i int) ([]any, error) { return []any{client, fmt.Sprint("copied ", i)}, nil })
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "name"}, rows)
	if err == nil && n != 100 {
		err = fmt.Errorf("%d rows copied", n)
	}
	return err
}

// failInTransaction prepares a statement in a failed transaction, and uses it after the
// rollback.
func failInTransaction(ctx context.Context, conn *pgx.Conn, client int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	var got int
	if err := tx.QueryRow(ctx, "SELECT 1 / $1::int", 0).Scan(&got); pool.SQLState(err) != "22012" {
		return fmt.Errorf("division: %w", err)
	}
	if err := tx.QueryRow(ctx, "SELECT $1::int + 7", client).Scan(&got); pool.SQLState(err) != "25P02" {
		return fmt.Errorf("in a failed transaction: %w", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT $1::int + 7", client).Scan(&got); err != nil || got != client+7 {
		return fmt.Errorf("after the failed transaction: %d, %w", got, err)
	}
	return nil
}

// python runs a script with the distribution's Python, for which the drivers are
// installed.
func python(t testing.TB, p *pool.Pool, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*pool.Generous)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", script)
	cmd.Env = p.Tool(ctx, "psql").Env
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "ModuleNotFoundError") {
		t.Fatalf("a driver is missing; .ci/setup test installs it\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPooledPsycopg2(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	python(t, p, `
import io, psycopg2, psycopg2.extras
conns = [psycopg2.connect("") for _ in range(5)]
with conns[0] as c, c.cursor() as k:
    k.execute("CREATE TABLE items (id int, name text)")
for r in range(5):
    for i, c in enumerate(conns):
        with c, c.cursor() as k:
            k.execute("INSERT INTO items VALUES (%s, %s)", (i, "x"))
            psycopg2.extras.execute_values(k, "INSERT INTO items VALUES %s", [(i, "y")] * 3)
            k.copy_expert("COPY items FROM STDIN", io.StringIO("%d\tz\n" % i))
        with c, c.cursor("named") as k:
            k.execute("SELECT count(*) FROM items WHERE id = %s", (i,))
            assert k.fetchone() == (5 * (r + 1),)
        try:
            with c, c.cursor() as k:
                k.execute("INSERT INTO items VALUES (-1, 'lost')")
                k.copy_expert("COPY items FROM STDIN", io.StringIO("nonsense\n"))
            assert False
        except psycopg2.errors.InvalidTextRepresentation:
            pass
conns[0].autocommit = True
with conns[0].cursor() as k:
    k.execute("SELECT count(*) FROM items WHERE id < 0")
    assert k.fetchone() == (0,)
`)
}

func TestPooledPsycopg3(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	python(t, p, `
import psycopg
conns = [psycopg.connect("") for _ in range(5)]
with conns[0].transaction():
    conns[0].execute("CREATE TABLE items (id int, name text)")
conns[0].commit()
for r in range(8):  # the sixth time a statement is prepared by name
    for i, c in enumerate(conns):
        with c.transaction():
            c.execute("INSERT INTO items VALUES (%s, %s)", (i, "x"))
        c.commit()
        n = c.execute("SELECT count(*), %s::int FROM items WHERE id = %s", (i, i)).fetchone()
        c.commit()
        assert n == (r + 1, i), n
for i, c in enumerate(conns):
    c.prepared_max = 3
    for k in range(30):  # more than it keeps: it deallocates them by name
        assert c.execute("SELECT %%s::int + %d" % (k % 10), (i,), prepare=True).fetchone() == (i + k % 10,)
        c.commit()
    with c.pipeline():
        a = [c.execute("SELECT %s::int", (j,), prepare=True) for j in range(5)]
    c.commit()
    assert [x.fetchone()[0] for x in a] == list(range(5))
    with c.cursor().copy("COPY items FROM STDIN") as copy:
        copy.write_row((i, "copied"))
    c.commit()
    try:
        c.execute("SELECT 1/0")
        assert False
    except psycopg.errors.DivisionByZero:
        c.rollback()
    assert c.execute("SELECT %s::int + 1", (i,), prepare=True).fetchone() == (i + 1,)
    c.rollback()
`)
}

func TestPooledAsyncpg(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	python(t, p, `
import asyncio, os, asyncpg
async def use(i):
    c = await asyncpg.connect(host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), user="postgres", database="postgres", ssl=False)
    for r in range(10):
        assert await c.fetchval("SELECT $1::int + 1", i) == i + 1
        async with c.transaction():
            await c.execute("INSERT INTO items VALUES ($1, $2)", i, "x")
            assert await c.fetchval("SELECT count(*) FROM items WHERE id = $1", i) == 3 * r + 1
            assert [x["g"] async for x in c.cursor("SELECT g FROM generate_series(1, 120) g")] == list(range(1, 121))
        await c.executemany("INSERT INTO items VALUES ($1, $2)", [(i, "y")])
        await c.copy_records_to_table("items", records=[(i, "z")])
        try:
            await c.fetchval("SELECT 1 / $1::int", 0)
            assert False
        except asyncpg.DivisionByZeroError:
            pass
    await c.reset()
    await c.close()
async def main():
    c = await asyncpg.connect(host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), user="postgres", database="postgres", ssl=False)
    await c.execute("CREATE TABLE items (id int, name text)")
    await asyncio.gather(*(use(i) for i in range(8)))
    assert await c.fetchval("SELECT count(*) FROM items") == 240
    await c.close()
asyncio.run(main())
`)
}

const javaProgram = `
import java.sql.*;
import java.util.*;

public class Pooled {
    static void check(boolean b, String what) { if (!b) throw new RuntimeException(what); }

    static void use(String url, int id) throws SQLException {
        try (Connection c = DriverManager.getConnection(url, "postgres", "")) {
            PreparedStatement q = c.prepareStatement("SELECT ?::int + 1");
            for (int i = 0; i < 12; i++) { // prepared on the server from the fifth execution on
                q.setInt(1, id * 100 + i);
                try (ResultSet r = q.executeQuery()) { check(r.next() && r.getInt(1) == id * 100 + i + 1, "query"); }
            }
            c.setAutoCommit(false);
            PreparedStatement ins = c.prepareStatement("INSERT INTO items VALUES (?, ?)");
            for (int b = 0; b < 8; b++) {
                for (int i = 0; i < 10; i++) { ins.setInt(1, id); ins.setString(2, "b" + b); ins.addBatch(); }
                check(ins.executeBatch().length == 10, "batch");
                if (b % 2 == 0) c.commit(); else c.rollback();
                try (Statement s = c.createStatement()) { s.executeQuery("SELECT 1/0"); check(false, "no error"); }
                catch (SQLException e) { check(e.getSQLState().equals("22012"), "" + e); }
                c.rollback();
            }
            q = c.prepareStatement("SELECT g FROM generate_series(1, 100) g");
            q.setFetchSize(7); // a portal in several pieces
            int n = 0;
            try (ResultSet r = q.executeQuery()) { while (r.next()) n += r.getInt(1); }
            c.commit();
            check(n == 5050, "cursor");
        }
    }

    public static void main(String[] args) throws Exception {
        String url = args[0];
        try (Connection c = DriverManager.getConnection(url, "postgres", ""); Statement s = c.createStatement()) {
            s.execute("CREATE TABLE items (id int, name text)");
            List<Thread> threads = new ArrayList<>();
            List<Throwable> errors = Collections.synchronizedList(new ArrayList<>());
            for (int i = 0; i < 6; i++) {
                int id = i;
                Thread t = new Thread(() -> { try { use(url, id); } catch (Throwable e) { errors.add(e); } });
                t.start();
                threads.add(t);
            }
            for (Thread t : threads) t.join();
            for (Throwable e : errors) throw new RuntimeException(e);
            try (ResultSet r = s.executeQuery("SELECT count(*) FROM items")) { check(r.next() && r.getInt(1) == 240, "rows " + r.getInt(1)); }
        }
    }
}
`

func TestPooledJDBC(t *testing.T) {
	t.Parallel()
	driver := "/usr/share/java/postgresql.jar"
	if _, err := os.Stat(driver); err != nil {
		driver = "/usr/share/java/postgresql-jdbc.jar"
	}
	if _, err := os.Stat(driver); err != nil {
		t.Fatalf("the JDBC driver is missing; .ci/setup test installs it: %v", err)
	}
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, nil)
	dir := t.TempDir()
	pool.WriteFile(t, filepath.Join(dir, "Pooled.java"), javaProgram, 0o644)
	ctx, cancel := context.WithTimeout(t.Context(), 4*pool.Generous)
	defer cancel()
	pool.Succeed(t, exec.CommandContext(ctx, "javac", "-d", dir, filepath.Join(dir, "Pooled.java")))
	url := fmt.Sprintf("jdbc:postgresql://127.0.0.1:%d/postgres?sslmode=disable", p.Port)
	pool.Succeed(t, exec.CommandContext(ctx, "java", "-Xmx128m", "-cp", driver+":"+dir, "Pooled", url))
}
