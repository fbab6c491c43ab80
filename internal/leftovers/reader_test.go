package leftovers

import (
	"strings"
	"testing"
)

func reader(t testing.TB, functions ...string) *Reader {
	t.Helper()
	names, err := ParseFunctions(strings.Join(functions, ","))
	if err != nil {
		t.Fatal(err)
	}
	return NewReader(15, names)
}

// nothing are texts that leave nothing. They run on a server, too, in the order of the list.
var nothing = []string{
	"",
	";; ;",
	"SELECT 1",
	"select\tlower('X'), \"upper\"('x'), pg_catalog.length('x'), \"pg_catalog\".\"abs\"(1)",
	"SELECT count(*), max(i), string_agg(t, ',' ORDER BY i) FILTER (WHERE i > 0) FROM things",
	"SELECT row_number() OVER (PARTITION BY t ORDER BY (i)), rank() OVER w FROM things WINDOW w AS (ORDER BY i)",
	"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY i) FROM things",
	"SELECT i FROM things WHERE i IN (1, 2) AND i NOT IN (3) AND i = ANY (ARRAY[1, 2]) AND NOT (i > ALL (SELECT 3))",
	"SELECT i FROM things WHERE EXISTS (SELECT FROM things) OR t ILIKE ('x') OR t LIKE ('x') OR t SIMILAR TO ('x')",
	"SELECT CASE WHEN (i > 1) THEN (1) ELSE (2) END FROM things WHERE i BETWEEN (1) AND (2)",
	"SELECT CAST(t AS varchar(10)), t::character varying (10), i::numeric(10, 2), now()::timestamp(3), '1'::bit (3), date '2020-01-01' FROM things",
	"SELECT coalesce(i, 1), nullif(i, 2), greatest(1, 2), least(1, 2), row(1, 2), array(SELECT 1) FROM things",
	"SELECT extract(year FROM now()), substring('abc' FROM 1 FOR 2), trim(BOTH ' ' FROM 'x'), position('a' IN 'b'), overlay('a' PLACING 'b' FROM 1)",
	"SELECT current_timestamp(3), localtime(0), current_schema(), CURRENT_USER, now() AT TIME ZONE ('UTC')",
	"SELECT left('abc', 1), right('abc', 1), (now(), now()) OVERLAPS (now(), now())",
	"SELECT i, t FROM things GROUP BY GROUPING SETS ((i), (t), ())",
	"SELECT i, t FROM things GROUP BY ROLLUP (i, t)",
	"SELECT i, t FROM things GROUP BY CUBE (i, t) ORDER BY (i)",
	"SELECT DISTINCT ON (i) lower(t) FROM things ORDER BY i",
	"SELECT 1 OPERATOR(pg_catalog.+) abs(2) OPERATOR ( + ) 3",
	"SELECT g.i FROM generate_series(1, 3) AS g(i), (VALUES (1, 2)) AS v(a, b), (VALUES (1)) w(c)",
	"SELECT * FROM things a JOIN (SELECT 1 AS i) b USING (i) LEFT JOIN (things c JOIN things d ON (true)) ON (a.i = c.i)",
	"SELECT * FROM things, LATERAL (SELECT 1) x CROSS JOIN LATERAL jsonb_each('{}') WITH ORDINALITY AS e(k, v, n)",
	"SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS r(a, b)",
	"SELECT * FROM json_to_recordset('[]') AS x(a int, b varchar(3))",
	"SELECT * FROM things TABLESAMPLE bernoulli (10) REPEATABLE (1)",
	"SELECT i FROM things ORDER BY 1 LIMIT (1) OFFSET (2)",
	"SELECT * FROM things FOR UPDATE",
	"(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
	"VALUES (1, 'a'), (2, 'b''c')",
	"TABLE things",
	"WITH a AS (SELECT 1), b(x, y) AS (SELECT 1, 2), c (z) AS MATERIALIZED (SELECT 1) SELECT * FROM a, b, c",
	"WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3), u(m) AS NOT MATERIALIZED (SELECT 1) SELECT sum(n) FROM t",
	"WITH x AS (INSERT INTO things (i, t) VALUES (1, 'x') RETURNING i) SELECT * FROM x",
	"SELECT (WITH a AS (SELECT 1), b(x) AS (SELECT 2) SELECT x FROM b)",
	"INSERT INTO things VALUES (2, 'b')",
	"INSERT INTO public.things(i, t) VALUES (3, lower('C')), (4, DEFAULT)",
	`INSERT INTO "uniques" AS o ("i", "t") SELECT 5, 'e' ON CONFLICT (i) WHERE (i > 0) DO UPDATE SET (i, t) = (excluded.i, o.t) RETURNING *`,
	"UPDATE things SET t = upper(t), i = (i + 0) WHERE (i) = 2",
	"UPDATE things SET (i, t) = (SELECT 2, 'b') WHERE i = 2",
	"DELETE FROM things USING (SELECT 9 AS i) x WHERE things.i = x.i",
	"MERGE INTO things USING (SELECT 7 AS i) s ON (things.i = s.i) WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (i, t) VALUES (s.i, 'g')",
	"TRUNCATE things",
	"EXPLAIN SELECT count(*) FROM things",
	"EXPLAIN (ANALYZE, COSTS off, FORMAT json) UPDATE things SET i = 1",
	"EXPLAIN ANALYZE VERBOSE INSERT INTO things (i) VALUES (8)",
	"EXPLAIN (SELECT 1)",
	"COPY things TO STDOUT",
	"COPY (SELECT lower(t) FROM things) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (lower))",
	"COPY things (i, t) TO STDOUT (DELIMITER ',')",
	"SHOW search_path",
	"BEGIN",
	"SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a; RELEASE a",
	"SET LOCAL work_mem = '8MB'; SET LOCAL TIME ZONE 'UTC'; SET LOCAL ROLE none; SET CONSTRAINTS ALL DEFERRED",
	"DECLARE c CURSOR FOR SELECT i FROM things; FETCH 1 FROM c; MOVE c; CLOSE c",
	"LOCK TABLE things IN SHARE MODE",
	"SELECT pg_advisory_xact_lock(1)",
	"NOTIFY x, 'y'; SELECT pg_notify('x', 'z')",
	"COMMIT AND CHAIN",
	"END",
	"START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY; SET TRANSACTION READ WRITE; ABORT",
	"SET SESSION transaction_isolation = 'serializable'",
	"SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; RESET default_transaction_read_only",
	"SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
	"SELECT nextval('numbers'), setval('numbers', 7)",
	"DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP",
	"VACUUM things",
	"ANALYZE things (i)",
	"CREATE TABLE IF NOT EXISTS t2 (a varchar(3) PRIMARY KEY, b numeric(4, 2) DEFAULT (1) CHECK (abs(b) > 0), c int REFERENCES t2b(x))",
	"CREATE TABLE t3 AS SELECT 1 AS one",
	"CREATE TABLE t4 (a int) PARTITION BY RANGE (a)",
	"CREATE UNIQUE INDEX IF NOT EXISTS i3 ON t3 USING btree (one)",
	"CREATE INDEX ON public.t3(abs(one))",
	"CREATE OR REPLACE VIEW v3(x) AS SELECT one FROM t3",
	"SELECT 1 AS a INTO t5",
	"ALTER TABLE t3 ADD CONSTRAINT p UNIQUE (one), ADD COLUMN n numeric(3) DEFAULT (2), ALTER COLUMN one SET NOT NULL",
	"COMMENT ON COLUMN t3.one IS 'x'; GRANT SELECT ON t3 TO PUBLIC; REVOKE SELECT ON t3 FROM PUBLIC",
	"DROP VIEW v3; DROP TABLE t3, t4, t5",
	"SELECT E'a\\'b; SET x', $$ lo_open( $$, $a$ ' $a$, B'1', X'1F', n'x'",
	"SELECT 1 /* a /* nested; */ set_config( */ -- LISTEN x;\n + 1",
	"SELECT E'a' -- comment\n 'b\\' set_config('",
	`SELECT 1 AS "set_config", 'it''s \', 2 AS "a""b("`,
	"SELECT '{a,b}'::text[] @> ARRAY['a'], 1 != -1, 2 - -2, 5 %3, 'x' ~* 'y', '{\"a\": 1}'::jsonb ? 'a', 1<>2",
	"SELECT xmlelement(name foo), xmlforest('a' AS b)",
	"SELECT E'a\\' || foo('",
	"SELECT 1.5, .5, 1e10, 1.e2, 3., 1E+3",
	"SELECT (ARRAY[1, 2])[1:2], ('{1}'::int[])[abs(1)]",
	"SELECT pg_backend_pid(), txid_current(), random(), gen_random_uuid(), clock_timestamp()",
}

