package leftovers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// remains are the views that show what a session has left.
const remains = `SELECT 'setting ' || name || ' ' || setting FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction\_%'
	UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements
	UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
	UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
	UNION ALL SELECT 'temporary schema' WHERE pg_my_temp_schema() <> 0
	UNION ALL SELECT 'channel ' || c FROM pg_listening_channels() c
	ORDER BY 1`

// session is a client whose texts are read.
type session struct {
	*pgtest.Client
	reader *Reader
}

func connect(t *testing.T, node *pgtest.Node) *session {
	t.Helper()
	c, err := node.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &session{c, reader(t)}
}

// ask runs a text that succeeds and returns its rows.
func (s *session) ask(t *testing.T, sql string) string {
	t.Helper()
	res, err := s.run(t, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var lines []string
	for _, row := range res.Rows {
		lines = append(lines, strings.Join(row, "|"))
	}
	return strings.Join(lines, "\n")
}

func (s *session) run(t *testing.T, sql string) (*pgtest.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return s.Query(ctx, sql)
}

// started is the server of all tests.
var started = sync.OnceValues(func() (*pgtest.Cluster, error) {
	return pgtest.Start(context.Background(), pgtest.Options{})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if c, err := started(); err == nil {
		if err := c.Close(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

func server(t *testing.T) *pgtest.Node {
	t.Helper()
	c, err := started()
	if err != nil {
		t.Fatal(err)
	}
	return c.Nodes[0]
}

// objects are made once for all tests.
var objects sync.Once

func setUp(t *testing.T) *pgtest.Node {
	t.Helper()
	node := server(t)
	objects.Do(func() {
		connect(t, node).ask(t, `CREATE TABLE things (i int, t text); CREATE TABLE uniques (i int UNIQUE, t text);
		CREATE TABLE t2b (x int PRIMARY KEY); CREATE SEQUENCE numbers; CREATE SCHEMA a;
		CREATE ROLE joe`)
	})
	return node
}

// TestNothingRemainsOfWhatLeavesNothing asks the server.
func TestNothingRemainsOfWhatLeavesNothing(t *testing.T) {
	s := connect(t, setUp(t))
	for _, sql := range nothing {
		if _, err := s.run(t, sql); err != nil {
			t.Errorf("%s fails, so it shows nothing: %v", sql, err)
		}
		if s.Status != 'I' {
			continue // until the transaction has ended
		}
		if left := s.ask(t, remains); left != "" {
			t.Errorf("%s leaves %s", sql, left)
			s.ask(t, "DISCARD ALL")
		}
	}
}

// TestTheServerShowsWhatRemains: the views of the test before aren't blind.
func TestTheServerShowsWhatRemains(t *testing.T) {
	s := connect(t, setUp(t))
	for _, sql := range []string{
		"SET work_mem = '8MB'", "SELECT set_config('work_mem', '8MB', false)", "PREPARE x AS SELECT 1",
		"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "SELECT pg_advisory_lock(1)", "LISTEN x",
		"SELECT 1 INTO TEMP x",
	} {
		left := s.reader.Read([]byte(sql))
		if left.Mark.Why == "" && len(left.Changes) == 0 {
			t.Errorf("%s is read as if it left nothing", sql)
		}
		if s.ask(t, sql); s.ask(t, remains) == "" {
			t.Errorf("%s leaves nothing that the server shows", sql)
		}
		s.ask(t, "DISCARD ALL")
		if sql == "SELECT 1 INTO TEMP x" {
			break // a temporary schema stays
		}
	}
}

// TestReplayedSettingsAreThoseOfTheServer: what is read of a SET makes the same setting in
// another session, and a SET LOCAL makes none.
func TestReplayedSettingsAreThoseOfTheServer(t *testing.T) {
	const shown = `SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction\_%'
		UNION ALL SELECT 'user', current_user || ' ' || session_user
		UNION ALL SELECT 'app.x', coalesce(current_setting('app.x', true), '') ORDER BY 1`
	node := setUp(t)
	for _, sql := range []string{
		"SET work_mem = '1MB'", "SET sort_mem = 3072", "SET SESSION work_mem TO 4096; RESET work_mem", "SET work_mem TO DEFAULT",
		"SET app.x = 'it''s' -- a comment\n", "SET search_path = a, -- a comment\n public", `SET "app"."x" TO $$y$$`, "SET LOCAL app.x = 'z'", "SET session.x = 1; SET app.x = on",
		"SET TIME ZONE 'Asia/Tokyo'", "SET TIME ZONE -7", "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "SET TIME ZONE LOCAL",
		"SET search_path = a, \"$user\"", "SET SCHEMA 'a'", "SET search_path = ''", "SET NAMES 'LATIN1'", "SET NAMES", "SET XML OPTION DOCUMENT",
		"SET ROLE joe", "SET role TO joe", "SET ROLE NONE", "SET ROLE joe; RESET ROLE", "SET SESSION AUTHORIZATION joe",
		"SET SESSION AUTHORIZATION joe; RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION joe; SET SESSION AUTHORIZATION DEFAULT",
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE",
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ UNCOMMITTED READ WRITE, DEFERRABLE",
		"SET datestyle = 'German'; SET intervalstyle = iso_8601; RESET ALL; SET extra_float_digits = -1",
	} {
		s, moved := connect(t, node), connect(t, node)
		s.ask(t, sql)
		left := s.reader.Read([]byte(sql))
		if left.Mark.Why != "" || len(left.Changes) == 0 {
			t.Errorf("%s: %+v", sql, left)
		}
		for _, c := range left.Changes {
			switch c.Kind {
			case Set, Reset:
				moved.ask(t, c.SQL)
			case ResetAll:
				moved.ask(t, "RESET ALL")
			}
		}
		if was, is := s.ask(t, shown), moved.ask(t, shown); was != is {
			t.Errorf("%s: the settings are\n%s\nand with %v\n%s", sql, was, left.Changes, is)
		}
		_, _ = s.Close(), moved.Close()
	}
}
