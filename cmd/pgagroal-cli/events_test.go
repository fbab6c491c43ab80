package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// A reader learns what it has missed, and goes on when pgagroal has been started again.
func TestEventsAreFollowed(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {"1 events before these", "n=2", "n=3", "n=4", "1 events before these", "n=9"},
		"json": {`{"missed":1}`, `"n":2`, `"n":3`, `"n":4`, `{"missed":1}`, `"n":9`},
	} {
		got := invoke("events", "--follow", "-F", format, "--socket", listen(t, &fake{}, 0))
		lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
		if len(lines) != len(want) || got.code != control.ExitFailed || !strings.Contains(got.errors, "the end of the test") {
			t.Fatalf("%s: exit code %d, %q\n%s", format, got.code, got.errors, got.out)
		}
		for i, text := range want {
			if !strings.Contains(lines[i], text) {
				t.Errorf("%s: line %d has no %s: %s", format, i+1, text, lines[i])
			}
			if format == "json" && !json.Valid([]byte(lines[i])) {
				t.Errorf("no JSON: %s", lines[i])
			}
		}
	}
}
