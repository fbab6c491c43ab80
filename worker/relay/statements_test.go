package relay

import (
	"fmt"
	"strings"
	"testing"
	"unique"

	"github.com/google/go-cmp/cmp"
)

func TestTraitsOfStatements(t *testing.T) {
	for text, want := range map[string]traits{
		"":                                   0,
		"SELECT 1":                           0,
		"UPDATE t SET a = 1":                 0,
		"select * from temperatures":         0,
		"SET LOCAL work_mem = '1MB'":         traitSets,
		"set transaction read only":          traitSets,
		"SET TimeZone TO 'UTC'":              traitSets,
		"SET SESSION application_name = 'x'": traitSets,
		"SET TIME ZONE 'UTC'":                traitSets,
		"SET NAMES 'utf8'":                   traitSets,
		"SET work_mem = '1MB'":               traitSets | traitLasting,
		"SET ROLE x":                         traitSets | traitLasting,
		"SET SESSION AUTHORIZATION x":        traitSets | traitLasting,
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY":       traitSets | traitLasting,
		"BEGIN; SET LOCAL a.b = 1":                                   traitSets,
		"BEGIN; SET a.b = 1":                                         traitSets | traitLasting,
		"/* c; */ SET a.b = 1":                                       traitSets | traitLasting,
		"-- c\nSET a.b = 1":                                          traitSets | traitLasting,
		"/* a /* b */ c */ SET a.b = 1":                              traitSets | traitLasting,
		"SET /* LOCAL */ a.b = 1":                                    traitSets | traitLasting,
		"CREATE TABLE t (i int)":                                     0,
		"CREATE TEMP TABLE t AS SELECT 1":                            traitTemp,
		"create table PG_TEMP.t (i int)":                             traitTemp,
		"SELECT 1 INTO TEMPORARY t":                                  traitTemp,
		"DECLARE c CURSOR FOR SELECT 1":                              0,
		"DECLARE c CURSOR WITH HOLD FOR SELECT 1":                    traitHold,
		"UPDATE pg_settings SET setting = 1":                         traitSets | traitSession,
		`update ONLY ("pg_catalog" . "pg_settings") SET setting = 1`: traitSets | traitSession,
		"UPDATE settings SET setting = (SELECT 1 FROM pg_settings)":  0,
		"COMMIT": traitSets, "RESET ALL": traitSets,
		"/* never ends": traitAll &^ traitControl,
	} {
		if got := traitsOf([]byte(text)) &^ traitControl; got&want != want || got != want && want != traitAll&^traitControl && !strings.Contains(text, "/* c;") {
			t.Errorf("%q: %04b, want %04b", text, got, want)
		}
	}
}

func TestCallsThatATextShows(t *testing.T) {
	for text, want := range map[string]traits{
		"SELECT set_config('a.b', 'c', false)":                         traitSets | traitSession,
		"SELECT set_config('a.b', 'c', true)":                          traitSets,
		"SELECT set_config('a.b', f('(', 1), TRUE ) , false":           traitSets,
		"SELECT set_config('a,b', 'c'')', $1)":                         traitSets | traitSession,
		"SELECT set_config('a', E'\\', true)":                          traitSets | traitSession,
		"SELECT set_config('a', 'b', true":                             traitSets | traitSession,
		"SELECT set_config('a', 'b', true), SET_CONFIG ('a', 'b', $1)": traitSets | traitSession,
		"SELECT set_config('a', $$b, true)$$, false)":                  traitSets | traitSession,
		"SELECT set_config('a', $x$b, true)$x$, false)":                traitSets | traitSession,
		"SELECT set_config('a', 'b' /* , true) */, false)":             traitSets | traitSession,
		"SELECT set_config('a', 'b' -- , true)\n, false)":              traitSets | traitSession,
		"SELECT set_config($1, $2, true)":                              traitSets,
		"SELECT set_config('a', $$b)$$, true)":                         traitSets,
		"SELECT set_config('a', (1 - 2 / 3)::text, true)":              traitSets,
		"select pg_catalog.pg_advisory_lock\n(1)":                      traitSession,
		`SELECT "pg_try_advisory_lock_shared"(1, 2)`:                   traitSession,
		"SELECT pg_advisory_xact_lock(1), my_pg_advisory_lock(1)":      0,
		"SELECT pg_advisory_lock":                                      0,
		"INSERT INTO t VALUES (nextval('s'))":                          traitSequence,
		"SELECT 'nextval(', 1":                                         traitSequence,
		"WITH a AS (SELECT setseed(0.1)) SELECT":                       traitIndelible,
		"SELECT (1), (((2))), lo_open(1, 2), \"(\"), (":                0,
	} {
		if got := traitsOf([]byte(text)); got != want {
			t.Errorf("%q: %012b, want %012b", text, got, want)
		}
	}
}