func TestTextsThatLeaveNothing(t *testing.T) {
	r := reader(t)
	for _, sql := range nothing {
		left := r.Read([]byte(sql))
		if left.Mark != (Mark{}) {
			t.Errorf("%s\n\tmarks: %+v", sql, left.Mark)
		}
	}
}

// marking are texts that mark, with the reason.
var marking = map[string]string{
	"SELECT foo(1)":                                            "function foo",
	"SELECT \"Lower\"('x')":                                    "function Lower",
	"SELECT app.lower('x')":                                    "function app.lower",
	"SELECT a.pg_catalog.lower('x')":                           "function a.lower",
	"SELECT foo /* x */ -- y\n (1)":                            "function foo",
	"SELECT set_config('a.b', 'c', false)":                     "function set_config",
	"SELECT pg_catalog.set_config('a.b', 'c', true)":           "function pg_catalog.set_config",
	"SELECT \"pg_catalog\".\"set_config\"('a', 'b', true)":     "function pg_catalog.set_config",
	"SELECT pg_advisory_lock(1)":                               "function pg_advisory_lock",
	"SELECT lastval()":                                         "function lastval",
	"SELECT currval('s')":                                      "function currval",
	"SELECT lo_creat(1)":                                       "function lo_creat",
	"SELECT setseed(0.5)":                                      "function setseed",
	"SELECT dblink_connect('x')":                               "function dblink_connect",
	"SELECT pg_export_snapshot()":                              "function pg_export_snapshot",
	"SELECT query_to_xml('SELECT foo()', true, true, '')":      "function query_to_xml",
	"SELECT 1; SELECT 2; SELECT foo()":                         "function foo",
	"SELECT DISTINCT ON (1) foo(1)":                            "function foo",
	"SELECT 1 OPERATOR(pg_catalog.+) foo(2)":                   "function foo",
	"SELECT operator(1)":                                       `function "operator"`,
	"SELECT by(1)":                                             "function by",
	"SELECT 1 ORDER BY cube(1)":                                "function cube",
	"SELECT join(1, 2)":                                        "function join",
	"SELECT over(1)":                                           "function over",
	"SELECT \"coalesce\"(1, 2)":                                "function coalesce",
	"SELECT 1 FROM a, foo(1)":                                  "function foo",
	"SELECT * FROM g(1) WITH ORDINALITY, foo(1)":               "function g",
	"SELECT * FROM abs(1) WITH ORDINALITY, foo(1)":             "function foo",
	"WITH a AS (SELECT 1) SELECT 2, foo(1)":                    "function foo",
	"WITH a AS (SELECT 1) (SELECT 2) ORDER BY 1, foo(1)":       "function foo",
	"WITH a AS (SELECT foo(1)), b AS (SELECT 1) TABLE b":       "function foo",
	"SELECT 1 AS with, foo(1)":                                 "function foo",
	"INSERT INTO t (a) VALUES (foo(1))":                        "function foo",
	"INSERT INTO t SELECT foo(1)":                              "function foo",
	"UPDATE t SET a = 1 WHERE foo(b)":                          "function foo",
	"DELETE FROM t USING foo(1)":                               "function foo",
	"SELECT CAST(foo(1) AS text)":                              "function foo",
	"SELECT a[foo(1)] FROM t":                                  "function foo",
	"SELECT 1 LIMIT foo()":                                     "function foo",
	"COPY (SELECT foo(1)) TO STDOUT":                           "function foo",
	"COPY t FROM STDIN WHERE foo(a)":                           "function foo",
	"COPY t FROM '/etc/passwd'":                                "COPY with a file or program",
	"COPY t TO PROGRAM 'cat'":                                  "COPY with a file or program",
	"EXPLAIN SELECT foo(1)":                                    "function foo",
	"EXPLAIN ANALYZE EXECUTE x":                                "EXPLAIN EXECUTE",
	"EXPLAIN (ANALYZE) CREATE TEMP TABLE x AS SELECT 1":        "CREATE TEMP",
	"CREATE INDEX ON t (foo(a))":                               "function foo",
	"ALTER TABLE t ALTER a TYPE int USING foo(a)":              "function foo",
	"ALTER TABLE t ADD CHECK (foo(a))":                         "function foo",
	"CREATE TABLE t AS SELECT foo(1)":                          "function foo",
	"CREATE TABLE t AS EXECUTE x(1)":                           "EXECUTE",
	"CREATE TEMP TABLE x (a int)":                              "CREATE TEMP",
	"CREATE OR REPLACE TEMPORARY VIEW x AS SELECT 1":           "CREATE TEMP",
	"CREATE LOCAL TEMP TABLE x ()":                             "CREATE TEMP",
	"CREATE TABLE pg_temp.x (a int)":                           "pg_temp",
	"CREATE TABLE \"pg_temp\".x (a int)":                       "pg_temp",
	"SELECT 1 INTO TEMP x":                                     "SELECT INTO TEMP",
	"SELECT 1 INTO LOCAL TEMPORARY TABLE x":                    "SELECT INTO TEMP",
	"WITH a AS (SELECT 1) SELECT * INTO TEMP TABLE x FROM a":   "SELECT INTO TEMP",
	"SELECT count(*) AS insert INTO TEMP x":                    "SELECT INTO TEMP",
	"SELECT 1 AS merge INTO TEMPORARY x":                       "SELECT INTO TEMP",
	"SELECT 'x' LIKE set('x')":                                 "function set",
	"UPDATE t SET a = 1 WHERE b NOT LIKE set(b)":               "function set",
	"COPY t FROM STDIN WHERE force_x(a)":                       "function force_x",
	"UPDATE pg_settings SET setting = 1":                       "UPDATE pg_settings",
	"UPDATE ONLY pg_catalog.\"pg_settings\" s SET setting = 1": "UPDATE pg_settings",
	"WITH x AS (UPDATE PG_Settings SET setting = 1) SELECT 1":  "UPDATE pg_settings",
	"EXPLAIN ANALYZE UPDATE pg_settings SET setting = 1":       "UPDATE pg_settings",
	"SELECT 1 INTO pg_temp.x":                                  "pg_temp",
	"DECLARE c CURSOR WITH HOLD FOR SELECT 1":                  "DECLARE ... WITH HOLD",
	"declare c scroll cursor with /* */ hold for select 1":     "DECLARE ... WITH HOLD",
	"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT'": "CREATE FUNCTION",
	"CREATE EXTENSION x":                                       "CREATE EXTENSION",
	"ALTER EXTENSION x UPDATE":                                 "ALTER EXTENSION",
	"DO $$ BEGIN END $$":                                       "DO",
	"CALL p(1)":                                                "CALL",
	"LOAD 'x'":                                                 "LOAD",
	"LISTEN x":                                                 "LISTEN",
	"PREPARE x AS SELECT 1":                                    "PREPARE",
	"PREPARE transaction AS SELECT 1":                          "PREPARE",
	"EXECUTE x":                                                "EXECUTE",
	"IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z":             "IMPORT",
	"SET x FROM CURRENT":                                       "SET without a value",
	"SET standard_conforming_strings = off":                    "standard_conforming_strings = off",
	"SET LOCAL standard_conforming_strings = off":              "standard_conforming_strings = off",
	"SET NAMES 'SJIS'":                                         "a client_encoding with ASCII bytes inside other characters",
	"SET client_encoding = gb18030":                            "a client_encoding with ASCII bytes inside other characters",
	"SET search_path = public, pg_catalog":                     "a search_path with a schema before pg_catalog",
	"SET search_path TO 'public', \"pg_catalog\"":              "a search_path with a schema before pg_catalog",
	"SET LOCAL search_path = a, PG_CATALOG":                    "a search_path with a schema before pg_catalog",
	"SET search_path = pg_temp, public":                        "a search_path with pg_temp",
	"SET search_path = 'a', E'pg_catalo\\x67'":                 "a search_path that is not understood",
	"SET search_path = a, 'pg_cata'\n'log'":                    "SET with a value that is not understood",
	"SET app.x = 'C:\\x'":                                      "SET with a backslash or characters that are not ASCII",
	"SET app.x = '\u00e9'":                                     "SET with a backslash or characters that are not ASCII",
	"SET seed = 0.5":                                           "SET seed",
	"SET CATALOG 'x'":                                          "SET of an unknown kind",
	"SELECT U&'\\0061'":                                        unreadable,
	"SELECT 'x":                                                unreadable,
	"SELECT /* x":                                              unreadable,
	"SELECT $$ x":                                              unreadable,
	"SELECT (1":                                                unreadable,
	"SELECT 1)":                                                unreadable,
	"1":                                                        unreadable,
	"\"select\" 1":                                             unreadable,
	"S\xc3\xa9lect 1":                                          unreadable,
	"SELECT E'a' 'b\\' || foo(1)":                              "function foo",
	"SELECT 'a\\' || foo(1)":                                   "function foo",
	"SELECT /* /* */ foo() */ foo(1)":                          "function foo",
	"SELECT a$b$ || foo(1), $b$ x$b$":                          "function foo",
	"SELECT 1--\r+foo(1)":                                      "function foo",
	"SELECT +/*x*/foo(1)":                                      "function foo",
}

