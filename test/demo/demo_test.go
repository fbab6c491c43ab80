package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogLineIsRead(t *testing.T) {
	e, ok := parseEntry(`2026-11-22 20:30:00.123 INFO  worker 2[4711] server state server=n1 why="3 probes: \"refused\"" new=Failover`)
	if !ok {
		t.Fatal("not taken for a line of the log")
	}
	want := map[string]string{"server": "n1", "why": `3 probes: "refused"`, "new": "Failover"}
	if diff := cmp.Diff(want, e.fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if e.message != "server state" || e.process != "worker 2" || e.level != "INFO" || e.at.Nanosecond() != 123_000_000 {
		t.Errorf("%+v", e)
	}
	for _, other := range []string{"", "panic: no", "2026-11-22 20:30:00.123 INFO  without a process"} {
		if _, ok := parseEntry(other); ok {
			t.Errorf("%q was taken for a line of the log", other)
		}
	}
}

func TestFollowerPutsPiecesOfALineTogether(t *testing.T) {
	var got []string
	f := newFollower()
	f.listen(func(e entry) { got = append(got, e.message) })
	const line = "2026-11-22 20:30:00.123 INFO  supervisor[1] failover complete primary=n2\n"
	for _, piece := range []string{line[:30], line[30:] + line[:5], line[5:]} {
		if n, err := f.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if diff := cmp.Diff([]string{"failover complete", "failover complete"}, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestLongestGapIsBetweenNeighboursInTime(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	if got := longestGap([]time.Time{at(0), at(900), at(100), at(1000)}); got != 800*time.Millisecond {
		t.Errorf("gap %v, want 800ms", got)
	}
	if got := longestGap(nil); got != 0 {
		t.Errorf("gap %v of nothing", got)
	}
}

func TestOnlyAcknowledgedRowsCanBeLost(t *testing.T) {
	stored := map[row]bool{{1, 1}: true, {2, 7}: true}
	if diff := cmp.Diff([]row{{1, 2}}, missing([]row{{1, 1}, {1, 2}}, stored), cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

func TestBrokenPromiseIsCounted(t *testing.T) {
	var v verdict
	v.check(true, "kept")
	v.check(false, "not kept")
	if v.broken != 1 {
		t.Errorf("%d broken, want 1", v.broken)
	}
}
