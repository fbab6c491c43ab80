package transaction

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// heard sends messages and returns the answers up to ReadyForQuery, with the types of
// columns.
func heard(t testing.TB, c *pgtest.Client, msgs ...pgproto3.FrontendMessage) string {
	t.Helper()
	pool.Send(t, c, msgs...)
	ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
	defer cancel()
	var all []string
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", all, err)
		}
		word := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		switch m := m.(type) {
		case *pgproto3.ParameterDescription:
			word = fmt.Sprint("takes", m.ParameterOIDs)
		case *pgproto3.RowDescription:
			word = "returns"
			for _, f := range m.Fields {
				word += fmt.Sprintf(" %s/%d", f.Name, f.DataTypeOID)
			}
		case *pgproto3.DataRow:
			word = fmt.Sprintf("row%q", m.Values)
		case *pgproto3.CommandComplete:
			word = string(m.CommandTag)
		case *pgproto3.ErrorResponse:
			word = "error " + m.Code + " " + m.Message + " " + m.Routine
		case *pgproto3.ReadyForQuery:
			return strings.Join(append(all, string(m.TxStatus)), "; ")
		}
		all = append(all, word)
	}
}

// change is a change of the schema, and a statement that it affects, with parameter
// values.
type change struct {
	make, alter, text string
	args              []string
}

var changes = map[string]change{
	"type of a parameter":       {"CREATE TABLE x (id int, v text)", "ALTER TABLE x ALTER id TYPE bigint", "INSERT INTO x (id, v) VALUES ($1, $2)", []string{"5000000000", "a"}},
	"type of a column":          {"CREATE TABLE x (v int); INSERT INTO x VALUES (1)", "ALTER TABLE x ALTER v TYPE text", "SELECT * FROM x", nil},
	"added column":              {"CREATE TABLE x (v int); INSERT INTO x VALUES (1)", "ALTER TABLE x ADD w int DEFAULT 7", "SELECT * FROM x", nil},
	"dropped column":            {"CREATE TABLE x (v int, w int); INSERT INTO x VALUES (1, 2)", "ALTER TABLE x DROP w", "SELECT * FROM x", nil},
	"dropped column, by name":   {"CREATE TABLE x (v int, w int); INSERT INTO x VALUES (1, 2)", "ALTER TABLE x DROP w", "SELECT w FROM x", nil},
	"renamed column":            {"CREATE TABLE x (v int); INSERT INTO x VALUES (1)", "ALTER TABLE x RENAME v TO w", "SELECT * FROM x", nil},
	"type, dropped and created": {"CREATE TYPE e AS ENUM ('a'); CREATE TABLE x (v e)", "DROP TABLE x; DROP TYPE e; CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE x (v e)", "INSERT INTO x VALUES ($1)", []string{"b"}},
	"cast to that type":         {"CREATE TYPE e AS ENUM ('a')", "DROP TYPE e; CREATE TYPE e AS ENUM ('a', 'b')", "SELECT $1::e", []string{"b"}},
	"table made again":          {"CREATE TABLE x (v int); INSERT INTO x VALUES (1)", "DROP TABLE x; CREATE TABLE x (v int); INSERT INTO x VALUES (2)", "SELECT * FROM x", nil},
	"dropped table":             {"CREATE TABLE x (v int)", "DROP TABLE x", "SELECT * FROM x", nil},
	"function made again":       {"CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION f; CREATE FUNCTION f(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 2'", "SELECT f($1)", []string{"5"}},
}

// inDatabase makes a database for a case, and returns a function that connects to it,
// through the pool or directly.
func inDatabase(t testing.TB, c *pgtest.Cluster, p *pool.Pool, name string) func(through bool) *pgtest.Client {
	t.Helper()
	pool.AskNode(t, c.Primary(), "CREATE DATABASE "+name)
	return func(through bool) *pgtest.Client {
		t.Helper()
		if through {
			return p.ConnectAs(p.Config("postgres", "", name))
		}
		cl, err := pgtest.Connect(t.Context(), c.Primary().Config("postgres", "", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cl.Close() })
		return cl
	}
}

