package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestScriptsAreJudgedByOwnerModeAndDirectory(t *testing.T) {
	self, group := uint32(os.Geteuid()), uint32(os.Getegid())
	for name, k := range map[string]struct {
		change func(path string) string // returns the path to check
		uid    uint32
		want   string // "" means accepted
	}{
		"fine":                   {func(p string) string { return p }, self, ""},
		"private":                {func(p string) string { chmod(t, p, 0o700); return p }, self, ""},
		"not executable":         {func(p string) string { chmod(t, p, 0o644); return p }, self, "must be able to read and execute"},
		"writable by others":     {func(p string) string { chmod(t, p, 0o757); return p }, self, "others can change"},
		"missing":                {func(p string) string { return p + "x" }, self, "can't be used"},
		"relative":               {func(string) string { return "script.sh" }, self, "not an absolute path"},
		"a directory":            {filepath.Dir, self, "not a regular file"},
		"directory writable":     {func(p string) string { chmod(t, filepath.Dir(p), 0o777); return p }, self, "others can change"},
		"directory sticky":       {func(p string) string { chmod(t, filepath.Dir(p), 0o777|os.ModeSticky); return p }, self, "others can change"},
		"a link":                 {link(t, 0o755), self, ""},
		"a link in a bad place":  {link(t, 0o777), self, "others can change"},
		"a link to nothing":      {func(p string) string { q := link(t, 0o755)(p); os.Remove(p); return q }, self, "can't be used"},
		"owner group may write":  {func(p string) string { chmod(t, p, 0o775); return p }, self, ""},
		"of a user not the same": {func(p string) string { disown(t, p, self); return p }, self + 1, "is owned by user"},
	} {
		err := CheckScript(k.change(script(t)), k.uid, []uint32{group})
		switch {
		case k.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case k.want != "" && (err == nil || !strings.Contains(err.Error(), k.want)):
			t.Errorf("%s: %v, want %q", name, err, k.want)
		}
	}
}

// link returns a function that makes a link to a script, in a directory of the given mode.
func link(t *testing.T, mode os.FileMode) func(string) string {
	return func(path string) string {
		dir := t.TempDir()
		chmod(t, dir, mode)
		q := filepath.Join(dir, "link")
		if err := os.Symlink(path, q); err != nil {
			t.Fatal(err)
		}
		return q
	}
}

// disown gives path away when the tests run as root, whose files everybody may run.
func disown(t *testing.T, path string, self uint32) {
	t.Helper()
	if self != 0 {
		return
	}
	if err := os.Chown(path, 4242, 4242); err != nil {
		t.Fatal(err)
	}
}

func TestRightsOfUserGroupAndOthers(t *testing.T) {
	path := script(t)
	owner, group := uint32(os.Geteuid()), uint32(os.Getegid())
	const stranger = 99999
	for _, k := range []struct {
		mode   os.FileMode
		uid    uint32
		gids   []uint32
		want   bool
		asRoot bool // holds when the tests run as root, too
	}{
		{0o500, owner, nil, true, true},
		{0o055, owner, []uint32{group}, false, false},
		{0o750, stranger, []uint32{1, group}, true, true},
		{0o750, stranger, []uint32{1}, false, true},
		{0o705, stranger, []uint32{group}, false, true},
		{0o705, stranger, []uint32{1}, true, true},
		{0o711, stranger, nil, false, true}, // a shell must read it
	} {
		if owner == 0 && !k.asRoot {
			continue // root needs nobody's rights, which the next test holds
		}
		chmod(t, path, k.mode)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := allows(info, k.uid, k.gids, 0o5); got != k.want {
			t.Errorf("mode %#o for user %d of %v: %v", k.mode, k.uid, k.gids, got)
		}
	}
}

func TestRootRunsWhatAnybodyMayRun(t *testing.T) {
	path := script(t)
	for mode, want := range map[os.FileMode]bool{0o644: false, 0o755: true, 0o001: true} {
		chmod(t, path, mode)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := allows(info, 0, nil, 0o5); got != want {
			t.Errorf("mode %#o: %v", mode, got)
		}
	}
}
