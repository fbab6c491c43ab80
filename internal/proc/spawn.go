package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spec says what a child gets. It gets nothing else.
type Spec struct {
	Role  Role
	Argv0 string // shown by ps, as in "pgagroal: worker 2"
	// Files become the descriptors from 3 on: the link, then the lock of state_dir. The
	// caller keeps them, and closes its ends after the start. They are made blocking,
	// as Go does for every process that it starts.
	Files []*os.File
	// Env is the whole environment except the variable with the role.
	Env []string
	// Credential is the user and groups of the child, nil for those of this process.
	Credential *syscall.Credential
	Dir        string // empty means /
	// Stdout and Stderr are those of this process if nil. Standard input is
	// always /dev/null.
	Stdout, Stderr *os.File
	// NoNewPrivs prevents the child and all that it starts from gaining privileges
	// through set-user-id programs. Not for the runner: scripts may call sudo.
	NoNewPrivs bool
	// Bound, unless it is nil, are the capabilities that the child, when it is root, and all
	// that it starts can have at most.
	Bound []uintptr
	// sibling makes the child one of this process's parent, which waits for it instead of
	// the caller. pidFD gets a descriptor of the child then, the caller's to close.
	sibling bool
	pidFD   *int
}

// Spawn starts this binary again as a child in a process group of its own. The
// caller waits for the process.
func Spawn(s Spec) (*os.Process, error) {
	return spawn("/proc/self/exe", s)
}

func spawn(exe string, s Spec) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Role, err)
	}
	defer null.Close()
	attr := &os.ProcAttr{
		Dir:   orRoot(s.Dir),
		Env:   append(append([]string{}, s.Env...), childVariable+"="+string(s.Role)),
		Files: append([]*os.File{null, orFile(s.Stdout, os.Stdout), orFile(s.Stderr, os.Stderr)}, s.Files...),
		Sys:   &syscall.SysProcAttr{Setpgid: true, Credential: s.Credential, PidFD: s.pidFD},
	}
	if s.sibling {
		attr.Sys.Cloneflags = unix.CLONE_PARENT
	}
	if err := SealDescriptors(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Role, err)
	}
	p, err := startRestricted(exe, []string{s.Argv0}, attr, s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Role, err)
	}
	return p, nil
}

func orRoot(dir string) string {
	if dir == "" {
		return "/"
	}
	return dir
}

func orFile(f, otherwise *os.File) *os.File {
	if f == nil {
		return otherwise
	}
	return f
}

// SealDescriptors marks every descriptor from 3 on as close-on-exec; Spawn calls it
// itself. Go opens its own descriptors that way, but the process that started us may
// have left others open, which every child would inherit. The start of a process
// removes the mark from the descriptors that it passes on.
func SealDescriptors() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	return nil
}

// startRestricted starts the process from a thread that has given up what the child
// must not have, because the child inherits the thread's no_new_privs and ambient
// capabilities. The thread ends with the goroutine, which never unlocks it.
func startRestricted(exe string, argv []string, attr *os.ProcAttr, s Spec) (*os.Process, error) {
	var p *os.Process
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = restrictThread(s); err == nil {
			p, err = os.StartProcess(exe, argv, attr)
		}
	}()
	<-done
	return p, err
}

func restrictThread(s Spec) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if s.Bound != nil {
		if err := boundCapabilities(s.Bound); err != nil {
			return err
		}
	}
	if !s.NoNewPrivs {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// boundCapabilities takes all capabilities but some from what this thread will start.
func boundCapabilities(keep []uintptr) error {
	for c := uintptr(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel has no more of them
		}
		if err == nil && has == 1 && !slices.Contains(keep, c) {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
}
