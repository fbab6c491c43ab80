package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// limit bounds every wait; it is never reached unless something is broken.
const limit = 30 * time.Second

func TestMain(m *testing.M) {
	if mode := os.Getenv("PROC_TEST"); mode != "" {
		os.Exit(child(mode))
	}
	os.Exit(m.Run())
}

// quickExit keeps a child built with the race detector from lingering a second.
const quickExit = "GORACE=atexit_sleep_ms=0"

// seen is what a child reports of itself.
type seen struct {
	Fds      []string
	Role     Role
	Linked   bool
	Linked2  bool
	Env      []string
	Args     []string
	Dir      string
	Pgid     int
	Pid      int
	Uid      int
	NNP      string
	Dropped  string
	Asserted string
}

func child(mode string) int {
	if mode == "starter" {
		return starterChild()
	}
	if mode == "hidden" {
		return hiddenChild()
	}
	var s seen
	s.Fds = openDescriptors()
	_, s.Role, s.Linked = Link()
	_, _, s.Linked2 = Link()
	s.Env, s.Args, s.Pid, s.Uid, s.Pgid = os.Environ(), os.Args, os.Getpid(), os.Getuid(), unix.Getpgrp()
	s.Dir, _ = os.Getwd()
	switch mode {
	case "report":
		st, err := readStatus("/proc/self/status")
		if err != nil {
			return 2
		}
		s.NNP = strings.Join(st["NoNewPrivs"], "")
		s.Asserted = text(AssertPrivileges(os.Getuid(), os.Getgid(), nil))
	case "drop":
		s.Dropped = text(DropTo("nobody"))
		s.Uid = os.Getuid()
		s.Asserted = text(AssertPrivileges(os.Getuid(), os.Getgid(), nil))
	case "saved":
		// Root hidden in the saved user id, as a drop with seteuid leaves it.
		if err := syscall.Setresuid(65534, 65534, 0); err != nil {
			return 2
		}
		s.Asserted = text(AssertPrivileges(65534, os.Getgid(), nil))
	case "nnp":
		s.NNP = text(NoNewPrivs())
		s.Linked2 = threadsHaveNoNewPrivs()
	case "hold":
		io.Copy(io.Discard, os.NewFile(LinkFD, "link"))
		return 0
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return 3
	}
	return 0
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// openDescriptors leaves out the descriptors that this process opened itself: the listing,
// and those of the Go runtime for events and for the limits of the control group.
func openDescriptors() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	var fds []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		own := strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "/sys/fs/cgroup/") ||
			to == fmt.Sprintf("/proc/%d/fd", os.Getpid())
		if err != nil || own {
			continue
		}
		fds = append(fds, e.Name())
	}
	slices.Sort(fds)
	return fds
}

func linkPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// report runs a child to its end and returns what it saw.
func report(t *testing.T, mode string, spec Spec) seen {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec.Env = append(spec.Env, "PROC_TEST="+mode, quickExit)
	spec.Stdout = w
	p, err := Spawn(spec)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait()
	if err != nil || !st.Success() {
		t.Fatalf("child ended with %v, %v, and wrote %q", st, err, out)
	}
	var s seen
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return s
}