func TestTraitsSayWhatBecomesOfATransactionBlock(t *testing.T) {
	const (
		opens   = traitOpens
		closes  = traitCloses
		commits = traitCommits
		unclear = traitControl
	)
	for text, want := range map[string]traits{
		"SELECT 1": 0, "INSERT INTO t VALUES ('; BEGIN')": 0, "": 0,
		"BEGIN": opens, "begin isolation level serializable": opens, "START TRANSACTION": opens, "start foo": 0,
		"/* a */ BEGIN -- b": opens, "BEGIN;": opens, "BEGIN; -- c": opens,
		"COMMIT": closes | commits, "END": closes | commits, "COMMIT WORK;": closes | commits,
		"COMMIT AND CHAIN": opens | commits, "COMMIT AND NO CHAIN": closes | commits, "COMMIT PREPARED 'x'": commits,
		"ROLLBACK": closes, "ABORT": closes, "ROLLBACK TO a": 0, "ROLLBACK TRANSACTION TO SAVEPOINT a": 0,
		"ROLLBACK AND CHAIN": opens, "ROLLBACK PREPARED 'x'": 0,
		"PREPARE TRANSACTION 'x'": closes | commits, "PREPARE x AS SELECT 1": 0,
		"BEGIN; SELECT 1; COMMIT": closes | commits, "SELECT 1; BEGIN": opens | commits, "SELECT 1; SELECT 2": 0,
		"COMMIT; BEGIN": opens | commits, "ROLLBACK; SELECT 1": closes | commits,
		"SELECT $$; BEGIN; $$; SELECT 2": 0, "SELECT $a$; $$ BEGIN; $a$; SELECT 2": 0, "SELECT $1; COMMIT": closes | commits,
		"SELECT a$b$; BEGIN": opens | commits, `SELECT "; BEGIN; "; SELECT 2`: 0, "SELECT 'a''; BEGIN;'; SELECT 2": 0,
		"SELECT 1 /* ; BEGIN; */; SELECT 2": 0, "SELECT 1 -- ; BEGIN;\n; COMMIT": closes | commits,
		`SELECT E'a\'; BEGIN'; SELECT 2`: unclear, "SELECT 'a; BEGIN": unclear, "SELECT $$a; BEGIN": unclear,
		"DO $$ BEGIN PERFORM 1; END $$; SELECT 1": 0,
	} {
		if got := traitsOf([]byte(text)) & traitControl; got != want {
			t.Errorf("%q: %07b, want %07b", text, got, want)
		}
	}
}