func TestTextsThatMark(t *testing.T) {
	r := reader(t)
	for sql, why := range marking {
		if got := r.Read([]byte(sql)).Mark.Why; got != why {
			t.Errorf("%s\n\tmarks %q, want %q", sql, got, why)
		}
	}
	for _, long := range []string{
		"SELECT '" + strings.Repeat("x", Limit) + "'",
		"SELECT " + strings.Repeat("(", 300) + strings.Repeat(")", 300),
	} {
		if r.Read([]byte(long)).Mark.Why == "" {
			t.Errorf("no mark of %.20s", long)
		}
	}
}

func TestMarksThatOutliveDiscardAll(t *testing.T) {
	r := reader(t)
	for sql, lasts := range map[string]bool{
		"SELECT foo()":                                false,
		"CREATE TEMP TABLE x ()":                      false,
		"LISTEN x":                                    false,
		"LOAD 'x'":                                    true,
		"SELECT setseed(1)":                           true,
		"SELECT dblink_connect('x')":                  true,
		"SELECT public.dblink('x', 'y')":              true,
		"SET seed = 1":                                true,
		"SELECT foo(); SELECT setseed(1)":             true,
		"SELECT foo(setseed(1))":                      true,
		"LISTEN x; SELECT dblink_connect('x')":        true,
		"SELECT pg_create_logical_replication_slot()": true,
	} {
		if got := r.Read([]byte(sql)).Mark; got.Lasts != lasts || got.Why == "" {
			t.Errorf("%s: %+v", sql, got)
		}
	}
}

