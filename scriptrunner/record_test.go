package scriptrunner

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/ipc"
)

func ids(r *record) []string {
	var list []string
	for _, e := range r.runs {
		list = append(list, e.ID)
	}
	return list
}

func openedRecord(t *testing.T, dir string) *record {
	t.Helper()
	r, err := openRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// TestDamagedLineCostsItselfAlone: torn at the end, filled with zeros, or changed in between.
func TestDamagedLineCostsItselfAlone(t *testing.T) {
	for what, content := range map[string]string{
		"torn":    "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\",\"ho",
		"zeros":   "{\"id\":\"a\"}\n{\"id\":\"b\"}\n" + strings.Repeat("\x00", 100),
		"between": "{\"id\":\"a\"}\n{\"id\":\"c\",\"ho\n{\"id\":\"b\"}\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, recordName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := openedRecord(t, dir)
		if err := r.put(entry{ID: "d"}); err != nil {
			t.Fatal(err)
		}
		if r.damaged != 1 {
			t.Errorf("%s: %d damaged lines", what, r.damaged)
		}
		again := openedRecord(t, dir)
		if diff := cmp.Diff([]string{"a", "b", "d"}, ids(again)); diff != "" || again.damaged != 0 {
			t.Errorf("%s: %d lines are damaged afterwards\n%s", what, again.damaged, diff)
		}
		if b, err := os.ReadFile(path + badSuffix); err != nil || string(b) != content {
			t.Errorf("%s: kept %q, %v", what, b, err)
		}
	}
}

// TestLineThatWasWrittenHalfSwallowsNoOther: the disk was full for a moment, and this process lives on.
func TestLineThatWasWrittenHalfSwallowsNoOther(t *testing.T) {
	dir := t.TempDir()
	r := openedRecord(t, dir)
	whole := r.file
	broken, err := os.Open(filepath.Join(dir, recordName)) // which can't be written
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	r.file = broken
	if err := r.put(entry{ID: "a"}); err == nil {
		t.Fatal("no error")
	}
	r.file = whole
	if _, err := whole.WriteString("{\"id\":\"a\",\"ho"); err != nil {
		t.Fatal(err)
	}
	if err := r.put(entry{ID: "b"}); err != nil {
		t.Fatal(err)
	}
	if again := openedRecord(t, dir); again.find("b") == nil || again.find("a") != nil {
		t.Errorf("%v", ids(again))
	}
}

// Otherwise a link in state_dir could make the runner overwrite any file.
func TestTheListOfRunsIsNotWrittenThroughALink(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, recordName)); err != nil {
		t.Fatal(err)
	}
	r, err := openRecord(dir)
	defer r.close()
	if err == nil {
		t.Error("a link is opened")
	}
	if err := r.put(entry{ID: "a"}); err != nil || r.find("a") == nil {
		t.Errorf("the run isn't remembered: %v", err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the victim holds %q, %v", b, err)
	}
}

// TestRunsOfEveryVersionAreRead reads what each version has written: testdata has a directory for each in which the format
// has changed. What is forgotten here would be executed twice.
func TestRunsOfEveryVersionAreRead(t *testing.T) {
	const boot = "5f3b8a52-0c9c-4b5f-9f2e-1a2b3c4d5e6f"
	for version, want := range map[string][]entry{
		"ids": {{ID: "9f0c-1"}, {ID: "9f0c-2"}},
		"lines": {
			{ID: "9f0c-1", Hook: "failover", Boot: boot, PID: 4711, Start: "88123", Deadline: 125000, KillDelay: 5000, End: &ipc.RunEnded{
				RunID: "9f0c-1", Hook: "failover", Exit: -1, Signal: "SIGKILL", TimedOut: true, Refused: "why", DurationMS: 120317, Unknown: true, Left: []int{4712},
			}},
			{ID: "9f0c-2", Hook: "notify", Boot: boot, PID: 4800, Start: "90001", Check: true, Deadline: 700000, KillDelay: 5000},
		},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", version, recordName))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, recordName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := openedRecord(t, dir)
		if d := cmp.Diff(want, r.runs); d != "" || r.damaged != 0 {
			t.Errorf("%s: %d damaged lines, (-want +got):\n%s", version, r.damaged, d)
		}
	}
}

// TestTheNewestRunsHaveEveryField: a field that is new belongs into a file of its own, beside those that were written
// without it.
func TestTheNewestRunsHaveEveryField(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "lines", recordName))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(e); err != nil || string(again) != strings.TrimSpace(line) {
			t.Errorf("%v: this version writes\n%s\nand testdata has\n%s", err, again, line)
		}
		for field, value := range reflect.ValueOf(e).Fields() {
			seen["entry."+field.Name] = seen["entry."+field.Name] || !value.IsZero()
		}
		if e.End == nil {
			continue
		}
		for field, value := range reflect.ValueOf(*e.End).Fields() {
			seen["RunEnded."+field.Name] = !value.IsZero()
		}
	}
	for field, ok := range seen {
		if !ok {
			t.Errorf("no line has %s", field)
		}
	}
	if t.Failed() {
		t.Log(howToKeep)
	}
}

// howToKeep is printed when the format of the file has changed. The end of a run is kept as a message that has it.
const howToKeep = `The record of runs has changed. Every later release must read what an earlier one has written: a field keeps its name and its
type, and one that is new may be absent. If a release has testdata/lines (git tag --contains), leave it as it is; write lines with
the new field into a directory beside it, with a row in TestRunsOfEveryVersionAreRead, and read those here. If none has it yet, change it.`
