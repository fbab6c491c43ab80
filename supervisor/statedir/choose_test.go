package statedir

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

func TestUnusableStateDirIsFatalOnlyWithFailover(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	c := lockConfig(missing, true)
	if _, err := Open(c, self(""), quiet); err == nil || Check(c, self(""), false) == nil {
		t.Errorf("failover goes on without state_dir: %v", err)
	}
	c = lockConfig(missing, false)
	if d, err := Open(c, self(""), quiet); err != nil || d.Usable || d.Lock != nil || Check(c, self(""), false) != nil {
		t.Errorf("%+v, %v", d, err)
	}
}

// With failover = off pgagroal serves without state_dir, but the operator who has set it wants to know.
func TestAConfiguredStateDirThatIsWrongIsToldOfWithoutFailover(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pgagroal.conf")
	missing := filepath.Join(t.TempDir(), "missing")
	if err := os.WriteFile(file, []byte("[pgagroal]\nstate_dir = "+missing+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.LoadMain(file)
	if err != nil {
		t.Fatal(err)
	}
	want := file + ":2: state_dir: stat " + missing + ": no such file or directory"
	if err := Check(c, self(""), true); err == nil || err.Error() != want {
		t.Errorf("asked, it says %v, want %s", err, want)
	}
	if err := Check(c, self(""), false); err != nil {
		t.Errorf("a start is refused: %v", err)
	}
	var log strings.Builder
	if d, err := Open(c, self(""), slog.New(slog.NewTextHandler(&log, nil))); err != nil || d.Usable {
		t.Errorf("%+v, %v", d, err)
	}
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, file+":2") || !strings.Contains(got, missing) {
		t.Errorf("the log says %q", got)
	}
	c.Failover = true
	if _, err := Open(c, self(""), quiet); err == nil || !strings.HasPrefix(err.Error(), file+":2: state_dir can't be used") {
		t.Errorf("with failover the start says %v", err)
	}
	if err := Check(lockConfig("", false), Account{UID: uint32(os.Geteuid()) + 1}, true); err != nil {
		t.Errorf("a directory that nobody has asked for is missed: %v", err)
	}
}

// unset skips the test if this machine has the default state_dir, which would be chosen first.
func unset(t *testing.T) {
	t.Helper()
	if self("").owns(config.DefaultStateDir) == nil {
		t.Skip(config.DefaultStateDir + " is there and ours; run the tests on a machine without the package")
	}
}

func TestUnsetStateDirIsMadeBelowTheHomeDirectory(t *testing.T) {
	unset(t)
	home := filepath.Join(t.TempDir(), ".local", "state")
	c := lockConfig("", true)
	if os.Geteuid() == 0 {
		c.StateDir = filepath.Join(home, "pgagroal") // root could make the first choice, and shall not here
		if err := makeDir(c.StateDir); err != nil {
			t.Fatal(err)
		}
	} else if err := Check(c, self(home), false); err != nil {
		t.Error(err)
	}
	d, err := Open(c, self(home), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	info, err := os.Stat(filepath.Join(home, "pgagroal"))
	if err != nil || info.Mode().Perm() != 0o700 || d.Path != filepath.Join(home, "pgagroal") || !d.Ours || !d.Usable {
		t.Errorf("%+v, %v, %v", d, info, err)
	}
}

func TestUnsetStateDirIsNotMadeForNothing(t *testing.T) {
	unset(t)
	home := filepath.Join(t.TempDir(), "state")
	d, err := Open(lockConfig("", false), self(home), quiet)
	if err != nil || d.Usable {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("a directory was made although nothing needs it")
	}
}

func TestStateDirOfOthersIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(dir string) error{
		"can be written by others": func(dir string) error { return os.Chmod(dir, 0o777) },
		"written by others (mode":  func(dir string) error { return os.Chmod(dir, 0o770) },
		"by its owner":             func(dir string) error { return os.Chmod(dir, 0o500) },
		"is not a directory": func(dir string) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.WriteFile(dir, nil, 0o600)
		},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(lockConfig(dir, true), self(""), quiet); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if err := Check(lockConfig(dir, true), self(""), false); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: the check says %v", what, err)
		}
	}
	dir := t.TempDir()
	if err := Check(lockConfig(dir, true), Account{UID: uint32(os.Geteuid()) + 1}, false); err == nil || !strings.Contains(err.Error(), "belongs to user id") {
		t.Errorf("%v", err)
	}
}

func TestStateOfAnAccountIsWhereItsEnvironmentSays(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/x")
	t.Setenv("HOME", "/h")
	uid := uint32(os.Geteuid())
	if a := AccountOf(uid, true); a.Home != "/x" {
		t.Errorf("%+v", a)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	if a := AccountOf(uid, true); a.Home != "/h/.local/state" {
		t.Errorf("%+v", a)
	}
	if a := AccountOf(uid, false); a.Home == "/h/.local/state" {
		t.Errorf("after a start as root its environment counts: %+v", a)
	}
}

// The output of scripts may tell what is nobody else's business.
func TestStateDirThatEverybodyMayReadIsWarnedOf(t *testing.T) {
	for mode, want := range map[os.FileMode]int{0o700: 0, 0o750: 0, 0o755: 1, 0o701: 1} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		warnOfReaders(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if n := strings.Count(log.String(), "chmod 0750"); n != want {
			t.Errorf("mode %#o: %d warnings, want %d: %s", mode, n, want, log.String())
		}
	}
}