func TestOperatorsAddFunctions(t *testing.T) {
	r := reader(t, "foo", "app.bar", `"Odd"."Name"`, "lastval", "app.foo2")
	for sql, want := range map[string]string{
		"SELECT foo(1), app.bar(1), FOO(2), x.foo(3), \"Odd\".\"Name\"()": "",
		"SELECT bar(1)":               "function bar",
		"SELECT x.bar(1)":             "function x.bar",
		"SELECT \"Foo\"()":            "function Foo",
		"SELECT odd.name()":           "function odd.name",
		"SELECT pg_catalog.lastval()": "",
		"SELECT currval('x')":         "function currval",
	} {
		if got := r.Read([]byte(sql)).Mark.Why; got != want {
			t.Errorf("%s\n\tmarks %q, want %q", sql, got, want)
		}
	}
	for _, list := range []string{"a.b.c", "foo()", "a.", "'x'", "a b", ",", "a,,b", `"x`} {
		if names, err := ParseFunctions(list); err == nil {
			t.Errorf("%q is taken for %q", list, names)
		}
	}
}

func TestFunctionsOfNewerServersAreNotKnownToOlderOnes(t *testing.T) {
	for major, want := range map[int]bool{13: false, 15: false, 17: true, 18: true} {
		if got := NewReader(major, nil).Read([]byte("SELECT date_add(now(), '1 day'), json_table('x', 'y')")).Mark.Why == ""; got != want {
			t.Errorf("version %d: %v", major, got)
		}
	}
}

