package failover

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fullRecord() Record {
	return Record{
		Version: RecordVersion, Epoch: 3, Primary: "s2", SystemID: 1<<63 + 7, Timeline: 4, LSN: 1 << 60, LSNAge: time.Second,
		Hold: "failed_run", Notify: true, Old: "s1", Verified: true, Seen: true, Blocker: "x", RunTimes: []int64{1, 2}, Locked: true, Cut: true, Attempts: 2, Planned: true, Paused: true, Damaged: true,
		Run: &RunRecord{ID: "a-1", Hook: HookFailover, Phase: "started", Old: "s2", New: "s1", Why: "exit"},
		Servers: []ServerRecord{
			{Name: "s1", Host: "h1", Port: "5432", SystemID: 7, Timeline: 4, State: "Failed", Qualifier: "split brain", Reason: "r", Excluded: true},
			{Name: "s2", Host: "h2", Port: "5433", State: "Primary"},
		},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := fullRecord()
	b, err := EncodeRecord(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, *got); d != "" {
		t.Error(d)
	}
}

func TestDecodeRecordRefuses(t *testing.T) {
	for what, change := range map[string]func(*Record){
		"version":      func(r *Record) { r.Version = 2 },
		"repeated":     func(r *Record) { r.Servers[1].Name = "s1" },
		"unknown stat": func(r *Record) { r.Servers[0].State = "Dead" },
		"not among":    func(r *Record) { r.Primary = "s9" },
		"run without":  func(r *Record) { r.Run.New = "s9" },
		"unknown hold": func(r *Record) { r.Hold = "what" },
	} {
		r := fullRecord()
		change(&r)
		if err := r.validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, bad := range []string{"", "{", `{"version":9}`, `[]`} {
		if _, err := DecodeRecord([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestSameRecordSeesEveryField: a field forgotten there would not be saved.
func TestSameRecordSeesEveryField(t *testing.T) {
	skip := map[string]bool{"LSN": true, "LSNAge": true, "Run": true, "Servers": true}
	typ := reflect.TypeFor[Record]()
	for i := range typ.NumField() {
		if skip[typ.Field(i).Name] {
			continue
		}
		a, b := fullRecord(), fullRecord()
		reflect.ValueOf(&b).Elem().Field(i).SetZero()
		if sameRecord(a, b) {
			t.Errorf("a change of %s goes unseen", typ.Field(i).Name)
		}
	}
	for what, change := range map[string]func(*Record){
		"run": func(r *Record) { r.Run.Phase = "ended" }, "no run": func(r *Record) { r.Run = nil }, "server": func(r *Record) { r.Servers[1].Timeline = 9 },
	} {
		a, b := fullRecord(), fullRecord()
		change(&b)
		if sameRecord(a, b) {
			t.Errorf("a change of the %s goes unseen", what)
		}
	}
	a, b := fullRecord(), fullRecord()
	b.LSN, b.LSNAge = 1, 2
	if !sameRecord(a, b) {
		t.Error("every new LSN would be saved")
	}
}
