package failover

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	" current_setting('TimeZone'), current_user, current_setting('search_path')," +
	" coalesce(current_setting('app.job', true), 'unknown'))"

// setUp makes the settings: inside and outside of blocks, kept and undone.
var setUp = []string{
	"SET work_mem = '7MB'", "SET app.tenant TO 'first'", "BEGIN", "SET app.tenant TO 'second'", "COMMIT", "BEGIN", "SET app.tenant TO 'never'", "ROLLBACK",
	"SET statement_timeout = 1", "RESET statement_timeout", "BEGIN", "SET LOCAL work_mem = '9MB'", "SET LOCAL app.job = 'x'", "COMMIT", "SET TimeZone TO 'Asia/Tokyo'",
	"SET search_path TO pg_catalog, \"$user\"", "SET ROLE someone",
}

// wantSettings is what keptSettings returns then. statement_timeout is of the start-up packet, and app.job is known
// and empty.
const wantSettings = `7MB second 1h Asia/Tokyo someone pg_catalog, "$user" `

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

// hostile are what clients do that leaves something, each with what the client is told in the end, and
// a few that leave nothing that is unknown.
var hostile = map[string]string{
	"SELECT lower('A'), count(*) FROM pg_class":           "",
	"SET app.tenant = 'x'":                                "",
	"SELECT app.total()":                                  "",
	"BEGIN; SET LOCAL work_mem = '9MB'; COMMIT":           "",
	"SELECT pg_advisory_lock(1); DISCARD ALL":             "function pg_advisory_lock", // an error: DISCARD ALL is alone
	"SELECT app.hidden()":                                 "function app.hidden",
	"SELECT hidden()":                                     "function hidden",
	"SELECT set_config('app.tenant', 'x', false)":         "function set_config",
	"SELECT pg_advisory_lock(2)":                          "function pg_advisory_lock",
	"CREATE TEMP TABLE mine (i int)":                      "CREATE TEMP",
	"SELECT 1 AS i INTO TEMP mine":                        "SELECT INTO TEMP",
	"CREATE TABLE pg_temp.mine (i int)":                   "pg_temp",
	"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; END": "DECLARE ... WITH HOLD",
	"LISTEN x":              "LISTEN",
	"PREPARE x AS SELECT 1": "PREPARE",
	"DO $$ BEGIN PERFORM app.hidden(); END $$":             "DO",
	"CALL app.work()":                                      "CALL",
	"SELECT setseed(0.5)":                                  "function setseed",
	"SET client_encoding = 'SJIS'":                         "a client_encoding with ASCII bytes inside other characters",
	"SET search_path = app, pg_catalog; SELECT lower('A')": "a search_path with a schema before pg_catalog",
	"SET app.tenant = 'a\\b'":                              "SET with a backslash",
}

// forgets are what ends with DISCARD ALL, and setseed, which doesn't.
var forgets = map[string]string{"SELECT pg_advisory_lock(3)": "", "LISTEN y": "", "SELECT setseed(0.1)": "function setseed"}

// hidden is run by a trigger, so that no text of the client shows it: what the server shows afterwards.
var hidden = map[string]string{
	"SELECT pg_advisory_lock(4)":                      "an advisory lock",
	"CREATE TEMP TABLE theirs (i int)":                "a temporary table",
	"LISTEN z":                                        "LISTEN",
	"PREPARE z AS SELECT 1":                           "a statement that PREPARE has made",
	"DECLARE z CURSOR WITH HOLD FOR SELECT 1":         "a cursor WITH HOLD",
	"SELECT set_config('Work_Mem', '9MB', false)":     "a value of work_mem",
	"SELECT set_config('work_mem', '9MB', true)":      "",
	"SELECT pg_advisory_xact_lock(5)":                 "",
	"SELECT set_config('DateStyle', 'German', false)": "", // the server reports it
}

// hiddenSessions returns clients with what no text shows, and why they end, once the server was asked about each.
func hiddenSessions(t *testing.T, s *pool.Scene) map[*pgtest.Client]string {
	t.Helper()
	wants := make(map[*pgtest.Client]string)
	for sql, want := range hidden {
		client := s.Pool.ConnectAs(s.Pool.Config("postgres", "", "postgres"))
		pool.MustQuery(t, client, "SET search_path TO app")
		pool.MustQuery(t, client, "SET SESSION CHARACTERISTICS AS TRANSACTION DEFERRABLE")
		pool.MustQuery(t, client, "INSERT INTO w VALUES ($$"+sql+"$$)")
		wants[client] = want
	}
	// Each idle session is asked about in turn, and its last query is the end of that.
	pool.WaitNode(t, s.Cluster.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query = 'COMMIT'", strconv.Itoa(len(wants)))
	return wants
}

func TestSessionsWithSomethingUnknownEnd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pool.AskNode(t, c.Primary(), `CREATE SCHEMA app; CREATE TABLE app.t (i int);
		CREATE FUNCTION app.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.t';
		CREATE FUNCTION app.hidden() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.tenant', 'x', false)$$;
		CREATE FUNCTION hidden() RETURNS text LANGUAGE sql AS 'SELECT app.hidden()';
		CREATE PROCEDURE app.work() LANGUAGE sql AS 'SELECT app.hidden()';
		CREATE TABLE app.w (what text);
		CREATE FUNCTION app.run() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE NEW.what; RETURN NEW; END';
		CREATE TRIGGER runs BEFORE INSERT ON app.w FOR EACH ROW EXECUTE FUNCTION app.run()`)
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{
		"pipeline": "session", "failover_keep_sessions": "known", "failover_keep_functions": "app.total",
		"max_connections": "60",
	}})
	s.Opened("n1")
	wants := hiddenSessions(t, s)
	for sql, want := range hostile {
		client := s.Pool.ConnectAs(s.Pool.Config("postgres", "", "postgres"))
		if _, err := client.Query(pool.Within(t), sql); err != nil && !strings.Contains(sql, "DISCARD ALL") {
			t.Fatalf("%s: %v", sql, err)
		}
		wants[client] = want
	}
	for sql, want := range forgets {
		client := s.Pool.ConnectAs(s.Pool.Config("postgres", "", "postgres"))
		pool.MustQuery(t, client, sql)
		pool.MustQuery(t, client, "DISCARD ALL")
		wants[client] = want
	}
	asked := pool.WithParam(s.Pool.Config("postgres", "", "postgres"), "search_path", "app, pg_catalog")
	wants[s.Pool.ConnectAs(asked)] = "a search_path with a schema before pg_catalog"
	for client := range wants {
		pool.MustQuery(t, client, "SELECT 1") // each has its backend
	}
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	for client, want := range wants {
		_, err := client.Query(pool.Within(t), "SELECT 1")
		if want == "" {
			if err != nil {
				t.Errorf("a session that leaves nothing unknown ended with %v", err)
			}
			continue
		}
		if e, ok := errors.AsType[*pgtest.ServerError](err); !ok || e.Code != "57P01" || !strings.Contains(e.Detail, "because of "+want) {
			t.Errorf("a session got %v; want 57P01 because of %s", err, want)
		}
	}
}
