package client

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestPsqlWorksThroughThePool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	for range 3 {
		if out := pool.Succeed(t, p.PSQL(t.Context(), "SELECT 6*7")); out != "42\n" {
			t.Errorf("psql says %q", out)
		}
		out := pool.Succeed(t, p.PSQL(t.Context(), `\copy (SELECT g FROM generate_series(1, 1000) g) TO STDOUT`))
		if strings.Count(out, "\n") != 1000 {
			t.Errorf("\\copy gives %d lines", strings.Count(out, "\n"))
		}
	}
	cmd := p.PSQL(t.Context(), "SELECT * FROM nowhere")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `relation "nowhere" does not exist`) {
		t.Errorf("psql ends with %v\n%s", err, out)
	}
}

func TestPgbenchWorksThroughThePool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "6"}})
	pool.Succeed(t, p.Tool(t.Context(), "pgbench", "-i", "-q", "-s", "1"))
	for _, args := range [][]string{
		{"-S", "-M", "simple"},
		{"-S", "-M", "extended"},
		{"-S", "-M", "prepared"},
		{"-M", "prepared"},
		{"-M", "simple"},
		{"-S", "-C"},
		{"-C", "-M", "prepared"},
	} {
		out := pool.Succeed(t, p.Tool(t.Context(), "pgbench", append(args, "-n", "-c", "6", "-j", "2", "-t", "20")...))
		if !strings.Contains(out, "120/120") || !strings.Contains(out, "number of failed transactions: 0") {
			t.Errorf("pgbench %v:\n%s", args, out)
		}
	}
}

// More clients than places: each waits its turn, none fails. A thread of pgbench
// waits in connect, so each client has one.
func TestPgbenchWithMoreClientsThanPlaces(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: map[string]string{"max_connections": "3"}})
	pool.Succeed(t, p.Tool(t.Context(), "pgbench", "-i", "-q", "-s", "1"))
	out := pool.Succeed(t, p.Tool(t.Context(), "pgbench", "-S", "-C", "-n", "-c", "12", "-j", "12", "-t", "10"))
	if !strings.Contains(out, "120/120") {
		t.Errorf("pgbench:\n%s", out)
	}
}

// psycopg is a program that uses what psycopg2 offers.
const psycopg = `
import sys, io, psycopg2, psycopg2.errors, psycopg2.extensions
for i in range(3):
    c = psycopg2.connect("application_name=driver", sslmode="prefer")
    cur = c.cursor()
    cur.execute("CREATE TEMP TABLE t(i int, s text)")
    cur.executemany("INSERT INTO t VALUES (%s, %s)", [(n, "x" * n) for n in range(50)])
    cur.copy_expert("COPY t FROM STDIN", io.StringIO("100\ta\n101\tb\n"))
    out = io.StringIO()
    cur.copy_expert("COPY t TO STDOUT", out)
    assert out.getvalue().count("\n") == 52, out.getvalue()
    try:
        cur.execute("SELECT 1/0")
        raise SystemExit("no error")
    except psycopg2.errors.DivisionByZero:
        c.rollback()
    cur.execute("SHOW application_name")
    assert cur.fetchone()[0] == "driver"
    cur = c.cursor("named")
    cur.execute("SELECT g FROM generate_series(1, 10000) g")
    assert sum(r[0] for r in cur) == 50005000
    c.commit()
    assert c.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    c.close()
print("done")
`

func TestPsycopg2WorksThroughThePool(t *testing.T) {
	t.Parallel()
	python := ""
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import psycopg2").Run() == nil {
			python = name
			break
		}
	}
	if python == "" {
		t.Fatal("no python3 with psycopg2: run .ci/setup test")
	}
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	cmd := exec.CommandContext(t.Context(), python, "-c", psycopg)
	cmd.Env = p.Tool(t.Context(), "psql").Env
	if out := pool.Succeed(t, cmd); !strings.HasSuffix(out, "done\n") {
		t.Errorf("psycopg2 says %s", out)
	}
}
