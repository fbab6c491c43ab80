package proc

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DropTo changes all threads of this process to the user name and its groups, and proves
// it. A process that isn't root must already run as that user. DropTo refuses root.
func DropTo(name string) error {
	cred, err := CredentialOf(name)
	if err != nil {
		return err
	}
	uid, gid := int(cred.Uid), int(cred.Gid)
	groups := make([]int, len(cred.Groups))
	for i, g := range cred.Groups {
		groups[i] = int(g)
	}
	switch {
	case uid == 0:
		return fmt.Errorf("become user %q: it has all privileges", name)
	case os.Geteuid() != 0 && os.Geteuid() != uid:
		return fmt.Errorf("become user %q: %w", name, os.ErrPermission)
	case os.Geteuid() == uid:
		return nil
	}
	// The user comes last, because the other two calls need root.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("become user %q: set groups: %w", name, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("become user %q: set group: %w", name, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("become user %q: set user: %w", name, err)
	}
	return AssertPrivileges(uid, gid, groups)
}

// CredentialOf looks up the user id, group id and supplementary groups of a user name,
// for Spec.Credential.
func CredentialOf(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up user %q: %w", name, err)
	}
	texts, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of %q: %w", name, err)
	}
	ids := make([]uint32, 0, len(texts)+2)
	for _, t := range append([]string{u.Uid, u.Gid}, texts...) {
		id, err := strconv.ParseUint(t, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look up user %q: %w", name, err)
		}
		ids = append(ids, uint32(id))
	}
	return &syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}, nil
}

// endingLimit is how long /proc may still show a thread that is ending.
const endingLimit = time.Second

// assertThread checks the thread that a status file describes. A thread that was about to
// end when the process gave up its rights keeps the old ones; /proc may still show it for
// a moment.
func assertThread(file string, uid, gid int, groups []int) error {
	for until := time.Now().Add(endingLimit); ; time.Sleep(time.Millisecond) {
		st, err := readStatus(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil // the thread has ended
		}
		if err == nil {
			err = st.check(uid, gid, groups)
		}
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

// AssertPrivileges returns an error unless every thread of this process has uid and gid
// as real, effective, saved and file-system id, and no supplementary group other than
// groups and gid. If uid isn't root, no thread may have a capability, and the process must
// be unable to become root again. After an error the process must end: it may be root.
func AssertPrivileges(uid, gid int, groups []int) error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return errors.New("assert privileges: the threads can't be read")
	}
	for _, f := range files {
		if err := assertThread(f, uid, gid, groups); err != nil {
			return fmt.Errorf("assert privileges: %w", err)
		}
	}
	if uid != 0 && syscall.Setuid(0) == nil {
		return errors.New("assert privileges: root was regained")
	}
	return nil
}

// status holds lines of /proc/PID/status by name.
type status map[string][]string

func readStatus(path string) (status, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	st := status{}
	for line := range strings.Lines(string(b)) {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			st[name] = strings.Fields(rest)
		}
	}
	return st, nil
}

func (st status) check(uid, gid int, groups []int) error {
	if len(st["Uid"]) != 4 || len(st["Gid"]) != 4 {
		return errors.New("user and group of a thread can't be read")
	}
	for i := range 4 {
		if st["Uid"][i] != strconv.Itoa(uid) {
			return fmt.Errorf("user ids are %v, not %d", st["Uid"], uid)
		}
		if st["Gid"][i] != strconv.Itoa(gid) {
			return fmt.Errorf("group ids are %v, not %d", st["Gid"], gid)
		}
	}
	for _, g := range st["Groups"] {
		if n, err := strconv.Atoi(g); err != nil || n != gid && !slices.Contains(groups, n) {
			return fmt.Errorf("supplementary group %s is not one of the user's", g)
		}
	}
	if uid == 0 {
		return nil
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if len(st[set]) != 1 || strings.Trim(st[set][0], "0") != "" {
			return fmt.Errorf("capabilities %s are %v, not none", set, st[set])
		}
	}
	return nil
}

// NoNewPrivs prevents this process, with all its threads, and whatever it starts from
// gaining privileges through set-user-id programs. If Spec.NoNewPrivs has done that
// already, it only checks it. Otherwise a binary that is built with cgo gets an error,
// because it can't change threads that are running.
func NoNewPrivs() error {
	if threadsHaveNoNewPrivs() {
		return nil
	}
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	return nil
}

// Unprivileged makes sure that this process can gain no privileges, and proves that it has
// no others than its user's.
func Unprivileged() error {
	if err := NoNewPrivs(); err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("assert privileges: %w", err)
	}
	return AssertPrivileges(os.Getuid(), os.Getgid(), groups)
}

func threadsHaveNoNewPrivs() bool {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		st, err := readStatus(f)
		if err != nil {
			continue // the thread has ended
		}
		if !slices.Equal(st["NoNewPrivs"], []string{"1"}) {
			return false
		}
	}
	return true
}

// Subreaper makes this process, instead of init, the new parent of descendants whose
// parent ends, so that it can still find them. Its caller must also call ReapStrays.
func Subreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// CoresVariable is the environment variable that, if it is "on", makes Conceal do
// nothing, so that pgagroal can be debugged.
const CoresVariable = "PGAGROAL_CORES"

// Conceal protects the memory of this process, which contains passwords, from all
// processes of its user: no core file, no /proc/PID/mem, no ptrace. Root can still read
// it. Children inherit the limit for core files. An exec or a change of user undoes the
// rest, so every process calls Conceal at its start, and again after a change of user.
func Conceal() error {
	if os.Getenv(CoresVariable) == "on" {
		return nil
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core files off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide memory from other processes: %w", err)
	}
	return nil
}

// Concealed reports whether Conceal is in force.
func Concealed() bool {
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err == nil && n != 1
}
