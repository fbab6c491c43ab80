package logline

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestLineHasTimeLevelProcessMessageAndFields(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, "%Y-%m-%d %H:%M:%S", slog.LevelInfo, "worker 2").With("server", "one")
	log.WithGroup("run").Warn("it is late", "id", 7, "why", "two words")
	want := fmt.Sprintf(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARN  worker 2\[%d\] it is late server=one run\.id=7 run\.why="two words"\n$`, os.Getpid())
	if !regexp.MustCompile(want).MatchString(b.String()) {
		t.Errorf("%q is not like %s", b.String(), want)
	}
}

func TestOneEventIsOneLine(t *testing.T) {
	var b bytes.Buffer
	New(&b, "", slog.LevelInfo, "p").Info("first\nsecond", "k\n", "a\nb\x1b[31m\u2028c")
	if n := strings.Count(b.String(), "\n"); n != 1 || strings.Contains(b.String(), "\x1b") || strings.Contains(b.String(), "\u2028") {
		t.Errorf("%d line ends in %q", n, b.String())
	}
}

func TestEmptyPrefixLeavesNoBlankInFront(t *testing.T) {
	var b bytes.Buffer
	New(&b, "", slog.LevelInfo, "p").Info("x")
	if !strings.HasPrefix(b.String(), "INFO ") {
		t.Errorf("%q", b.String())
	}
}

func TestLevelsAreThoseOfTheConfiguration(t *testing.T) {
	for word, want := range map[string]string{
		"trace": "TRACE", "debug5": "TRACE", "debug": "DEBUG", "debug1": "DEBUG", "info": "INFO",
		"warn": "WARN", "error": "ERROR", "fatal": "FATAL", "nonsense": "INFO",
	} {
		if got := name(Level(word)); got != want {
			t.Errorf("%s is %s, not %s", word, got, want)
		}
	}
	var b bytes.Buffer
	log := New(&b, "", Level("error"), "p")
	log.Warn("no")
	log.Log(t.Context(), LevelFatal, "yes")
	if got := b.String(); strings.Contains(got, "no") || !strings.HasPrefix(got, "FATAL") {
		t.Errorf("%q", got)
	}
}
