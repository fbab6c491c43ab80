package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// account is what a child of a starter tells of itself.
type account struct {
	UID, PPID int
	Role      Role
	Proof     string
	Args, Env []string
	Bound     []string
}

// starterChild runs both a starter and the starter's children. A child sends its account
// and then stays until it is killed.
func starterChild() int {
	fd, role, _ := Link()
	if role == RoleStarter {
		return StarterMain(fd)
	}
	signal.Ignore(unix.SIGTERM)
	st, err := readStatus("/proc/self/status")
	if err != nil {
		return 2
	}
	b, err := json.Marshal(account{os.Getuid(), os.Getppid(), role, text(Unprivileged()), os.Args, os.Environ(), st["CapBnd"]})
	if err != nil || unix.Sendmsg(fd, b, nil, nil, 0) != nil {
		return 2
	}
	select {}
}

func newTestStarter(t *testing.T) *Starter {
	t.Helper()
	needRoot(t)
	s, err := NewStarter(StarterSpec{User: "nobody", Env: []string{"PROC_TEST=starter", "LANG=C", quickExit}, Program: program(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// startWorker returns a new worker and its account.
func startWorker(t *testing.T, s *Starter, index int) (*os.Process, account) {
	t.Helper()
	return startWith(t, func(files []*os.File) (*os.Process, error) { return s.StartWorker(index, files) })
}

// startWith calls start, and returns the new child and its account.
func startWith(t *testing.T, start func([]*os.File) (*os.Process, error)) (*os.Process, account) {
	t.Helper()
	ours, theirs := linkPair(t)
	p, err := start([]*os.File{theirs})
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	b := make([]byte, 64<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var a account
	if err := json.Unmarshal(b[:n], &a); err != nil {
		t.Fatal(err)
	}
	return p, a
}

func TestAStartersChildIsItsUserAndOurChild(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	nobody, err := CredentialOf("nobody")
	if err != nil {
		t.Fatal(err)
	}
	worker := func(files []*os.File) (*os.Process, error) { return s.StartWorker(7, files) }
	for _, c := range []struct {
		role  Role
		title string
		start func([]*os.File) (*os.Process, error)
	}{{RoleWorker, "pgagroal: worker 7", worker}, {RoleProber, "pgagroal: prober", s.StartProber}} {
		p, a := startWith(t, c.start)
		if a.UID != int(nobody.Uid) || a.PPID != os.Getpid() || a.Proof != "" || a.Role != c.role {
			t.Errorf("the %s is %+v", c.role, a)
		}
		if !slices.Equal(a.Args, []string{c.title}) {
			t.Errorf("it is called %q, want %q", a.Args, c.title)
		}
		checkChild(t, s, p, a)
	}
}

// checkChild checks the environment and capabilities of a starter's child, and kills it.
func checkChild(t *testing.T, s *Starter, p *os.Process, a account) {
	t.Helper()
	if want := []string{"PROC_TEST=starter", "LANG=C", quickExit}; !slices.Equal(a.Env, want) {
		t.Errorf("its environment is %q, want %q", a.Env, want)
	}
	if got := strings.Join(a.Bound, ""); strings.TrimLeft(got, "0") != "e0" {
		t.Errorf("what it starts could have the capabilities %s", got)
	}
	s.Kill(p.Pid, func(err error) { t.Error(err) })
	st, err := p.Wait()
	if err != nil || st.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("it ended with %v, %v", st, err)
	}
}

func TestAStarterKillsNothingButWhatItHasStarted(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	s.Kill(other.Process.Pid, func(err error) { t.Error(err) })
	waitUntil(t, "it is answered", func() bool { return !s.Busy() })
	if _, err := s.request(requestKill, 0, other.Process.Pid, nil); !errors.Is(err, unix.ESRCH) {
		t.Errorf("asked to kill somebody else's process it says %v", err)
	}
	if !ProcessAlive(other.Process.Pid) {
		t.Error("it killed somebody else's process")
	}
}

func TestAStarterThatIsAskedForAnythingElseEnds(t *testing.T) {
	t.Parallel()
	for name, packet := range map[string][]byte{
		"short":            []byte("k"),
		"long":             bytes.Repeat([]byte("k"), 9),
		"of no kind":       []byte("x\x00\x00\x00\x00\x00\x00\x01"),
		"without a link":   []byte("s\x00\x00\x00\x00\x00\x00\x00"),
		"prober alone":     []byte("p\x00\x00\x00\x00\x00\x00\x00"),
		"with descriptors": []byte("k\x00\x00\x00\x00\x00\x00\x01"),
		"program alone":    []byte("r\x00\x00\x00\x00\x00\x00\x00"),
	} {
		s := newTestStarter(t)
		var rights []byte
		if name == "with descriptors" {
			rights = syscall.UnixRights(0)
		}
		if _, _, err := s.conn.WriteMsgUnix(packet, rights, nil); err != nil {
			t.Fatal(err)
		}
		<-s.over
		<-s.Lost()
		if s.Err() == nil {
			t.Errorf("%s: nothing is wrong with it", name)
		}
	}
}

func TestAStarterLeavesNoChildBehind(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	p, _ := startWorker(t, s, 0)
	s.Close()
	st, err := p.Wait()
	if err != nil || st.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("it ended with %v, %v", st, err)
	}
}

// freeze stops a process and waits until all its threads have stopped, because they don't
// stop at once.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !frozen(t, pid) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the process doesn't stop")
		}
	}
}

func frozen(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, path := range threads {
		if st, err := readStatus(path); err == nil && (len(st["State"]) == 0 || st["State"][0] != "T") {
			return false
		}
	}
	return true
}

func TestAStarterThatHangsIsLost(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	p, _ := startWorker(t, s, 0)
	freeze(t, s.PID())
	if s.Busy() {
		t.Error("busy with nothing")
	}
	failed := make(chan error, 1)
	s.Kill(p.Pid, func(err error) { failed <- err })
	if !s.Busy() {
		t.Error("not busy with a kill")
	}
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a request to one that is stopped: %v", err)
	}
	<-s.Lost()
	waitUntil(t, "nothing is under way", func() bool { return !s.Busy() })
	_, theirs := linkPair(t)
	if _, err := s.StartWorker(1, []*os.File{theirs}); err == nil || !strings.Contains(err.Error(), "the starter is lost") {
		t.Errorf("asked again: %v", err)
	}
	// When it continues, it sees that its link is closed.
	if err := unix.Kill(s.PID(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
	<-s.over
}

func TestAStarterRefusesRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, user := range []string{"root", "no-such-user", ""} {
		s, err := NewStarter(StarterSpec{User: user, Env: []string{"PROC_TEST=starter", quickExit}})
		if err != nil {
			t.Fatal(err)
		}
		<-s.Lost()
		s.Close()
	}
}

func TestAMutedStarterKeepsNoOutputOfOurs(t *testing.T) {
	t.Parallel()
	s := newTestStarter(t)
	if err := s.Mute(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range []string{"1", "2"} {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.PID(), fd)); err != nil || to != os.DevNull {
			t.Errorf("descriptor %s leads to %s, %v", fd, to, err)
		}
	}
	startWorker(t, s, 0) // it serves on
}