func TestNamesOfStatementsAreFoundInATextAndReplaced(t *testing.T) {
	for text, want := range map[string]string{
		"DEALLOCATE x": "DEALLOCATE -<x>", "deallocate prepare X": "deallocate prepare -<x>", `DEALLOCATE "Ab c"`: "DEALLOCATE -<Ab c>",
		"DEALLOCATE PREPARE": "DEALLOCATE -<prepare>", "deallocate x ; ": "deallocate -<x> ; ", "/* a */ DEALLOCATE _pg3_0": "/* a */ DEALLOCATE -<_pg3_0>",
		"DEALLOCATE x; SELECT 1": "DEALLOCATE -<x>; SELECT 1", "SELECT ';'; DEALLOCATE x;DEALLOCATE y": "SELECT ';'; DEALLOCATE -<x>;DEALLOCATE -<y>",
		"EXECUTE x": "EXECUTE <x>", "-- c\nexecute X(1, 'x')": "-- c\nexecute <x>(1, 'x')", `EXECUTE "X"(E'\'')`: `EXECUTE <X>(E'\'')`,
		"BEGIN; EXECUTE a; COMMIT": "BEGIN; EXECUTE <a>; COMMIT", "EXECUTE x(';'); EXECUTE x": "EXECUTE <x>(';'); EXECUTE <x>",
		"EXPLAIN EXECUTE x": "EXPLAIN EXECUTE <x>", "explain analyze verbose execute x(1)": "explain analyze verbose execute <x>(1)",
		"EXPLAIN (ANALYZE, COSTS off) EXECUTE x": "EXPLAIN (ANALYZE, COSTS off) EXECUTE <x>",
		`EXECUTE x(E'\'; EXECUTE y; ')`:          `EXECUTE <x>(E'\'; EXECUTE y; ')`,
	} {
		all := mentionsIn([]byte(text))
		for i := range all {
			all[i].as = "<" + all[i].name + ">"
			if all[i].ends {
				all[i].as = "-" + all[i].as
			}
		}
		if got, changed := substitute([]byte(text), all); string(got) != want || !changed || !traitsOf([]byte(text)).names([]byte(text)) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{
		"DEALLOCATE ALL", "deallocate prepare all", "SELECT 1", "DEALLOCATE", `DEALLOCATE "a""b"`, "EXECUTE", "EXECUTE x$1", "EXECUTE x\u00e9",
		`EXECUTE U&"x"`, "EXPLAIN SELECT 1 AS execute", "EXPLAIN (ANALYZE) SELECT 1", "EXPLAIN (", "EXPLAIN", "SELECT 'a; EXECUTE x", "SELECT $$; EXECUTE x; $$",
	} {
		if got := mentionsIn([]byte(text)); got != nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func handle(zone string) unique.Handle[settings] {
	return unique.Make(settings{values: [len(tracked)]string{"", "", "", "", zone, ""}})
}

func TestStatementsAreTheSameWhateverTheApplication(t *testing.T) {
	all := newStatements()
	var first *statement
	for _, name := range []string{"a", "b"} {
		with := unique.Make(settings{values: [len(tracked)]string{name, "UTF8"}})
		if st := preparedAs(all, "SELECT 1\x00\x00\x00", with, false, "int4"); first == nil {
			first = st
		} else if st != first {
			t.Error("another application_name makes another statement")
		}
	}
}

func TestStatementsAreTheSameOnlyUnderTheSameSettings(t *testing.T) {
	all := newStatements()
	text := "SELECT 1\x00\x00\x00"
	a := preparedAs(all, text, handle("UTC"), false, "int4")
	if preparedAs(all, text, handle("UTC"), false, "int4") != a {
		t.Error("the same statement is another one")
	}
	for what, b := range map[string]*statement{
		"settings": preparedAs(all, text, handle("Europe/Rome"), false, "int4"),
		"text":     preparedAs(all, "SELECT 2\x00\x00\x00", handle("UTC"), false, "int4"),
		"types":    preparedAs(all, "SELECT 1\x00\x00\x01\x00\x00\x00\x17", handle("UTC"), false, "int4"),
		"unknown":  preparedAs(all, text, handle("UTC"), true, "int4"),
		"results":  preparedAs(all, text, handle("UTC"), false, "int8"),
	} {
		if b.key == a.key {
			t.Errorf("statements with other %s have one key", what)
		}
	}
}

// preparedAs is a statement that the server has described.
func preparedAs(all *statements, tail string, with unique.Handle[settings], alone bool, result string) *statement {
	st, base := all.prepare([]byte(tail), 0, with, alone)
	d := describe([]byte{0, 0}, []byte(result))
	return all.share(st, d, keyWith(base, d))
}

func TestStatementsAreForgottenWithTheirLastHolder(t *testing.T) {
	all := newStatements()
	for range 3 {
		a, base := all.prepare([]byte("SELECT 1\x00\x00\x00"), 0, handle("UTC"), false)
		d := describe([]byte{0, 0}, nil)
		all.share(a, d, keyWith(base, d))
		defer func() {
			if len(all.byKey) != 1 {
				t.Errorf("%d statements with a holder left", len(all.byKey))
			}
			all.drop(a)
		}()
	}
	st, _ := all.prepare([]byte("SELECT 2\x00\x00\x00"), 0, handle("UTC"), false)
	all.drop(st) // it was never described
}

// A result is another one if PostgreSQL says so: a table that was created again is not.
func TestDescriptionsDifferAsResultsDo(t *testing.T) {
	column := func(name string, table, typ, modifier byte) []byte {
		return []byte("\x00\x01" + name + "\x00\x00\x00\x00" + string(rune(table)) + "\x00\x01\x00\x00\x00" + string(rune(typ)) +
			"\x00\x04\x00\x00\x00" + string(rune(modifier)) + "\x00\x00")
	}
	first := describe([]byte{0, 0}, column("a", 1, 23, 4))
	if describe([]byte{0, 0}, column("a", 2, 23, 4)).hash != first.hash {
		t.Error("the OID of a table changes the result")
	}
	for what, d := range map[string]description{
		"name": describe([]byte{0, 0}, column("b", 1, 23, 4)), "type": describe([]byte{0, 0}, column("a", 1, 20, 4)),
		"modifier": describe([]byte{0, 0}, column("a", 1, 23, 5)), "parameters": describe([]byte{0, 1, 0, 0, 0, 23}, column("a", 1, 23, 4)),
		"no result": describe([]byte{0, 0}, nil), "nonsense": describe([]byte{0, 0}, []byte("abc")),
	} {
		if d.hash == first.hash {
			t.Errorf("another %s makes no difference", what)
		}
	}
}

func TestBackendHoldsALimitedNumberOfStatements(t *testing.T) {
	b := &modelBackend{server: newModelServer()}
	c := newModelClient(t, newStatements())
	pick := func() *modelBackend { return b }
	for i := range 3 * MaxStatements {
		c.send(join(parseMsg(fmt.Sprint(i), fmt.Sprint("show ", i)), sync_), pick)
		c.drain(1 << 20)
		c.send(join(bindMsg("0"), exec, sync_), pick) // what is used stays
		c.drain(1 << 20)
	}
	if b.server.most > MaxStatements+1 {
		t.Errorf("the server had %d statements at once", b.server.most)
	}
	c.got = nil
	c.send(join(bindMsg("0"), exec, sync_, bindMsg("1"), exec, sync_), pick)
	c.drain(1 << 20)
	if got := answers(c.got); strings.Count(got, `"show 0"`) != 1 || strings.Count(got, `"show 1"`) != 1 {
		t.Errorf("statements are lost: %s", got)
	}
	if n := len(b.server.named); n > MaxStatements {
		t.Errorf("the server holds %d statements", n)
	}
}

// Each worker knows statements by a hash; one that isn't shared must not be taken
// for another one's.
func TestKeysOfUnsharedStatementsDifferBetweenWorkers(t *testing.T) {
	if a, b := newStatements(), newStatements(); a.ownKey() == b.ownKey() {
		t.Error("two workers have the same key")
	}
}

// What another worker is told of a backend's statements is what is there, and it
// goes on with names that nothing has.
func TestStatementsOfABackendAreKnownWhereverItGoes(t *testing.T) {
	var here, there prepared
	for i := range 3 {
		on, _ := here.add(statementKey{byte(i)}, 1)
		on.there = i != 1 // an error has skipped its Parse
	}
	here.get(statementKey{0}, 1)
	here.lost = []string{"pgagroal_x"}
	there.restore(here.holding())
	if diff := cmp.Diff(here.holding(), there.holding(), cmp.AllowUnexported(Holding{}, Held{})); diff != "" || len(there.holding().Statements) != 2 {
		t.Errorf("%d statements; %s", len(there.holding().Statements), diff)
	}
	if on := there.get(statementKey{2}, 99); on == nil || on.name != "pgagroal_3" {
		t.Errorf("statement %+v", on)
	}
	if on, _ := there.add(statementKey{9}, 1); on.name != "pgagroal_4" {
		t.Errorf("the next one is called %s", on.name)
	}
	if diff := cmp.Diff([]string{"pgagroal_x"}, there.lost); diff != "" {
		t.Error(diff)
	}
}

func TestResetQueryIsSplitWhereThatKeepsItsMeaning(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, "DISCARD ALL": {"DISCARD ALL"}, "DISCARD ALL; SET a.b = 'x;y';": {"DISCARD ALL", "SET a.b = 'x;y'"},
		"/* a; */ RESET ALL ; ; UNLISTEN *": {"/* a; */ RESET ALL", "UNLISTEN *"},
		"BEGIN; RESET ALL; COMMIT":          {"BEGIN; RESET ALL; COMMIT"},
		`SET a.b = E'\''; DISCARD ALL`:      {`SET a.b = E'\''; DISCARD ALL`}, "DISCARD ALL; SELECT '": {"DISCARD ALL; SELECT '"},
	} {
		if diff := cmp.Diff(want, ResetQueries(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}