// changes are texts with what they change.
var changes = map[string]string{
	"SET x = 1":                                       "set x: SET x TO 1",
	"set session Work_Mem to '64MB'":                  "set work_mem: SET Work_Mem TO '64MB'",
	"SET sort_mem = 64":                               "set work_mem: SET sort_mem TO 64",
	"SET app.Tenant = 'it''s', -- x\n b, +1, -2.5":    "set app.tenant: SET app.Tenant TO 'it''s', -- x\n b, +1, -2.5",
	`SET "app"."x" = $$y$$`:                           `set app.x: SET "app"."x" TO $$y$$`,
	"SET session.x = on":                              "set session.x: SET session.x TO on",
	"SET local.x = on":                                "set local.x: SET local.x TO on",
	"SET LOCAL app.x = on":                            "local app.x: SET app.x TO on",
	"SET role.x = 1":                                  "set role.x: SET role.x TO 1",
	"SET x TO DEFAULT":                                "reset x: SET x TO DEFAULT",
	"SET LOCAL app.x TO DEFAULT":                      "local app.x: SET app.x TO DEFAULT",
	"SET TIME ZONE 'UTC'":                             "set timezone: SET TIME ZONE 'UTC'",
	"SET TIME ZONE -7":                                "set timezone: SET TIME ZONE -7",
	"SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE":  "set timezone: SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
	"SET TIME ZONE LOCAL":                             "reset timezone: RESET timezone",
	"SET TIME ZONE DEFAULT":                           "reset timezone: SET TIME ZONE DEFAULT",
	"SET NAMES 'UTF8'":                                "set client_encoding: SET NAMES 'UTF8'",
	"SET NAMES":                                       "reset client_encoding: RESET client_encoding",
	"SET SCHEMA 'a'":                                  "set search_path: SET SCHEMA 'a'",
	"SET search_path = pg_catalog, \"$user\", public": "set search_path: SET search_path TO pg_catalog, \"$user\", public",
	"SET search_path = ''":                            "set search_path: SET search_path TO ''",
	"SET ROLE joe":                                    "set role: SET ROLE joe",
	"SET role = 'joe'":                                "set role: SET role TO 'joe'",
	"SET ROLE NONE":                                   "set role: SET ROLE NONE",
	"RESET ROLE":                                      "reset role: RESET ROLE",
	"SET SESSION AUTHORIZATION joe":                   "set session_authorization: SET SESSION AUTHORIZATION joe",
	"SET LOCAL SESSION AUTHORIZATION 'joe'":           "local session_authorization: SET SESSION AUTHORIZATION 'joe'",
	"SET SESSION AUTHORIZATION DEFAULT":               "reset session_authorization: SET SESSION AUTHORIZATION DEFAULT",
	"RESET SESSION AUTHORIZATION":                     "reset session_authorization: RESET SESSION AUTHORIZATION",
	"SET XML OPTION DOCUMENT":                         "set xmloption: SET XML OPTION DOCUMENT",
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY": "set default_transaction_isolation: SET default_transaction_isolation TO 'repeatable read' | set default_transaction_read_only: SET default_transaction_read_only TO 'on'",
	"SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE, NOT DEFERRABLE":                "set default_transaction_read_only: SET default_transaction_read_only TO 'off' | set default_transaction_deferrable: SET default_transaction_deferrable TO 'off'",
	"SET standard_conforming_strings = on":                                                 "set standard_conforming_strings: SET standard_conforming_strings TO on",
	"RESET App.X":                                                                          "reset app.x: RESET App.X",
	"RESET TIME ZONE":                                                                      "reset timezone: RESET timezone",
	"RESET ALL":                                                                            "reset all",
	"BEGIN; SET x = 1; ; SET LOCAL y = 2; COMMIT":                                          "set x: SET x TO 1 | local y: SET y TO 2",
	"SET TRANSACTION READ ONLY":                                                            "local transaction",
	"SET CONSTRAINTS ALL DEFERRED":                                                         "local constraints",
	"SET transaction_read_only = on":                                                       "local transaction_read_only: SET transaction_read_only TO on",
	"RESET TRANSACTION ISOLATION LEVEL":                                                    "local transaction_isolation",
	"COMMIT PREPARED 'x'":                                                                  "",
	"SET x = 1; SELECT foo()":                                                              "",
}