func TestChildHasExactlyWhatItIsGiven(t *testing.T) {
	// A descriptor that isn't close-on-exec, as a careless parent leaves it.
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	t.Setenv("SECRET", "not for children")
	_, theirs := linkPair(t)
	lock, _, _, err := Lock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	got := report(t, "report", Spec{
		Role: RoleWorker, Argv0: "pgagroal: worker 2", Files: []*os.File{theirs, lock},
		Env: []string{"LANG=C"}, NoNewPrivs: true,
	})
	want := seen{
		Fds: []string{"0", "1", "2", "3", "4"}, Role: RoleWorker, Linked: true, Env: []string{"LANG=C", "PROC_TEST=report", quickExit},
		Args: []string{"pgagroal: worker 2"}, Dir: "/", Pgid: got.Pid, Pid: got.Pid, Uid: os.Getuid(), NNP: "1",
		Asserted: got.Asserted,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChildWithoutNoNewPrivsMayGainThem(t *testing.T) {
	_, theirs := linkPair(t)
	got := report(t, "report", Spec{Role: RoleRunner, Argv0: "r", Files: []*os.File{theirs}})
	if got.NNP != "0" || got.Role != RoleRunner {
		t.Errorf("NoNewPrivs %s, role %s", got.NNP, got.Role)
	}
}

func TestNoNewPrivsIsAProofInAChildThatHasIt(t *testing.T) {
	_, theirs := linkPair(t)
	got := report(t, "nnp", Spec{Role: RoleWorker, Argv0: "w", Files: []*os.File{theirs}, NoNewPrivs: true})
	if got.NNP != "" || !got.Linked2 {
		t.Errorf("error %q, set on all threads: %v", got.NNP, got.Linked2)
	}
	got = report(t, "nnp", Spec{Role: RoleWorker, Argv0: "w", Files: []*os.File{theirs}})
	if (got.NNP == "") != got.Linked2 {
		t.Errorf("error %q, but set on all threads: %v", got.NNP, got.Linked2)
	}
}

func TestLinkNeedsVariableAndSocket(t *testing.T) {
	_, theirs := linkPair(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if got := report(t, "report", Spec{Role: RoleWorker, Argv0: "w", Files: []*os.File{null}}); got.Linked {
		t.Error("a file that isn't a socket was taken for a link")
	}
	if got := report(t, "report", Spec{Role: RoleWorker, Argv0: "w"}); got.Linked {
		t.Error("no descriptor at all was taken for a link")
	}
	if got := report(t, "report", Spec{Role: "king", Argv0: "w", Files: []*os.File{theirs}}); got.Linked {
		t.Error("an unknown role was taken for a child")
	}
	stream, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(stream[0]), "stream")
	defer f.Close()
	defer unix.Close(stream[1])
	if got := report(t, "report", Spec{Role: RoleWorker, Argv0: "w", Files: []*os.File{f}}); got.Linked {
		t.Error("a stream socket was taken for a link")
	}
}

func TestChildRunsAsAnotherUserAndCannotComeBack(t *testing.T) {
	needRoot(t)
	cred, err := CredentialOf("nobody")
	if err != nil {
		t.Fatal(err)
	}
	got := report(t, "report", Spec{Role: RoleWorker, Argv0: "w", Credential: cred})
	if got.Uid != int(cred.Uid) || got.Asserted != "" {
		t.Errorf("user %d, assertion %q", got.Uid, got.Asserted)
	}
}

func TestDropLeavesNoWayBack(t *testing.T) {
	needRoot(t)
	got := report(t, "drop", Spec{Role: RoleWorker, Argv0: "w"})
	if got.Uid != 65534 || got.Dropped != "" || got.Asserted != "" {
		t.Errorf("user %d, drop %q, assertion %q", got.Uid, got.Dropped, got.Asserted)
	}
}

func TestAssertionSeesASavedRoot(t *testing.T) {
	needRoot(t)
	got := report(t, "saved", Spec{Role: RoleWorker, Argv0: "w"})
	if !strings.Contains(got.Asserted, "user ids") {
		t.Errorf("assertion says %q", got.Asserted)
	}
}

func TestAssertionNamesWhatIsTooMuch(t *testing.T) {
	good := func() status {
		return status{
			"Uid": {"7", "7", "7", "7"}, "Gid": {"8", "8", "8", "8"}, "Groups": {"8", "9"},
			"CapInh": {"0000"}, "CapPrm": {"0000"}, "CapEff": {"0000"}, "CapAmb": {"0000"},
		}
	}
	if err := good().check(7, 8, []int{9}); err != nil {
		t.Errorf("refused: %v", err)
	}
	for _, c := range []struct {
		line, want string
		value      []string
	}{
		{"Uid", "user ids", []string{"7", "7", "0", "7"}},
		{"Gid", "group ids", []string{"8", "8", "8", "0"}},
		{"Groups", "supplementary group 10", []string{"8", "10"}},
		{"CapEff", "CapEff", []string{"0400"}},
		{"CapAmb", "CapAmb", nil},
		{"Uid", "can't be read", nil},
	} {
		st := good()
		st[c.line] = c.value
		if err := st.check(7, 8, []int{9}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v", c.line, c.value, err)
		}
	}
}

func TestDropToRootIsRefused(t *testing.T) {
	if err := DropTo("root"); err == nil {
		t.Error("no error")
	}
	if err := DropTo("no such user here"); err == nil {
		t.Error("no error for an unknown user")
	}
}

func TestLockLivesUntilTheLastChildIsGone(t *testing.T) {
	dir := t.TempDir()
	lock, held, _, err := Lock(dir)
	if err != nil || held {
		t.Fatal(held, err)
	}
	ours, theirs := linkPair(t)
	p, err := Spawn(Spec{
		Role: RoleWorker, Argv0: "w", Files: []*os.File{theirs, lock},
		Env: []string{"PROC_TEST=hold", quickExit},
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	lock.Close()
	waiting, held, holder, err := Lock(dir)
	if err != nil || !held || holder != os.Getpid() {
		t.Errorf("held %v by %d, %v", held, holder, err)
	}
	waiting.Close()
	ours.Close()
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	again, held, _, err := Lock(dir)
	if err != nil || held {
		t.Fatalf("held %v after the end of the child, %v", held, err)
	}
	again.Close()
}

// A supervisor that has to wait for the lock has already started children. Once it takes
// the lock, they hold it too, and keep it when that supervisor is gone.
func TestLockTakenLaterIsThatOfChildrenStartedBefore(t *testing.T) {
	dir := t.TempDir()
	hold := func(lock *os.File) (end func()) {
		ours, theirs := linkPair(t)
		p, err := Spawn(Spec{
			Role: RoleWorker, Argv0: "w", Files: []*os.File{theirs, lock},
			Env: []string{"PROC_TEST=hold", quickExit},
		})
		if err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		return func() {
			ours.Close()
			if _, err := p.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	first, _, _, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	endHolder := hold(first)
	first.Close()
	second, held, _, err := Lock(dir)
	if err != nil || !held {
		t.Fatal(held, err)
	}
	endChild := hold(second)
	if held, err := Relock(second); !held || err != nil {
		t.Errorf("taken from a holder that lives: %v, %v", held, err)
	}
	endHolder()
	if held, err := Relock(second); held || err != nil {
		t.Fatalf("held %v after the end of the holder, %v", held, err)
	}
	second.Close()
	third, held, _, err := Lock(dir)
	if err != nil || !held {
		t.Errorf("held %v although the child lives, %v", held, err)
	}
	endChild()
	if held, err := Relock(third); held || err != nil {
		t.Errorf("held %v after the end of the child, %v", held, err)
	}
	third.Close()
}

func TestLockIsNeverASymlink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, LockName)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Lock(dir); err == nil {
		t.Error("followed a symbolic link")
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("the file behind the link holds %q", b)
	}
}

// zombie starts a process in a group of its own and lets it end unreaped.
func zombie(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
	waitUntil(t, "the child is a zombie", func() bool {
		st, err := readStat(cmd.Process.Pid)
		return err == nil && st.dead()
	})
	return cmd
}

func TestZombiesCountAsDead(t *testing.T) {
	if !ProcessAlive(os.Getpid()) || GroupEmpty(unix.Getpgrp()) {
		t.Error("this process counts as dead")
	}
	z := zombie(t)
	if ProcessAlive(z.Process.Pid) || !GroupEmpty(z.Process.Pid) {
		t.Error("a zombie counts as alive")
	}
	if err := z.Wait(); err != nil {
		t.Fatal(err)
	}
	if ProcessAlive(z.Process.Pid) || !GroupEmpty(z.Process.Pid) {
		t.Error("a process that was reaped counts as alive")
	}
	if ProcessAlive(0) || ProcessAlive(-1) || GroupEmpty(0) || GroupEmpty(1) {
		t.Error("ids that mean something else to kill(2) were passed on")
	}
}

func TestGroupOutlivesItsLeader(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "cat <&3 3<&- & exit 0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd.ExtraFiles = []*os.File{r}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if GroupEmpty(cmd.Process.Pid) {
		t.Error("the background process of the group isn't seen")
	}
	w.Close()
	waitUntil(t, "the group is empty", func() bool { return GroupEmpty(cmd.Process.Pid) })
}

func TestStatOfAProcessWithAnAwkwardName(t *testing.T) {
	line := "42 (a) Z 1 (b) S 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 4711 0"
	st, err := parseStat(42, line)
	if err != nil || st.state != 'S' || st.PPID != 7 || st.PGID != 8 || st.start != "4711" {
		t.Errorf("%+v, %v", st, err)
	}
	for line, dead := range map[string]bool{
		"42 (a) Z 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 4711 0": true,
		"42 (a) Z 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 2 0 4711 0": false, // a thread lives
		"42 (a) X 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 4711 0": true,
		"42 (a) T 7 8 9 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 4711 0": false,
	} {
		if st, err := parseStat(42, line); err != nil || st.dead() != dead {
			t.Errorf("%q: dead %v, %v", line, st.dead(), err)
		}
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2", "42 (a) S x 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"} {
		if _, err := parseStat(42, bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestSignalReachesExactlyTheProcessThatWasSeen(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	cmd.Env = []string{"OTHER=1", "MARK=a b=c"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	st, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := st
	other.start = "1"
	if err := other.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	// An echo proves that it lives: a signal takes effect before the next read.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		t.Errorf("a process with the same id but another start was killed: %v", err)
	}
	below, err := Descendants()
	if err != nil || !slices.ContainsFunc(below, func(p Process) bool { return p.Key() == st.Key() }) {
		t.Fatalf("not among the descendants %+v, %v", below, err)
	}
	if v, ok := st.Variable("MARK"); !ok || v != "a b=c" {
		t.Errorf("variable MARK is %q, %v", v, ok)
	}
	if err := st.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", err)
	}
}

func TestReapStraysSparesWhatOthersWaitFor(t *testing.T) {
	a, b := zombie(t), zombie(t)
	if err := ReapStrays(b.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(); err != nil {
		t.Errorf("somebody else's child was reaped: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", a.Process.Pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the zombie is still there: %v", err)
	}
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else; run the tests as root too")
	}
}
