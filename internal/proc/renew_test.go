package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// program is the path of this test, which starters run.
func program(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAStarterThatIsRenewedKeepsItsChildrenAndItsUser(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	p, before := startWorker(t, s, 0)
	if err := s.MayRenew(program(t)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Renew(program(t)); err != nil {
			t.Fatal(err)
		}
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.PID()))
	if want := fmt.Sprintf("%s=%d:", childrenVariable, p.Pid); err != nil || !strings.Contains(string(env), want) {
		t.Errorf("it has executed nothing: %q, %v", env, err)
	}
	if title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID())); err != nil || string(title) != starterTitle+"\x00" {
		t.Errorf("it is called %q, %v", title, err)
	}
	after, a := startWorker(t, s, 0)
	if a.UID != before.UID || a.PPID != os.Getpid() {
		t.Errorf("what it starts now is %+v, and was %+v", a, before)
	}
	checkChild(t, s, after, a)
	checkChild(t, s, p, before)
}

func TestAStarterExecutesOnlyWhatRootHasInstalled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	nobody, err := CredentialOf("nobody")
	if err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	link := filepath.Join(theirs, "link")
	if err := errors.Join(os.Chown(theirs, int(nobody.Uid), 0), os.Symlink(program(t), link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		"": unix.ENOENT, "/nonexistent": unix.ENOENT, link: unix.EPERM, "/bin/true": unix.ESTALE,
	} {
		s, err := NewStarter(StarterSpec{User: "nobody", Env: []string{"PROC_TEST=starter", "LANG=C", quickExit}, Program: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		for name, renew := range map[string]func(string) error{"MayRenew": s.MayRenew, "Renew": s.Renew} {
			err := renew(program(t))
			if !errors.Is(err, want) || !strings.Contains(err.Error(), program(t)) || !strings.Contains(err.Error(), renewRemedy(want)) {
				t.Errorf("%s of %q: %v, want %v", name, path, err, want)
			}
		}
		p, a := startWorker(t, s, 0) // it is what it was
		checkChild(t, s, p, a)
	}
}

// The account and the console of a starter that goes on as another program may be gone by then.
func TestAStarterSaysBeforeWhatTheNextProgramWouldMiss(t *testing.T) {
	t.Parallel()
	for want, s := range map[error]starter{
		nil: {user: "root"}, unix.ENXIO: {user: "no such account"}, unix.ENOENT: {user: "root", console: "no such program"},
	} {
		if err := s.learnable(); !errors.Is(err, want) {
			t.Errorf("user %s, console %q: %v, want %v", s.user, s.console, err, want)
		}
	}
}

func TestOnlyRootChangesFollowsThePath(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"roots", "sticky", "open", "theirs"} {
		must(os.Mkdir(at(name), 0o755))
		must(os.WriteFile(at(name+"/file"), nil, 0o755))
	}
	must(os.Chmod(at("sticky"), 0o777|os.ModeSticky))
	must(os.Chmod(at("open"), 0o777))
	must(os.Chown(at("theirs"), 65534, 65534))
	for name, mode := range map[string]os.FileMode{"public": 0o757, "group": 0o775, "roots group": 0o775} {
		must(os.WriteFile(at(name), nil, 0o755))
		must(os.Chmod(at(name), mode))
	}
	must(os.Chown(at("group"), 0, 65534))
	for name, to := range map[string]string{
		"direct": "roots/file", "up": "roots/../roots/file", "absolute": at("roots/file"),
		"bad": at("open/file"), "loop": "loop", "chain": "theirs/onwards", "theirs/onwards": "../roots/file",
	} {
		must(os.Symlink(to, at(name)))
	}
	for name, says := range map[string]string{
		"roots/file": "", "sticky/file": "", "direct": "", "up": "", "absolute": "",
		"open/file": "can write to " + at("open"), "theirs/file": "belongs to user 65534", "public": "can write to", "group": "can write to", "roots group": "can write to",
		"bad": "can write to " + at("open"), "loop": syscall.ELOOP.Error(), "chain": at("theirs") + " belongs to user 65534", "missing": "no such file",
	} {
		err := OnlyRootChanges(at(name))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
}