// A client that prepares a statement after a change of the schema sees the new schema,
// as it would without a pool, whichever connection it gets and whoever has made the
// change.
func TestPooledParseSeesThePresentSchema(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 40, nil)
	n := 0
	for name, ch := range changes {
		for _, through := range []bool{true, false} {
			n++
			t.Run(fmt.Sprintf("%s/altered through the pool: %v", name, through), func(t *testing.T) {
				connect := inDatabase(t, c, p, fmt.Sprint("parse", n))
				alters := connect(through)
				pool.MustQuery(t, alters, ch.make)
				ask := []pgproto3.FrontendMessage{
					pool.ParseMsg("s", ch.text), &pgproto3.Describe{ObjectType: 'S', Name: "s"}, pool.SyncMsg,
				}
				old := []*pgtest.Client{connect(true), connect(true), connect(true)}
				for _, cl := range old { // every connection of the pool has the statement
					pool.MustQuery(t, cl, "BEGIN")
					heard(t, cl, ask...)
				}
				for _, cl := range old {
					pool.MustQuery(t, cl, "COMMIT")
				}
				pool.MustQuery(t, alters, ch.alter)
				run := []pgproto3.FrontendMessage{pool.BindMsg("s", ch.args...), pool.ExecuteMsg, pool.SyncMsg}
				direct := connect(false)
				want := heard(t, direct, ask...) + " | " + heard(t, direct, run...)
				for _, cl := range append(old, connect(true)) {
					pool.MustQuery(t, cl, "BEGIN") // each holds a connection of its own
				}
				for i, cl := range append(old, connect(true), connect(true)) {
					pool.MustQuery(t, cl, "ROLLBACK")
					heard(t, cl, &pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.SyncMsg)
					if got := heard(t, cl, ask...) + " | " + heard(t, cl, run...); got != want {
						t.Errorf("client %d is told %s\nPostgreSQL says %s", i, got, want)
					}
				}
			})
		}
	}
}

// A statement prepared before a change of the schema behaves as it would without a
// pool, on connections that have it and on others.
func TestPooledStatementPreparedBeforeAChangeBehavesAsInPostgreSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 40, nil)
	n := 0
	for name, ch := range changes {
		n++
		t.Run(name, func(t *testing.T) {
			connect := inDatabase(t, c, p, fmt.Sprint("before", n))
			direct, pooled, holder := connect(false), connect(true), connect(true)
			pool.MustQuery(t, direct, ch.make)
			for _, cl := range []*pgtest.Client{direct, pooled} {
				pool.PrepareStatement(t, cl, "s", ch.text)
			}
			pool.MustQuery(t, direct, ch.alter)
			for i, say := range [][]pgproto3.FrontendMessage{
				{&pgproto3.Describe{ObjectType: 'S', Name: "s"}, pool.SyncMsg},
				{pool.BindMsg("s", ch.args...), &pgproto3.Describe{ObjectType: 'P'}, pool.ExecuteMsg, pool.SyncMsg},
				{pool.BindMsg("s", ch.args...), pool.ExecuteMsg, pool.SyncMsg, &pgproto3.Query{String: "SELECT 'after it'"}},
				{&pgproto3.Close{ObjectType: 'S', Name: "s"}, pool.ParseMsg("s", ch.text), pool.BindMsg("s", ch.args...), pool.ExecuteMsg, pool.SyncMsg},
			} {
				want := heard(t, direct, say...)
				for _, other := range []bool{false, true} {
					if other {
						if i == 3 {
							break
						}
						pool.MustQuery(t, holder, "BEGIN") // holds the connection that was used last
					}
					if got := heard(t, pooled, say...); !sameAnswer(got, want) {
						t.Errorf("step %d, on another connection: %v: told %s\nPostgreSQL says %s", i, other, got, want)
					}
					if i == 2 {
						heard(t, pooled)
					}
				}
				if i == 2 {
					heard(t, direct)
				}
				pool.MustQuery(t, holder, "ROLLBACK")
			}
		})
	}
}

// sameAnswer compares answers and allows two differences. On a connection that had to
// parse the statement, an error comes without the description before it; and a missing
// type already causes an error when the statement is described.
func sameAnswer(got, want string) bool {
	if got == want {
		return true
	}
	if i := strings.Index(want, "error"); strings.HasPrefix(want, "takes") && i > 0 {
		want = want[i:]
	}
	return got == want || strings.HasPrefix(got, "error XX000 cache lookup failed for type") &&
		(strings.HasPrefix(want, "error XX000 cache lookup failed for type") || strings.HasSuffix(want, "; NoData; I"))
}

func TestPooledPgxRecoversFromSchemaChanges(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 3, nil)
	for where, url := range map[string]string{
		"direct": fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", c.Primary().Port),
		"pooled": fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.Port),
	} {
		t.Run(where, func(t *testing.T) {
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe} {
				changeUnderPgx(t, url, mode, fmt.Sprintf("%s_%d", where, mode))
			}
		})
	}
}

