package logline

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

func TestATapGetsLinesThatTheLogLeavesOut(t *testing.T) {
	var out bytes.Buffer
	var got []string
	log := New(&out, "", slog.LevelError, "p")
	Tap(log, func(object []byte) { got = append(got, string(object)) })
	log.Debug("a detail")
	log.With("server", "one").Info("server state", "n", 3)
	log.Error("alarm", "text", strings.Repeat("x", 2*maxTapped))
	if len(got) != 2 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "alarm") {
		t.Fatalf("the tap has %q, the log %.100q", got, out.String())
	}
	var first struct {
		Level, Process, Message string
		Fields                  map[string]any
	}
	if err := json.Unmarshal([]byte(got[0]), &first); err != nil || first.Level != "info" || first.Process != "p" || first.Message != "server state" ||
		first.Fields["server"] != "one" || first.Fields["n"] != 3.0 {
		t.Errorf("%v, %s", err, got[0])
	}
	if len(got[1]) > maxTapped || !json.Valid([]byte(got[1])) {
		t.Errorf("%d bytes", len(got[1]))
	}
	if n := Lines(log); n[0] != 0 || n[2] != 1 {
		t.Errorf("lines that were written: %v", n)
	}
}
