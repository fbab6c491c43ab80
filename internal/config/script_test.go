package config

import (
	"bytes"
	"os"
	"os/exec"
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
		"fine":                                  {func(p string) string { return p }, self, ""},
		"private":                               {func(p string) string { chmod(t, p, 0o700); return p }, self, ""},
		"not executable":                        {func(p string) string { chmod(t, p, 0o644); return p }, self, "must be able to read and execute"},
		"writable by others":                    {func(p string) string { chmod(t, p, 0o757); return p }, self, "others can change"},
		"missing":                               {func(p string) string { return p + "x" }, self, "can't be used"},
		"relative":                              {func(string) string { return "script.sh" }, self, "not an absolute path"},
		"a directory":                           {filepath.Dir, self, "not a regular file"},
		"directory writable":                    {func(p string) string { chmod(t, filepath.Dir(p), 0o777); return p }, self, "others can change"},
		"directory sticky":                      {func(p string) string { chmod(t, filepath.Dir(p), 0o777|os.ModeSticky); return p }, self, "others can change"},
		"a link":                                {link(t, 0o755), self, ""},
		"a link in a bad place":                 {link(t, 0o777), self, "others can change"},
		"a link to nothing":                     {func(p string) string { q := link(t, 0o755)(p); os.Remove(p); return q }, self, "can't be used"},
		"owner group may write":                 {func(p string) string { chmod(t, p, 0o775); return p }, self, ""},
		"another group may write":               {func(p string) string { regroup(p, self); chmod(t, p, 0o775); return p }, self, asRoot(self, "others can change")},
		"a distant directory writable":          {above(0o777), self, "others can change"},
		"a distant directory writable, sticky":  {above(0o777 | os.ModeSticky), self, ""},
		"a distant directory of a stranger":     {foreign(above(0o755), self), self, asRoot(self, "is owned by user 4242")},
		"a link in a writable place on the way": {linkedDirectory(0o777), self, "others can change"},
		"a link on the way":                     {linkedDirectory(0o755), self, ""},
		"a stranger's link in a sticky place":   {foreign(linkedDirectory(0o777|os.ModeSticky), self), self, asRoot(self, "belongs to neither root nor")},
		"a link in a circle":                    {func(p string) string { os.Remove(p); os.Symlink(p, p); return p }, self, "more than 40 links"},
		"of a user not the same":                {func(p string) string { disown(t, p, self); return p }, self + 1, "is owned by user"},
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

// above returns a function that moves a script three directories down; the first of them has the given
// mode.
func above(mode os.FileMode) func(string) string {
	return func(path string) string {
		top := filepath.Join(filepath.Dir(path), "top")
		q := filepath.Join(top, "middle", "low", "script.sh")
		os.MkdirAll(filepath.Dir(q), 0o755)
		os.Rename(path, q)
		os.Chmod(top, mode)
		return q
	}
}

// linkedDirectory returns a function that makes a link to the script's directory, in a directory of the
// given mode.
func linkedDirectory(mode os.FileMode) func(string) string {
	return func(path string) string {
		top := filepath.Join(filepath.Dir(path), "top")
		os.Mkdir(top, 0o755)
		os.Symlink(filepath.Dir(path), filepath.Join(top, "link"))
		os.Chmod(top, mode)
		return filepath.Join(top, "link", filepath.Base(path))
	}
}

// foreign changes the owner of a part of the path, the directory "top" or the link in it, to a
// stranger; it needs root.
func foreign(change func(string) string, self uint32) func(string) string {
	return func(path string) string {
		q := change(path)
		name := filepath.Join(filepath.Dir(path), "top")
		if _, err := os.Readlink(filepath.Join(name, "link")); err == nil {
			name = filepath.Join(name, "link")
		}
		if self == 0 {
			os.Lchown(name, 4242, 4242)
		}
		return q
	}
}

// regroup gives a file to a group of nobody's; it needs root.
func regroup(path string, self uint32) {
	if self == 0 {
		os.Chown(path, 0, 4242)
	}
}

// asRoot returns the expected result as root, who can give files away.
func asRoot(self uint32, want string) string {
	if self != 0 {
		return ""
	}
	return want
}

// The check reads only the first bytes of a file, as the kernel does.
func TestWhatTheKernelCannotStartIsRefused(t *testing.T) {
	self, group := uint32(os.Geteuid()), uint32(os.Getegid())
	t.Setenv("PATH", "/usr/bin:/bin")
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	foreignLoader := bytes.Replace(program, []byte("/lib64/ld-linux"), []byte("/lib99/ld-linux"), 1)
	for name, k := range map[string]struct{ text, want string }{
		"a shell":                 {"#!/bin/sh\nexit 0\n", ""},
		"blanks and an argument":  {"#! /bin/sh -e\n", ""},
		"no end of line":          {"#!/bin/sh", ""},
		"env":                     {"#!/usr/bin/env sh\n", ""},
		"env with options":        {"#!/usr/bin/env -S nosuch -x\n", ""},
		"a program":               {string(program), ""},
		"empty":                   {"", "is empty"},
		"no #! line":              {"echo promoted\n", "has no #! line"},
		"a blank before it":       {" #!/bin/sh\n", "has no #! line"},
		"a byte order mark":       {"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"},
		"CR LF":                   {"#!/bin/sh\r\nexit 0\r\n", "CR LF"},
		"CR LF after an argument": {"#!/bin/sh -e\r\nexit 0\r\n", "CR LF"},
		"no interpreter":          {"#! \nexit 0\n", "names no interpreter"},
		"a missing interpreter":   {"#!/no/such/bash\n", "is missing"},
		"a relative interpreter":  {"#!sh\n", "no absolute path"},
		"a directory":             {"#!/usr/bin\n", "can't be executed"},
		"not executable":          {"#!/etc/passwd\n", "can't be executed"},
		"nothing for env":         {"#!/usr/bin/env nosuch\n", "is not in PATH"},
		"a very long line":        {"#!/" + strings.Repeat("x", 300) + "\n", "too long"},
		"a broken program":        {"\x7fELF and nothing", "no program that can be started"},
		"a foreign program":       {string(foreignLoader), "is missing"},
	} {
		path := script(t)
		if err := os.WriteFile(path, []byte(k.text), 0o755); err != nil {
			t.Fatal(err)
		}
		err := CheckScript(path, self, []uint32{group})
		switch {
		case k.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case k.want != "" && (err == nil || !strings.Contains(err.Error(), k.want)):
			t.Errorf("%s: %v, want %q", name, err, k.want)
		}
		if _, started := exec.Command(path, "-c", "exit 0").CombinedOutput(); k.want != "" && k.want != "CR LF" && k.want != "is not in PATH" && started == nil {
			t.Errorf("%s is refused, and the kernel starts it", name)
		}
	}
}

// The kernel follows four interpreters that are scripts themselves; a script that names itself would never end.
func TestChainOfInterpretersIsAsLongAsTheKernelAllows(t *testing.T) {
	self, group := uint32(os.Geteuid()), []uint32{uint32(os.Getegid())}
	write := func(path, interpreter string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("#!"+interpreter+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	last := "/bin/true"
	for scripts := 1; scripts <= 8; scripts++ {
		path := script(t)
		write(path, last)
		last = path
		err := CheckScript(path, self, group)
		if started := exec.Command(path).Run(); (err == nil) != (started == nil) {
			t.Errorf("%d scripts: the check says %v, the kernel %v", scripts, err, started)
		}
	}
	loop := script(t)
	write(loop, loop)
	if err := CheckScript(loop, self, group); err == nil || !strings.Contains(err.Error(), "interpreter of an interpreter") {
		t.Errorf("a script that names itself: %v", err)
	}
}

func TestAnInterpreterThatOthersCanExchangeIsRefused(t *testing.T) {
	self, group := uint32(os.Geteuid()), []uint32{uint32(os.Getegid())}
	interpreter := script(t)
	path := script(t)
	if err := os.WriteFile(path, []byte("#!"+interpreter+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CheckScript(path, self, group); err != nil {
		t.Errorf("a script is an interpreter: %v", err)
	}
	chmod(t, filepath.Dir(interpreter), 0o777)
	if err := CheckScript(path, self, group); err == nil || !strings.Contains(err.Error(), "others can change") {
		t.Errorf("%v", err)
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
		{0o711, stranger, nil, false, true}, // the shell must be able to read the script
	} {
		if owner == 0 && !k.asRoot {
			continue // root needs no rights; the next test covers that
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
