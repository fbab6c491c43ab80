package failover

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// terminal is a psql whose input and output the test has.
type terminal struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startTerminal(t *testing.T, p *pool.Pool) *terminal {
	t.Helper()
	cmd := p.Tool(t.Context(), "psql", "-X", "-A", "-t", "-q", "postgres", "postgres")
	in, err := cmd.StdinPipe()
	pool.Must(t, err)
	out, err := cmd.StdoutPipe()
	pool.Must(t, err)
	pool.Must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return &terminal{t, in, bufio.NewScanner(out)}
}

// ask runs SQL that returns one line.
func (x *terminal) ask(sql string) string {
	x.t.Helper()
	if _, err := fmt.Fprintln(x.in, sql); err != nil {
		x.t.Fatalf("psql, %s: %v", sql, err)
	}
	if !x.out.Scan() {
		x.t.Fatalf("psql ended at %s", sql)
	}
	return x.out.Text()
}

// keptSettings is what every client of the test below has set, as one row.
const keptSettings = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('app.tenant'), current_setting('statement_timeout')," +
	" current_setting('TimeZone'), current_user, current_setting('search_path'))"

// setUp makes the settings: inside and outside of blocks, kept and undone.
var setUp = []string{
	"SET work_mem = '7MB'", "SET app.tenant TO 'first'", "BEGIN", "SET app.tenant TO 'second'", "COMMIT", "BEGIN", "SET app.tenant TO 'never'", "ROLLBACK",
	"SET statement_timeout = 1", "RESET statement_timeout", "BEGIN", "SET LOCAL work_mem = '9MB'", "COMMIT", "SET TimeZone TO 'Asia/Tokyo'",
	"SET search_path TO pg_catalog, \"$user\"", "SET ROLE someone",
}

// wantSettings is what keptSettings returns then. statement_timeout is of the start-up packet.
const wantSettings = `7MB second 1h Asia/Tokyo someone pg_catalog, "$user"`

func TestKeptSessionsOutliveAFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pool.AskNode(t, c.Primary(), "CREATE ROLE someone; CREATE TABLE t(i int)")
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "session", "failover_keep_sessions": "on"}})
	s.Opened("n1")
	started := pool.WithParam(s.Pool.Config("postgres", "", "postgres"), "statement_timeout", "1h")
	idle, block, failed, running := s.Pool.ConnectAs(started), s.Pool.ConnectAs(started), s.Pool.ConnectAs(started), s.Pool.ConnectAs(started)
	driver, err := pgx.Connect(pool.Within(t), fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&statement_timeout=1h", s.Pool.Port))
	pool.Must(t, err)
	defer driver.Close(t.Context())
	psql := startTerminal(t, s.Pool)
	for _, sql := range setUp {
		for _, client := range []*pgtest.Client{idle, block, failed, running} {
			pool.MustQuery(t, client, sql)
		}
		_, err := driver.Exec(pool.Within(t), sql)
		pool.Must(t, err)
		psql.ask(sql + "; SELECT 1;")
	}
	pool.PrepareStatement(t, idle, "kept", "SELECT 7")
	pool.MustQuery(t, block, "BEGIN")
	pool.MustQuery(t, block, "SET app.tenant TO 'lost'")
	pool.MustQuery(t, failed, "BEGIN")
	refusedWith(t, failed, "SELECT 1/0", "22012")
	pool.WaitSleeping(t, c.Nodes[0], running)
	pool.Must(t, c.Nodes[0].Kill())

	if _, err := running.ReadResult(pool.Within(t)); pgtest.Code(err) != "08007" || strings.Contains(err.Error(), "FATAL") {
		t.Errorf("a client with a statement under way got %v, want ERROR 08007", err)
	}
	refusedWith(t, block, "SELECT 1", "08006")
	s.Opened("n2")
	for name, client := range map[string]*pgtest.Client{"block": block, "failed": failed} {
		refusedWith(t, client, "SELECT 1", "25P02")
		if got := tagOf(t, client, "COMMIT"); got != "ROLLBACK" {
			t.Errorf("COMMIT of the %s block answered %s", name, got)
		}
	}
	if got := pool.RunPrepared(t, idle, "kept"); got != "7" {
		t.Errorf("the prepared statement returned %s", got)
	}
	for name, client := range map[string]*pgtest.Client{"idle": idle, "block": block, "failed": failed, "running": running} {
		if got := pool.NodeOf(t, client); got != "n2" {
			t.Errorf("client %s is on %s", name, got)
		}
		if got := pool.MustQuery(t, client, keptSettings)[0][0]; got != wantSettings {
			t.Errorf("client %s has %s, want %s", name, got, wantSettings)
		}
	}
	var got string
	pool.Must(t, driver.QueryRow(pool.Within(t), keptSettings).Scan(&got))
	if got != wantSettings {
		t.Errorf("pgx has %s, want %s", got, wantSettings)
	}
	if got, want := psql.ask(keptSettings+";"), strings.Replace(wantSettings, "1h", "0", 1); got != want {
		t.Errorf("psql has %s, want %s", got, want)
	}
	if got := pool.MustQuery(t, idle, "RESET ALL; SELECT 1"); len(got) == 0 {
		t.Error("RESET ALL failed")
	}
	if got := pool.ShowSetting(t, idle, "statement_timeout"); got != "1h" {
		t.Errorf("after RESET ALL statement_timeout is %s, want that of the login", got)
	}
}
