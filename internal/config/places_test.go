package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stranger is an account whose rights the test can take away: another one if the test runs as root.
func stranger() CheckEnv {
	if os.Geteuid() == 0 {
		return CheckEnv{UID: 65534, GIDs: []uint32{65534}}
	}
	return selfEnv()
}

// openTo makes a directory in which every account may make files; its parent can be searched.
func openTo(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	dir := filepath.Join(parent, "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Dir(parent): 0o755, parent: 0o755, dir: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDirectoriesOfWhatPgagroalMakesAreLookedAt(t *testing.T) {
	for key, set := range map[string]func(c *Config, dir string){
		"pidfile":         func(c *Config, dir string) { c.PIDFile = filepath.Join(dir, "p.pid") },
		"log_path":        func(c *Config, dir string) { c.LogType, c.LogPath = "file", filepath.Join(dir, "%Y.log") },
		"unix_socket_dir": func(c *Config, dir string) { c.UnixSocketDir = dir },
	} {
		said := func(dir string) string {
			t.Helper()
			return fmt.Sprint(checked(t, stranger(), func(c *Config) {
				c.UnixSocketDir = openTo(t)
				set(c, dir)
			}))
		}
		good := openTo(t)
		if got := said(good); got != "[]" {
			t.Errorf("%s: a directory that is all right: %s", key, got)
		}
		missing := filepath.Join(good, "missing")
		if got, want := said(missing), key+": "+missing+" is not a directory"; !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
		file := filepath.Join(good, "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, want := said(file), key+": "+file+" is not a directory"; !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
		closed := openTo(t)
		if err := os.Chmod(closed, 0o555); err != nil {
			t.Fatal(err)
		}
		if got, want := said(closed), key+": "+closed+" can't be written by the account"; !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
	}
}

func TestADirectoryBelowOneThatCannotBeEnteredIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root sees below a directory that the account can't enter; run the tests as root too")
	}
	dir := openTo(t)
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if mayWrite(dir, 65534, []uint32{65534}) {
		t.Error("it counts as writable")
	}
}

// Neither is known before the start.
func TestARelativeLogPathAndADirectoryNamedByTimeAreLeftToTheStart(t *testing.T) {
	for _, path := range []string{"", "missing/pgagroal.log", "/nonexistent/%Y/pgagroal.log"} {
		if errs := checked(t, selfEnv(), func(c *Config) { c.LogType, c.LogPath = "file", path }); len(errs) > 0 {
			t.Errorf("%s: %v", path, errs)
		}
	}
	if errs := checked(t, selfEnv(), func(c *Config) { c.LogType, c.LogPath = "console", "/nonexistent/pgagroal.log" }); len(errs) > 0 {
		t.Errorf("a log file that isn't written: %v", errs)
	}
}
