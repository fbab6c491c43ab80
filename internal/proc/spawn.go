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

// Spec says everything that a child gets.
type Spec struct {
	Role Role
	// Program is what to run, made by OpenProgram; nil is this binary. It stays the caller's.
	Program *os.File
	Argv0   string // shown by ps, as in "pgagroal: worker 2"
	// Files become the descriptors from 3 on: the link, then the lock of state_dir. They
	// stay the caller's, which closes its ends after the start. Starting a process with Go
	// makes them blocking.
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
	// Bound, unless it is nil, limits the capabilities of a child that is root, and of
	// whatever it starts.
	Bound []uintptr
	// sibling makes the parent of this process the parent of the child, which has to wait
	// for it. pidFD, unless it is nil, gets a pidfd of the child, for the caller to close.
	sibling bool
	pidFD   *int
}

// Spawn starts this binary again, or another program, as a child in a process group of its
// own. The caller must wait for the child.
func Spawn(s Spec) (*os.Process, error) {
	if s.Program != nil {
		return spawn(fmt.Sprintf("/proc/self/fd/%d", s.Program.Fd()), s)
	}
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

// SealDescriptors marks every descriptor from 3 on as close-on-exec. Spawn calls it.
// Go opens its descriptors that way, but the process that started this one may have left
// others open, which every child would inherit. os.StartProcess removes the mark from the
// descriptors that it passes on.
func SealDescriptors() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	return nil
}

// startRestricted starts the process from a thread that has given up what the child
// must not have, because a child inherits no_new_privs and the capability sets of the
// thread that starts it. The thread ends with the goroutine, which never unlocks it.
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

// boundCapabilities removes all capabilities except keep from the bounding set of this
// thread, which what it starts inherits.
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
