package logline

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// flood writes lines of one text.
func flood(log *slog.Logger, lines int) {
	for i := range lines {
		log.Info("a stranger knocks", "i", i)
	}
}

func TestAFloodOfAlikeLinesIsCutAndCounted(t *testing.T) {
	w := newStuck()
	q := NewQueue(w)
	log := New(q, "", LevelTrace, "p")
	flood(log.With("k", "v"), alikeMax+7)
	flood(Unlimited(log), 3)
	for range alikeMax + 1 {
		log.Debug("asked for")
	}
	log.Info("another text")
	q.Close(generous)
	got := w.got.String()
	if n := strings.Count(got, "a stranger knocks k=v"); n != alikeMax {
		t.Errorf("%d lines were written", n)
	}
	if n := strings.Count(got, "a stranger knocks i="); n != 3 {
		t.Errorf("%d of 3 unlimited lines", n)
	}
	if n := strings.Count(got, "asked for"); n != alikeMax+1 || !strings.Contains(got, "another text") {
		t.Errorf("%d lines at debug, or not the other text", n)
	}
	if want := `lines are left out: too many were alike text="a stranger knocks" reason="" lines=7 within=10s`; strings.Count(got, want) != 1 {
		t.Errorf("it ends in %q", got[len(got)-200:])
	}
	if n := Lines(log)[0]; n != alikeMax+3+1 {
		t.Errorf("%d lines count as written", n)
	}
}

func TestAfterATimeLinesAreWrittenAgain(t *testing.T) {
	var l limiter
	now := time.Now()
	k := likeness{about: about{text: "t"}}
	pass := func() bool { _, ok, _, _ := l.pass(k, now); return ok }
	for range alikeMax {
		if !pass() {
			t.Fatal("too early")
		}
	}
	now = now.Add(alikeTime)
	if !pass() {
		t.Error("a new time has begun")
	}
	for range alikeMax - 1 {
		pass()
	}
	if _, ok, first, wait := l.pass(k, now.Add(time.Second)); ok || !first || wait != alikeTime-time.Second {
		t.Errorf("the first of too many: %v %v %v", ok, first, wait)
	}
	if _, ok, first, _ := l.pass(k, now.Add(time.Hour)); ok || first {
		t.Error("lines pass before the report of those that were dropped")
	}
	if n := l.take(k, now); n != 2 || !pass() || l.take(k, now) != 0 {
		t.Errorf("%d were dropped", n)
	}
}

func TestAFloodHidesNoOtherReason(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, "", slog.LevelInfo, "p")
	for range 2 * alikeMax {
		log.Info("client refused", "address", "1.2.3.4", "reason", "no rule")
	}
	log.Info("client refused", "address", "1.2.3.4", "reason", errors.New("another one"))
	if n := strings.Count(b.String(), "no rule"); n != alikeMax || !strings.Contains(b.String(), "another one") {
		t.Errorf("%d lines of the flood, or not the other reason", n)
	}
}

func TestAFloodAboutOneServerHidesNoOther(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, "", slog.LevelInfo, "p")
	for range 2 * alikeMax {
		log.Info("no connection", "server", "one", "reason", "r")
		log.With("server", "two").Info("no connection", "reason", "r")
	}
	log.Info("no connection", "server", "three", "reason", "r")
	one, two, three := strings.Count(b.String(), "server=one"), strings.Count(b.String(), "server=two"), strings.Count(b.String(), "server=three")
	if one != alikeMax || two != alikeMax || three != 1 {
		t.Errorf("%d, %d and %d lines", one, two, three)
	}
}

// TestReasonsAreForgotten: strangers have made up more reasons than are told apart; later
// a flood for one of them hides no other reason.
func TestReasonsAreForgotten(t *testing.T) {
	var l limiter
	now := time.Now()
	pass := func(reason string) bool {
		_, ok, _, _ := l.pass(likeness{about{text: "t"}, reason}, now)
		return ok
	}
	for range alikeMax + 1 {
		pass("kept, since its dropped line is not reported yet")
	}
	for i := range 3 * alikeReasons {
		pass(fmt.Sprint("made up ", i))
	}
	now = now.Add(alikeTime)
	for range 2 * alikeMax {
		pass("a flood")
	}
	if !pass("another") || len(l.kinds) != 3 || len(l.reasons) != 1 || l.reasons[about{text: "t"}] != 3 {
		t.Errorf("another reason doesn't pass, or %d kinds and %v reasons", len(l.kinds), l.reasons)
	}
	if n := l.take(likeness{about{text: "t"}, "kept, since its dropped line is not reported yet"}, now); n != 1 {
		t.Errorf("%d dropped lines were forgotten", 1-n)
	}
}

func TestWhatIsCountedIsBounded(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, "", slog.LevelInfo, "p")
	for i := range 2 * alikeTexts {
		log.Info(fmt.Sprint("text ", i))
	}
	for i := range 10 * alikeMax {
		log.Info("text 0", "error", fmt.Sprint("made up ", i))
	}
	l := &log.Handler().(*handler).limit
	if n := len(l.kinds); n != alikeTexts+alikeReasons-1 {
		t.Errorf("%d kinds are kept", n)
	}
	if n := strings.Count(b.String(), "made up"); n != alikeReasons-1+alikeMax-1 {
		t.Errorf("%d lines with reasons that were made up", n)
	}
}
