package leftovers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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

// session is a client with what its texts have left.
type session struct {
	*pgtest.Client
	reader   *Reader
	settings Settings
}

func connect(t *testing.T, node *pgtest.Node) *session {
	t.Helper()
	c, err := node.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &session{Client: c, reader: reader(t)}
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

func setUp(t *testing.T) *pgtest.Node {
	t.Helper()
	node := pgtest.New(t, pgtest.Options{}).Nodes[0]
	connect(t, node).ask(t, `CREATE TABLE things (i int, t text); CREATE TABLE uniques (i int UNIQUE, t text);
		CREATE TABLE t2b (x int PRIMARY KEY); CREATE SEQUENCE numbers; CREATE SCHEMA a;
		CREATE ROLE joe SUPERUSER; CREATE ROLE ann SUPERUSER`)
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

// play runs a text, and applies its changes as far as the server says that they happened.
func (s *session) play(t *testing.T, sql string) {
	t.Helper()
	left := s.reader.Read([]byte(sql))
	if left.Mark.Why != "" {
		t.Fatalf("%s marks: %s", sql, left.Mark.Why)
	}
	res, err := s.run(t, sql)
	for _, c := range left.Changes {
		if c.Statement < len(res.Tags) {
			if why := s.settings.Apply(c); why != "" {
				t.Fatalf("%s: %s", sql, why)
			}
		}
	}
	if err != nil {
		if pgtest.Code(err) == "" {
			t.Fatal(err)
		}
		s.settings.Failed()
	}
	if s.Status == 'I' {
		s.settings.Idle()
	}
}

// shown is everything that settings change. A parameter with a dot is empty or unknown.
const shown = `SELECT name, setting FROM pg_settings WHERE name <> 'application_name'
	UNION ALL SELECT 'user', current_user || ' ' || session_user
	UNION ALL SELECT p, coalesce(current_setting(p, true), 'unknown') FROM unnest('{app.x,app.y}'::text[]) p ORDER BY 1`

// compare says how a session differs from one that has just got its settings.
func (s *session) compare(t *testing.T, node *pgtest.Node, history []string) {
	t.Helper()
	moved := connect(t, node)
	for _, sql := range s.settings.Statements() {
		moved.ask(t, sql)
	}
	for range 2 {
		was, is := s.ask(t, shown), moved.ask(t, shown)
		if was != is {
			t.Errorf("after\n\t%s\nand %q\n%s", strings.Join(history, "\n\t"), s.settings.Statements(), difference(was, is))
		}
		s.play(t, "RESET ALL") // returns to the same, too
		moved.ask(t, "RESET ALL")
	}
	_ = moved.Close()
}

func difference(a, b string) string {
	var d strings.Builder
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range left {
		if !slices.Contains(right, l) {
			fmt.Fprintf(&d, "\twas %s\n", l)
		}
	}
	for _, r := range right {
		if !slices.Contains(left, r) {
			fmt.Fprintf(&d, "\tis  %s\n", r)
		}
	}
	return d.String()
}

// pieces are what random histories are made of.
var pieces = []string{
	"BEGIN", "BEGIN", "COMMIT", "COMMIT", "COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK", "SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO a", "RELEASE a", "ROLLBACK TO SAVEPOINT b",
	"COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1/0",
	"SET work_mem = '1MB'", "SET work_mem = '2MB'", "SET sort_mem = 3072", "RESET work_mem", "SET work_mem TO DEFAULT", "SET LOCAL work_mem = '4MB'",
	"SET DateStyle = ISO", "SET datestyle = 'SQL'", "SET datestyle TO dmy", "SET datestyle = German", "SET datestyle = 'Postgres, YMD'", "RESET datestyle",
	"SET TIME ZONE 'Asia/Tokyo'", "SET timezone = 'UTC'", "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "SET TIME ZONE LOCAL", "SET LOCAL timezone = 'Asia/Tokyo'",
	"SET app.x = 'one'", "SET app.X TO two", "SET LOCAL app.x = 'three'", "RESET app.x", "SET app.x TO DEFAULT", "SET LOCAL app.y = 1", "SET app.y = 2",
	"SET search_path = a, public", "SET SCHEMA 'a'", "SET search_path = ''", "RESET search_path",
	"SET ROLE joe", "SET ROLE NONE", "RESET ROLE", "SET LOCAL ROLE ann", "SET SESSION AUTHORIZATION ann", "RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT",
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, DEFERRABLE", "SET default_transaction_isolation = 'read committed'",
	"SET NAMES 'LATIN1'", "SET client_encoding = utf8", "SET XML OPTION DOCUMENT", "SET intervalstyle = iso_8601",
	"RESET ALL", "DISCARD ALL", "SET no_such_parameter = 1", "SET work_mem = 'x'", "SET application_name = 'x'",
}

// histories are those that chance may not find.
var histories = [][]string{
	{"BEGIN", "SAVEPOINT a", "SET work_mem = '1MB'", "ROLLBACK TO a", "SET work_mem = '2MB'", "ROLLBACK TO a", "COMMIT"},
	{"BEGIN", "SET work_mem = '1MB'", "SAVEPOINT a", "SAVEPOINT a", "SET work_mem = '2MB'", "RELEASE a", "ROLLBACK TO a", "COMMIT"},
	{"BEGIN", "SAVEPOINT A", "SET work_mem = '1MB'", "SELECT 1/0", "ROLLBACK TO \"a\"", "SET app.x = 1", "COMMIT"},
	{"BEGIN", "SET work_mem = '1MB'", "SELECT 1/0", "COMMIT"},
	{"SET work_mem = '1MB'; SELECT 1/0"},
	{"SET work_mem = '1MB'; COMMIT; SET app.x = 1; SELECT 1/0"},
	{"SET work_mem = '1MB'; BEGIN; SET app.x = 1; ROLLBACK"},
	{"SET ROLE joe", "SET SESSION AUTHORIZATION ann", "RESET SESSION AUTHORIZATION"},
	{"SET ROLE joe", "RESET SESSION AUTHORIZATION", "SET work_mem = '1MB'"},
	{"SET SESSION AUTHORIZATION ann", "SET ROLE joe", "RESET ALL"},
	{"SET datestyle = 'SQL, DMY'", "SET datestyle = ISO", "SET datestyle = MDY", "SET datestyle = Postgres"},
}

func randomHistory(seed uint64) (history []string) {
	random := rand.New(rand.NewPCG(seed, 1))
	for range 25 {
		sql := pieces[random.IntN(len(pieces))]
		for random.IntN(4) == 0 {
			sql += "; " + pieces[random.IntN(len(pieces))]
		}
		history = append(history, sql)
	}
	return history
}

// TestSettingsAreThoseOfTheServer plays histories, and gives another backend the settings
// that each has left.
func TestSettingsAreThoseOfTheServer(t *testing.T) {
	node := setUp(t)
	all := slices.Clone(histories)
	for seed := range uint64(30) {
		all = append(all, randomHistory(seed))
	}
	for _, history := range all {
		s := connect(t, node)
		for _, sql := range history {
			s.play(t, sql)
		}
		if s.Status != 'I' {
			s.play(t, "COMMIT")
		}
		s.compare(t, node, history)
		_ = s.Close()
	}
}