func written(all []Change) string {
	var parts []string
	for _, c := range all {
		part := map[Kind]string{Set: "set ", SetLocal: "local ", Reset: "reset ", ResetAll: "reset all"}[c.Kind] + c.Name
		if c.SQL != "" {
			part += ": " + c.SQL
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " | ")
}

func TestChanges(t *testing.T) {
	r := reader(t)
	for sql, want := range changes {
		left := r.Read([]byte(sql))
		if got := written(left.Changes); got != want {
			t.Errorf("%s\n\t%s %+v\n\twant %s", sql, got, left.Mark, want)
		}
		if left.Mark.Why != "" && want != "" {
			t.Errorf("%s marks: %s", sql, left.Mark.Why)
		}
	}
}

func TestParametersOutsideOfSQL(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		ok          bool
	}{
		{"standard_conforming_strings", "on", true},
		{"standard_conforming_strings", "off", false},
		{"client_encoding", "UTF8", true},
		{"client_encoding", "utf-8", true},
		{"client_encoding", "LATIN1", true},
		{"client_encoding", "WIN1252", true},
		{"client_encoding", "EUC_JP", true},
		{"client_encoding", "SQL_ASCII", true},
		{"client_encoding", "SJIS", false},
		{"client_encoding", "BIG5", false},
		{"client_encoding", "GBK", false},
		{"client_encoding", "GB18030", false},
		{"client_encoding", "UHC", false},
		{"client_encoding", "JOHAB", false},
		{"client_encoding", "SHIFT_JIS_2004", false},
		{"client_encoding", "windows-932", false},
		{"client_encoding", "WIN936", false},
		{"search_path", `"$user", public`, true},
		{"search_path", `pg_catalog, public`, true},
		{"search_path", `public, pg_catalog`, false},
		{"Search_Path", `public,"pg_catalog"`, false},
		{"search_path", `pg_temp`, false},
		{"application_name", "x", true},
		{"options", "-c work_mem=8MB", true},
		{"options", "-c search-path=a", false},
		{"options", `-c search\_path=a`, false},
	} {
		if why := Unreadable(tc.name, tc.value); (why == "") != tc.ok {
			t.Errorf("%s = %s: %q", tc.name, tc.value, why)
		}
	}
}

func TestUsualTextsNeedNoMemory(t *testing.T) {
	r := reader(t, "app.foo")
	for _, sql := range []string{
		"SELECT a, lower(b), count(*) FROM t WHERE a = $1 AND b IN ($2, 'x') ORDER BY (a)",
		`INSERT INTO "t" ("a", "b") VALUES ($1, $2) RETURNING "t"."a"`,
		"BEGIN", "COMMIT", "ROLLBACK",
	} {
		text := []byte(sql)
		if n := testing.AllocsPerRun(100, func() { r.Read(text) }); n != 0 {
			t.Errorf("%s: %v allocations", sql, n)
		}
	}
}
