package supervisor

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// TestTrialNamesAProgramOfAnotherVersion has a package that is half installed.
func TestTrialNamesAProgramOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConsoleProgram)
	for name, c := range map[string]struct{ script, says string }{
		"same":   {"echo 'pgagroal-console 8.0.2 (commit 1, go)'", ""},
		"older":  {"echo 'pgagroal-console 8.0.1 (commit 1, go)'", `is of another version than 8.0.2: it prints "pgagroal-console 8.0.1`},
		"silent": {"true", "is of another version than 8.0.2"},
		"broken": {"exit 3", "doesn't tell its version: exit status 3"},
		"cursed": {"echo 'no such library' >&2; exit 127", "doesn't tell its version: exit status 127: no such library"},
	} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n[ \"$1\" = --version ] || exit 9\n"+c.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = trySiblings(Options{Config: &config.Config{}, Build: "8.0.2", Log: slog.New(slog.DiscardHandler)}, f)
		f.Close()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestTrialNamesAProgramThatIsSilentForTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConsoleProgram)
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	const limit = 100 * time.Millisecond
	if err := ofVersion(path, "8.0.2", limit); err == nil || !strings.Contains(err.Error(), path+" doesn't tell its version within 100ms") {
		t.Errorf("%v", err)
	}
}