// changeUnderPgx alters a table while pgx has a statement on it in its cache: the next
// use fails once, and the one after that works.
func changeUnderPgx(t *testing.T, url string, mode pgx.QueryExecMode, table string) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
	ctx := pool.Within(t)
	conns := make([]*pgx.Conn, 3)
	for i := range conns {
		if conns[i], err = pgx.ConnectConfig(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conns[i].Close(ctx) }()
	}
	user, others := conns[0], conns[1:]
	if _, err := others[0].Exec(ctx, "CREATE TABLE "+table+" (id int); INSERT INTO "+table+" VALUES (42)"); err != nil {
		t.Fatal(err)
	}
	for _, alter := range []string{"ADD more int DEFAULT 7", "ALTER id TYPE bigint"} {
		sql := "SELECT * FROM " + table
		read := func() (columns int, err error) {
			rows, err := user.Query(ctx, sql)
			if err != nil {
				return 0, err
			}
			defer rows.Close()
			for rows.Next() {
				values, err := rows.Values()
				if err != nil {
					return 0, err
				}
				columns = len(values)
			}
			return columns, rows.Err()
		}
		before, err := read()
		if err != nil {
			t.Fatalf("%s: before: %v", alter, err)
		}
		// As long as other connections are free, hold one in a transaction: the statement
		// may be on it.
		held, err := others[1].Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := others[0].Exec(ctx, "ALTER TABLE "+table+" "+alter); err != nil {
			t.Fatal(err)
		}
		var pgErr *pgconn.PgError
		_, err = read()
		if mode == pgx.QueryExecModeCacheStatement && (!errors.As(err, &pgErr) || pgErr.Code != "0A000") {
			t.Errorf("%s: %v instead of 0A000", alter, err)
		}
		after, err := read()
		if err != nil {
			t.Errorf("%s: after the error: %v", alter, err)
		}
		if strings.HasPrefix(alter, "ADD") && after != before+1 {
			t.Errorf("%s: %d columns, before %d", alter, after, before)
		}
		if err := held.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPooledAsyncpgRecoversFromSchemaChanges(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 3, nil)
	python(t, p, fmt.Sprintf(`
import asyncio, os, asyncpg
async def connect(port):
    return await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False)
async def change(port, name):
    c, other, holder = await connect(port), await connect(port), await connect(port)
    await other.execute(f"CREATE TABLE {name} (a int, b text); INSERT INTO {name} VALUES (1, 'x')")
    sql = f"SELECT * FROM {name}"
    assert len(await c.fetchrow(sql)) == 2
    await holder.execute("BEGIN")
    assert len(await c.fetchrow(sql)) == 2
    await holder.execute("COMMIT")
    # asyncpg prepares again by itself outside of a transaction
    await other.execute(f"ALTER TABLE {name} ADD c int")
    assert len(await c.fetchrow(sql)) == 3
    await holder.execute("BEGIN")
    assert len(await c.fetchrow(sql)) == 3
    await holder.execute("COMMIT")
    # and fails inside of one, once
    await other.execute(f"ALTER TABLE {name} DROP c")
    try:
        async with c.transaction():
            await c.fetchrow(sql)
        raise SystemExit(f"{name}: no error")
    except asyncpg.InvalidCachedStatementError:
        pass
    async with c.transaction():
        assert len(await c.fetchrow(sql)) == 2
    # a parameter of another type
    insert = f"INSERT INTO {name} (a) VALUES ($1)"
    await c.execute(insert, 2)
    await other.execute(f"ALTER TABLE {name} ALTER a TYPE bigint")
    await c.execute(insert, 3)
    fresh = await connect(port)
    await fresh.execute(insert, 5000000000)
    await c.reset()
    # a type that is made again
    await other.execute(f"CREATE TYPE {name}_e AS ENUM ('a'); CREATE TABLE {name}_t (v {name}_e)")
    insert = f"INSERT INTO {name}_t VALUES ($1)"
    await c.execute(insert, "a")
    await other.execute(f"DROP TABLE {name}_t; DROP TYPE {name}_e; CREATE TYPE {name}_e AS ENUM ('a', 'b'); CREATE TABLE {name}_t (v {name}_e)")
    fresh2 = await connect(port)
    for _ in range(3):
        await fresh2.execute(insert, "b")
    for x in (c, other, holder, fresh, fresh2):
        await x.close()
async def main():
    await change(%d, "direct")
    await change(%d, "pooled")
asyncio.run(main())
`, c.Primary().Port, p.Port))
}
