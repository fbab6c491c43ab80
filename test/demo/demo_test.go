package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
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

func TestPictureHasEveryMomentAndSuccess(t *testing.T) {
	p := picture{
		heading: "a < b", reads: []time.Duration{-time.Second, 0, 10 * time.Millisecond}, writes: []time.Duration{-100 * time.Millisecond, time.Second},
		moments: []moment{{0, "kill"}, {1200 * time.Millisecond, `n2: "Primary" & open`}},
	}
	var out strings.Builder
	if err := p.write(&out); err != nil {
		t.Fatal(err)
	}
	texts, classes := map[string]bool{}, map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts[string(token)] = true
		case xml.StartElement:
			for _, a := range token.Attr {
				if a.Name.Local == "class" {
					classes[token.Name.Local+"."+a.Value]++
				}
			}
		}
	}
	for _, want := range []string{"a < b", "kill", "+1.200 s", `n2: "Primary" & open`, "0.0 s", "1.5 s"} {
		if !texts[want] {
			t.Errorf("the picture doesn't say %q", want)
		}
	}
	// One of each kind is the legend; the read a second before the kill is not shown, and two are in one bar.
	if classes["rect.read"] != 2 || classes["rect.write"] != 3 || classes["line.mark"] != 2 {
		t.Errorf("drawn: %v", classes)
	}
}
