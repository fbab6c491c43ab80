package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// program is the built program; TestMain sets it before any test.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "pgagroal-admin")
	code := 1
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.version=7.8", "-o", program, ".").CombinedOutput(); err != nil {
		fmt.Fprintln(os.Stderr, err, string(out))
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// place is a home directory with a users file in it.
type place struct {
	t    *testing.T
	home string
	file string
	env  []string
}

// newPlace makes a home directory with a master key.
func newPlace(t *testing.T) *place {
	t.Helper()
	home := t.TempDir()
	p := &place{t: t, home: home, file: filepath.Join(home, "users.conf")}
	if r := p.run("", "master-key", "-P", "a master key"); r.code != 0 {
		t.Fatal(r.errOut)
	}
	return p
}

type result struct {
	code        int
	out, errOut string
}

func (p *place) run(input string, args ...string) result {
	p.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append([]string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH")}, p.env...)
	cmd.Stdin = strings.NewReader(input)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// must runs a command on the users file that has to succeed.
func (p *place) must(args ...string) result {
	p.t.Helper()
	r := p.run("", append(args, "-f", p.file)...)
	if r.code != 0 {
		p.t.Fatalf("%v: exit %d, %s", args, r.code, r.errOut)
	}
	return r
}

// users returns what the daemon reads from the users file.
func (p *place) users() []config.Credential {
	p.t.Helper()
	for name, text := range map[string]string{
		config.FileConfig: "[pgagroal]\nhost=*\nport=1\nunix_socket_dir=/\n[a]\nhost=a\nport=1\n", config.FileHBA: "host all all all trust\n",
	} {
		if err := os.WriteFile(filepath.Join(p.home, name), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	paths, err := config.FindPaths(config.Flags{Directory: p.home, Users: p.file})
	if err != nil {
		p.t.Fatal(err)
	}
	paths.MasterKey = filepath.Join(p.home, ".pgagroal", "master.key")
	c, _, err := config.Load(paths)
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Users
}

func TestPasswordsOf64CharactersSurviveAddEditAndDel(t *testing.T) {
	p := newPlace(t)
	long := func(c string) string { return strings.Repeat(c, 64) }
	p.must("user", "add", "-U", "alice", "-P", long("a"))
	p.must("user", "add", "-U", "bob", "-P", long("b"))
	p.must("user", "add", "-U", "größe", "-P", "пароль-€-漢字")
	p.must("user", "edit", "-U", "alice", "-P", long("c"))
	want := []config.Credential{
		{Name: "alice", Password: config.Secret(long("c"))},
		{Name: "bob", Password: config.Secret(long("b"))},
		{Name: "größe", Password: "пароль-€-漢字"},
	}
	if d := cmp.Diff(want, p.users()); d != "" {
		t.Error(d)
	}
	p.must("user", "del", "-U", "bob")
	if d := cmp.Diff(slices.Delete(want, 1, 2), p.users()); d != "" {
		t.Error(d)
	}
	data, err := os.ReadFile(p.file)
	if err != nil || bytes.Count(data, []byte("\n")) != 2 {
		t.Errorf("%v, the file has not one line for each user:\n%s", err, data)
	}
}

func TestCommentsAndOwnerSurviveAnEdit(t *testing.T) {
	p := newPlace(t)
	p.must("user", "add", "-U", "alice", "-P", "one")
	data, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(p.file); info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %#o", info.Mode().Perm())
	}
	if err := os.WriteFile(p.file, []byte("# the team\n\n"+string(data)+"; end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := uint32(os.Geteuid())
	if owner == 0 {
		owner = 4242 // root keeps the daemon's file the daemon's
		if err := os.Chown(p.file, int(owner), int(owner)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(p.file, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(p.home, "link")
	if err := os.Symlink(p.file, link); err != nil {
		t.Fatal(err)
	}
	if r := p.run("", "user", "edit", "-U", "alice", "-P", "two", "-f", link); r.code != 0 {
		t.Fatal(r.errOut)
	}
	info, err := os.Lstat(p.file)
	if err != nil || info.Mode() != 0o640 || info.Sys().(*syscall.Stat_t).Uid != owner {
		t.Errorf("after an edit: %v, mode %v, %+v", err, info.Mode(), info.Sys())
	}
	if l, err := os.Lstat(link); err != nil || l.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link was replaced: %v", err)
	}
	after, _ := os.ReadFile(p.file)
	lines := strings.Split(string(after), "\n")
	if len(lines) != 5 || lines[0] != "# the team" || lines[1] != "" || !strings.HasPrefix(lines[2], "alice:") || lines[3] != "; end" {
		t.Errorf("the file is now\n%s", after)
	}
	if left, _ := filepath.Glob(filepath.Join(p.home, ".users*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusalsExitWith1AndChangeNothing(t *testing.T) {
	p := newPlace(t)
	p.must("user", "add", "-U", "alice", "-P", "one")
	before, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"user", "add", "-U", "alice", "-P", "two"},
		{"user", "edit", "-U", "bob", "-P", "two"},
		{"user", "del", "-U", "bob"},
		{"user", "add", "-U", "a:b", "-P", "two"},
		{"user", "add", "-U", "", "-P", "two"},
		{"user", "add", "-U", "bob", "-P", strings.Repeat("x", 8192)},
		{"user", "add", "-U", "bob", "-P", "\xff"},
		{"user", "add", "-U", "bob", "-P", "x", "-g"},
		{"user", "add", "-U", "bob", "-g", "-l", "1025"},
		{"user", "add", "-U", "bob", "-g", "-l", "0"},
		{"user", "add", "-U", "bob", "-P", "x", "-F", "xml"},
		{"user", "add", "-U", "bob", "-P", "x", "more"},
		{"user", "add", "-U", "bob"}, // no password on an empty input
		{"user", "rename"},
		{"users"},
		{"user"},
		{},
		{"--nope"},
		{"master-key", "-P", "another"},
	} {
		r := p.run("", append(slices.Clone(args), "-f", p.file)...)
		if r.code != 1 || r.errOut == "" {
			t.Errorf("%q: exit %d, %q", args, r.code, r.errOut)
		}
	}
	after, _ := os.ReadFile(p.file)
	if !bytes.Equal(before, after) {
		t.Errorf("the file changed:\n%s", after)
	}
	for _, cmd := range []string{"ls", "edit", "del"} {
		if r := p.run("", "user", cmd, "-U", "a", "-P", "p", "-f", p.file+"x"); r.code != 1 {
			t.Errorf("user %s of a missing file: exit %d", cmd, r.code)
		}
	}
}

func TestHelpAndVersionExitWith0(t *testing.T) {
	p := &place{t: t, home: t.TempDir()}
	for _, args := range [][]string{{"-?"}, {"--help"}, {"-h"}, {"user", "--help"}, {"user", "add", "-?"}, {"-?", "user", "add"}} {
		if r := p.run("", args...); r.code != 0 || !strings.Contains(r.out, "USAGE") {
			t.Errorf("%q: exit %d, %q", args, r.code, r.out)
		}
	}
	for _, args := range [][]string{{"-V"}, {"--version"}, {"user", "-V"}, {"-V", "user", "ls"}} {
		if r := p.run("", args...); r.code != 0 || r.out != "pgagroal-admin 7.8\n" {
			t.Errorf("%q: exit %d, %q", args, r.code, r.out)
		}
	}
}

func TestOptionsAndWordsMayBeMixed(t *testing.T) {
	p := newPlace(t)
	if r := p.run("", "-f", p.file, "-U", "alice", "user", "-P", "-V", "add"); r.code != 0 {
		t.Fatal(r.errOut)
	}
	if got := p.users(); len(got) != 1 || got[0].Name != "alice" || got[0].Password.Reveal() != "-V" {
		t.Errorf("%d users, or another password", len(got))
	}
}

func TestPasswordComesFromTheEnvironmentOrTheInput(t *testing.T) {
	p := newPlace(t)
	if r := p.run("alice\nfrom the input\n", "user", "add", "-f", p.file); r.code != 0 {
		t.Fatal(r.errOut)
	}
	p.env = []string{passwordVariable + "=from the environment"}
	if r := p.run("not this\n", "user", "add", "-U", "bob", "-f", p.file); r.code != 0 {
		t.Fatal(r.errOut)
	}
	got := p.users()
	if len(got) != 2 || got[0].Password.Reveal() != "from the input" || got[1].Password.Reveal() != "from the environment" {
		t.Errorf("%d users, or other passwords", len(got))
	}
}

func TestGeneratedPasswordsAreShownOnceAndStored(t *testing.T) {
	p := newPlace(t)
	text := p.must("user", "add", "-U", "a", "-g").out
	shown, found := strings.CutPrefix(strings.SplitN(text, "\n", 2)[0], "Password : ")
	if !found || len(shown) != 64 {
		t.Errorf("shown %q", text)
	}
	var document struct{ Response struct{ Password string } }
	if err := json.Unmarshal([]byte(p.must("user", "edit", "-U", "a", "-g", "-l", "10", "-F", "json").out), &document); err != nil {
		t.Fatal(err)
	}
	got := p.users()[0].Password.Reveal()
	if len(got) != 10 || got != document.Response.Password || strings.HasPrefix(shown, got) {
		t.Errorf("the stored password is not the shown one")
	}
}

func TestListPrintsNamesAndADocument(t *testing.T) {
	p := newPlace(t)
	p.must("user", "add", "-U", "b", "-P", "x")
	p.must("user", "add", "-U", "a", "-P", "x")
	if out := p.must("user", "ls").out; !strings.HasPrefix(out, "b\na\nHeader:\n") || !strings.Contains(out, "  Command: 23\n") {
		t.Errorf("text:\n%s", out)
	}
	var document struct {
		Header   map[string]any
		Outcome  map[string]any
		Response struct{ Users []string }
	}
	if err := json.Unmarshal([]byte(p.must("user", "ls", "-F", "json").out), &document); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(document.Response.Users, []string{"b", "a"}) || document.Header["Command"] != 23.0 ||
		document.Header["ClientVersion"] != "7.8" || document.Outcome["Status"] != true {
		t.Errorf("%+v", document)
	}
	r := p.run("", "user", "del", "-U", "c", "-F", "json", "-f", p.file)
	if err := json.Unmarshal([]byte(r.out), &document); err != nil || document.Outcome["Status"] != false || document.Outcome["Error"] != 1.0 {
		t.Errorf("a failure: %v %+v", err, document.Outcome)
	}
}

func TestFilesThatTheDaemonRefusesAreSaid(t *testing.T) {
	p := newPlace(t)
	p.must("user", "add", "-U", "a", "-P", "x")
	f, err := os.OpenFile(p.file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteString("tail-of-a-long-line==\n"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if r := p.run("", "user", "ls", "-f", p.file); r.code != 1 || !strings.HasPrefix(r.out, "a\n") || !strings.Contains(r.errOut, "users.conf:2") {
		t.Errorf("ls: exit %d, %q, %q", r.code, r.out, r.errOut)
	}
	if r := p.must("user", "add", "-U", "b", "-P", "x"); !strings.Contains(r.errOut, "warning: ") {
		t.Errorf("add: %q", r.errOut)
	}
}

func TestMasterKeyIsPrivateAndNeverShown(t *testing.T) {
	p := &place{t: t, home: t.TempDir()}
	r := p.run("", "master-key", "-g")
	path := filepath.Join(p.home, ".pgagroal", "master.key")
	if r.code != 0 || !strings.Contains(r.out, "Master Key stored into "+path) || strings.Contains(r.out, "Password") {
		t.Errorf("exit %d, %q %q", r.code, r.out, r.errOut)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, err, info.Mode())
		}
	}
	for input, args := range map[string][]string{"short\n": {"master-key"}, "": {"master-key", "-P", ""}} {
		q := &place{t: t, home: t.TempDir()}
		if r := q.run(input, args...); r.code != 1 || exists(filepath.Join(q.home, ".pgagroal", "master.key")) {
			t.Errorf("%q with input %q: exit %d", args, input, r.code)
		}
	}
	if r := (&place{t: t, home: t.TempDir()}).run("", "user", "add", "-U", "a", "-P", "x", "-f", filepath.Join(p.home, "u")); r.code != 1 {
		t.Errorf("a user without a master key: exit %d", r.code)
	}
}

// TestAllOfManyAtOnceAreInTheFile: each changes the file that the others have left.
func TestAllOfManyAtOnceAreInTheFile(t *testing.T) {
	p := newPlace(t)
	p.must("-U", "first", "-P", "secret", "user", "add")
	const many = 12
	var wg sync.WaitGroup
	results := make([]result, many)
	for i := range many {
		wg.Go(func() {
			results[i] = p.run("", "-U", fmt.Sprintf("u%02d", i), "-P", "secret", "-f", p.file, "user", "add")
		})
	}
	for range 3 { // of one user only one can be the first
		wg.Go(func() { p.run("", "-U", "same", "-P", "secret", "-f", p.file, "user", "add") })
	}
	wg.Wait()
	want := []string{"first", "same"}
	for i, r := range results {
		if r.code != 0 {
			t.Errorf("exit %d: %s", r.code, r.errOut)
		}
		want = append(want, fmt.Sprintf("u%02d", i))
	}
	var got []string
	for _, u := range p.users() {
		got = append(got, u.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLockOfTheUsersIsWaitedForButNotForEver(t *testing.T) {
	p := newPlace(t)
	p.must("-U", "first", "-P", "secret", "user", "add")
	dir, err := os.Open(p.home)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := p.run("", "-U", "late", "-P", "secret", "-f", p.file, "user", "add")
	if r.code != 1 || !strings.Contains(r.errOut, "another process has locked") {
		t.Errorf("exit %d, %s", r.code, r.errOut)
	}
}
