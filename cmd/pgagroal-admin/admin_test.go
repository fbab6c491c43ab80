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
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if out, err := exec.Command("go", "build", "-ldflags", "-X github.com/pgagroal-go/pgagroal/internal/release.version=7.8", "-o", program, ".").CombinedOutput(); err != nil {
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

// unprivileged is the account of the tests when they are run as root, whose master key never counts.
var unprivileged = &syscall.Credential{Uid: 65534, Gid: 65534}

// emptyPlace makes a home directory without anything in it.
func emptyPlace(t *testing.T) *place {
	t.Helper()
	home, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	p := &place{t: t, home: home, file: filepath.Join(home, "users.conf")}
	p.give(home)
	return p
}

// give makes the account of the tests the owner of a path.
func (p *place) give(path string) {
	p.t.Helper()
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, int(unprivileged.Uid), int(unprivileged.Gid)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// newPlace makes a home directory with a master key.
func newPlace(t *testing.T) *place {
	t.Helper()
	p := emptyPlace(t)
	if r := p.run("", "master-key", "-P", "a master key", "-f", p.file); r.code != 0 {
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
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged}
	}
	return p.finish(cmd, input)
}

// asRoot runs the program as root, on a system that has an account pooler with this home. The test is skipped where
// that can't be.
func (p *place) asRoot(input string, args ...string) result {
	p.t.Helper()
	if os.Geteuid() != 0 {
		p.t.Skip("needs root; run the tests as root too")
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(mounts), " / / ") {
		p.t.Skip("takes a mount namespace of its own, and below a changed root directory there is none")
	}
	passwd := fmt.Sprintf("root:x:0:0::%s/root:/bin/sh\npooler:x:%d:%d::%s:/bin/sh\n", p.home, unprivileged.Uid, unprivileged.Gid, p.home)
	if err := os.WriteFile(filepath.Join(p.home, "passwd"), []byte(passwd), 0o644); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `mount --bind "$1" /etc/passwd && shift && exec "$@"`, "sh", filepath.Join(p.home, "passwd"), program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return p.finish(cmd, input)
}

func (p *place) finish(cmd *exec.Cmd, input string) result {
	p.t.Helper()
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
	if os.Geteuid() == 0 { // as pgagroal would be started as that account
		for _, path := range []string{filepath.Dir(paths.MasterKey), paths.MasterKey} {
			if err := os.Chown(path, 0, 0); err != nil {
				p.t.Fatal(err)
			}
			defer p.give(path)
		}
	}
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
	before, err := os.Stat(p.file)
	if err != nil {
		t.Fatal(err)
	}
	owner := before.Sys().(*syscall.Stat_t).Uid
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
		{"user", "add", "-U", "bob", "-P", strings.Repeat("x", config.MaxPassword+1)},
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
	p := emptyPlace(t)
	for _, args := range [][]string{{"-?"}, {"--help"}, {"-h"}, {"user", "--help"}, {"user", "add", "-?"}, {"-?", "user", "add"}} {
		if r := p.run("", args...); r.code != 0 || !strings.Contains(r.out, "USAGE") {
			t.Errorf("%q: exit %d, %q", args, r.code, r.out)
		}
	}
	for _, args := range [][]string{{"-V"}, {"--version"}, {"user", "-V"}, {"-V", "user", "ls"}} {
		if r := p.run("", args...); r.code != 0 || !strings.HasPrefix(r.out, "pgagroal-admin 7.8 (go") {
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
	if out := p.must("user", "ls").out; !strings.HasPrefix(out, "b\na\nHeader:\n") || !strings.Contains(out, "  Command: 23\n") || strings.Count(out, "a\n") != 1 {
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
	p := emptyPlace(t)
	r := p.run("", "master-key", "-g", "-f", p.file)
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
		q := emptyPlace(t)
		if r := q.run(input, append(args, "-f", q.file)...); r.code != 1 || q.hasKey() {
			t.Errorf("%q with input %q: exit %d", args, input, r.code)
		}
	}
	if r := emptyPlace(t).run("", "user", "add", "-U", "a", "-P", "x", "-f", filepath.Join(p.home, "u")); r.code != 1 {
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

func (p *place) hasKey() bool {
	_, err := os.Lstat(filepath.Join(p.home, ".pgagroal", "master.key"))
	return err == nil
}

func (p *place) configure(text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.home, config.FileConfig), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// TestTheKeyOfTheAccountOfPgagroalCountsWhoeverAsks: pgagroal started as root, and pgagroal-admin run as root, use the
// key of the account that user names.
func TestTheKeyOfTheAccountOfPgagroalCountsWhoeverAsks(t *testing.T) {
	p := emptyPlace(t)
	refused := func(r result, want ...string) {
		t.Helper()
		for _, w := range want {
			if r.code != 1 || !strings.Contains(r.errOut, w) {
				t.Errorf("exit %d, %q; want %q", r.code, r.errOut, w)
			}
		}
	}
	key := filepath.Join(p.home, ".pgagroal", "master.key")
	add := func(name string) []string { return []string{"user", "add", "-U", name, "-P", "x", "-f", p.file} }
	make := []string{"master-key", "-g", "-f", p.file}

	refused(p.asRoot("", add("a")...), "pgagroal never runs as root", "set user in pgagroal.conf", p.home+"/pgagroal.conf")
	refused(p.asRoot("", make...), "pgagroal never runs as root")
	p.configure("[pgagroal]\nuser = nobody-here\n")
	refused(p.asRoot("", add("a")...), "nobody-here", p.home+"/pgagroal.conf")
	p.configure("[pgagroal]\nuser = pooler\n")
	refused(p.asRoot("", add("a")...), "invalid master key of pooler: "+key, "sudo -u pooler pgagroal-admin master-key")
	refused(p.asRoot("", make...), "the master key is that of pooler", "sudo -u pooler pgagroal-admin master-key")
	if p.hasKey() {
		t.Error("root has made a key")
	}
	p.configure("[pgagroal]\nuser = nobody\n") // the same account, on a system without pooler
	p.env = []string{"HOME=" + p.home}
	if r := p.run("", make...); r.code != 0 {
		t.Fatal(r.errOut)
	}
	p.configure("[pgagroal]\nuser = pooler\n")
	if r := p.asRoot("", add("a")...); r.code != 0 {
		t.Fatal(r.errOut)
	}
	if info, err := os.Stat(p.file); err != nil || info.Sys().(*syscall.Stat_t).Uid != unprivileged.Uid || info.Mode().Perm() != 0o600 {
		t.Errorf("the account can't read the file that root has made for it: %v, %+v", err, info)
	}
	if err := os.Chown(p.file, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	if r := p.asRoot("", add("b")...); r.code != 0 {
		t.Fatal(r.errOut)
	}
	if info, err := os.Stat(p.file); err != nil || info.Sys().(*syscall.Stat_t).Uid != 4242 {
		t.Errorf("root doesn't keep the file's owner: %v, %+v", err, info)
	}
	p.configure("[pgagroal]\nuser = root\n")
	refused(p.asRoot("", add("c")...), "pgagroal never runs as root")
	// A key that isn't the account's own could be a link to a file of root's.
	p.configure("[pgagroal]\nuser = pooler\n")
	if err := os.Chown(key, 0, 0); err != nil {
		t.Fatal(err)
	}
	refused(p.asRoot("", add("c")...), key+" belongs to another user; chown pooler it")
}

// TestARootKeyThatIsInTheWayIsNamed is what was obeyed once: a key of root's for users that were added as root.
func TestARootKeyThatIsInTheWayIsNamed(t *testing.T) {
	p := emptyPlace(t)
	p.configure("[pgagroal]\nuser = pooler\n")
	stale := filepath.Join(p.home, "root", ".pgagroal", "master.key")
	if err := os.MkdirAll(filepath.Dir(stale), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := p.asRoot("", "user", "add", "-U", "a", "-P", "x", "-f", p.file); r.code != 1 || !strings.Contains(r.errOut, stale+" is root's and doesn't count") {
		t.Errorf("exit %d, %q", r.code, r.errOut)
	}
}

// TestHomeOfSomebodyElseDoesNotCount: runuser leaves root's HOME in the environment.
func TestHomeOfSomebodyElseDoesNotCount(t *testing.T) {
	p := emptyPlace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root; run the tests as root too")
	}
	if err := errors.Join(os.Chown(p.home, 0, 0), os.Chmod(p.home, 0o755)); err != nil {
		t.Fatal(err)
	}
	if r := p.run("", "master-key", "-g", "-f", p.file); r.code != 1 || strings.Contains(r.errOut, p.home) {
		t.Errorf("exit %d, %q", r.code, r.errOut)
	}
}
