package statedir

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// TestRecordsOfEveryVersionAreRead reads what each version has written: testdata has a directory
// for each in which the format has changed. A record is compared with what this version makes of it.
func TestRecordsOfEveryVersionAreRead(t *testing.T) {
	for version, want := range map[string]failover.Record{
		"unsealed": {
			Version: 1, Epoch: 3, Primary: "n1", SystemID: 7400000000000000001, Timeline: 4, LSN: 83886080, Verified: true, Seen: true,
			Servers: []failover.ServerRecord{{Name: "n1", Host: "10.0.0.1", Port: "5432", State: "Primary"}},
		},
		"sealed": everyField,
	} {
		dir := t.TempDir()
		b, err := os.ReadFile(filepath.Join("testdata", version, recordName))
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, recordName, b)
		got, damage := ReadRecord(dir)
		if damage != nil || got == nil {
			t.Errorf("%s: %+v, %v", version, got, damage)
			continue
		}
		if d := cmp.Diff(want, *got); d != "" {
			t.Errorf("%s (-want +got):\n%s", version, d)
		}
	}
}

// howToKeep is printed when the format of the record has changed.
const howToKeep = `The record has changed. Every later release must read what an earlier one has written: a field keeps its name and its
type, and one that is new may be absent. If a release has testdata/sealed (git tag --contains), leave it as it is; write a record
with the new field into a directory beside it, with a row for both in TestRecordsOfEveryVersionAreRead. If none has it yet, change it.`

// everyField is what testdata/sealed holds. No field has its zero value.
var everyField = failover.Record{
	Version: 1, Epoch: 7, Primary: "n2", SystemID: 7400000000000000001, Timeline: 5, LSN: 83886080, LSNAge: 1500000000,
	Hold: "failed_run", Notify: true, Old: "n1", Attempts: 2, Planned: true, Paused: true, Verified: true, Seen: true,
	Run:     &failover.RunRecord{ID: "9f0c-7", Hook: "failover", Phase: "ended", Why: "exit code 3", Old: "n1", New: "n2", Left: true},
	Blocker: "9f0c-7", RunTimes: []int64{1764520000000}, Locked: true, Cut: true, Damaged: true,
	Servers: []failover.ServerRecord{
		{
			Name: "n1", Host: "10.0.0.1", Port: "5432", SystemID: 7400000000000000001, Timeline: 4,
			State: "Failed", Qualifier: "split brain", Reason: "why", Excluded: true, Spared: true,
		},
		{
			Name: "n2", Host: "/run/postgresql", Port: "5433", SystemID: 7400000000000000001, Timeline: 5,
			State: "Primary", Qualifier: "not writable", Reason: "why", Excluded: true, Spared: true,
		},
	},
}

// TestTheNewestRecordHasEveryField: a field that is new belongs into a directory of its own, beside
// the files that were written without it.
func TestTheNewestRecordHasEveryField(t *testing.T) {
	b, err := failover.EncodeRecord(everyField)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join("testdata", "sealed", recordName))
	if err != nil {
		t.Fatal(err)
	}
	if record, err := unseal(file); err != nil || !jsonEqual(t, record, b) {
		t.Errorf("this version writes\n%s\nand testdata has (%v)\n%s", b, err, record)
	}
	empty(t, reflect.ValueOf(everyField), "Record")
	if t.Failed() {
		t.Log(howToKeep)
	}
}

// empty complains of fields that have the zero value, which a record leaves out.
func empty(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		empty(t, v.Elem(), path)
	case reflect.Slice:
		for i := range v.Len() {
			empty(t, v.Index(i), path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := path + "." + v.Type().Field(i).Name
			if tag := v.Type().Field(i).Tag.Get("json"); v.Field(i).IsZero() && strings.Split(tag, ",")[0] != "-" {
				t.Errorf("everyField has no %s", f)
				continue
			}
			empty(t, v.Field(i), f)
		}
	}
}

func jsonEqual(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}
