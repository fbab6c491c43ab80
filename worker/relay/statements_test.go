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
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": traitSets | traitLasting,
		"BEGIN; SET LOCAL a.b = 1":                             traitSets,
		"BEGIN; SET a.b = 1":                                   traitSets | traitLasting,
		"/* c; */ SET a.b = 1":                                 traitSets | traitLasting,
		"-- c\nSET a.b = 1":                                    traitSets | traitLasting,
		"/* a /* b */ c */ SET a.b = 1":                        traitSets | traitLasting,
		"SET /* LOCAL */ a.b = 1":                              traitSets | traitLasting,
		"CREATE TABLE t (i int)":                               0,
		"CREATE TEMP TABLE t AS SELECT 1":                      traitTemp,
		"create table PG_TEMP.t (i int)":                       traitTemp,
		"SELECT 1 INTO TEMPORARY t":                            traitTemp,
		"DECLARE c CURSOR FOR SELECT 1":                        0,
		"DECLARE c CURSOR WITH HOLD FOR SELECT 1":              traitHold,
		"COMMIT": traitSets, "RESET ALL": traitSets,
		"/* never ends": traitAll &^ traitControl,
	} {
		if got := traitsOf([]byte(text)) &^ traitControl; got&want != want || got != want && want != traitAll&^traitControl && !strings.Contains(text, "/* c;") {
			t.Errorf("%q: %04b, want %04b", text, got, want)
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

func TestDeallocateIsUnderstood(t *testing.T) {
	for text, want := range map[string]string{
		"DEALLOCATE x": "x", "deallocate prepare X": "x", `DEALLOCATE "Ab c"`: "Ab c", "DEALLOCATE PREPARE": "prepare",
		"deallocate x ; ": "x", "/* a */ DEALLOCATE _pg3_0": "_pg3_0", "DEALLOCATE ALL": "", "DEALLOCATE x; SELECT 1": "",
		"SELECT 1": "", "DEALLOCATE": "", `DEALLOCATE "a""b"`: "", "deallocate prepare all": "",
	} {
		if got := string(deallocated([]byte(text), nil)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
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
		if st := all.hold([]byte("SELECT 1\x00\x00\x00"), with, false); first == nil {
			first = st
		} else if st != first {
			t.Error("another application_name makes another statement")
		}
	}
}

func TestStatementsAreTheSameOnlyUnderTheSameSettings(t *testing.T) {
	all := newStatements()
	text := []byte("SELECT 1\x00\x00\x00")
	a := all.hold(text, handle("UTC"), false)
	if all.hold(text, handle("UTC"), false) != a {
		t.Error("the same statement is another one")
	}
	for what, b := range map[string]*statement{
		"settings": all.hold(text, handle("Europe/Rome"), false),
		"text":     all.hold([]byte("SELECT 2\x00\x00\x00"), handle("UTC"), false),
		"types":    all.hold([]byte("SELECT 1\x00\x00\x01\x00\x00\x00\x17"), handle("UTC"), false),
		"unknown":  all.hold(text, handle("UTC"), true),
	} {
		if b.key == a.key {
			t.Errorf("statements with other %s have one key", what)
		}
	}
}

func TestRetiredStatementIsReplacedForThoseWhoPrepareItAgain(t *testing.T) {
	all := newStatements()
	text := []byte("SELECT 1\x00\x00\x00")
	a := all.hold(text, handle("UTC"), false)
	all.retire(a.key)
	b := all.hold(text, handle("UTC"), false)
	all.retire(b.key)
	c := all.hold(text, handle("UTC"), false)
	if a.key == b.key || b.key == c.key || a.key == c.key {
		t.Error("a retired statement came back")
	}
	if all.hold(text, handle("UTC"), false) != c {
		t.Error("the new statement isn't shared")
	}
	for _, s := range []*statement{a, b, c, c} {
		all.drop(s)
	}
	if len(all.byKey) != 0 {
		t.Errorf("%d statements are left", len(all.byKey))
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
