package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockName is the name of the lock file in state_dir.
const LockName = "pgagroal.lock"

// Lock opens the lock file of dir and takes the lock. held says that another process has
// the lock; holder is then the process id in the file, or 0 if it is unknown. The process
// with this id may be gone while a child of it still has the lock. The file is open even
// then, for Relock and for children.
//
// The lock belongs to the open file description, not to a process. If children inherit
// the file, the lock lives until the last of them is gone, even if it is taken only after
// they were started. Give it up by closing the file, never by unlocking, which would take
// the lock away from all of them. The file is close-on-exec.
func Lock(dir string) (file *os.File, held bool, holder int, err error) {
	path := filepath.Join(dir, LockName)
	f, held, err := LockFile(path)
	switch {
	case err != nil:
		return nil, false, 0, err
	case held:
		return f, true, readPID(f), nil
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, false, 0, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, false, 0, nil
}

// LockFile opens a file, which it creates if needed, and locks it. held says that another
// process has the lock, or that its last owner has removed the file meanwhile. The file is
// open even then. It is close-on-exec.
func LockFile(path string) (f *os.File, held bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open lock: %w", err)
	}
	if err = flock(f); err == nil {
		held, err = replaced(f, path)
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return f, true, nil
	case err != nil:
		f.Close()
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, held, nil
}

// replaced reports whether path is no longer the name of f.
func replaced(f *os.File, path string) (bool, error) {
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	return err != nil || !os.SameFile(ours, there), nil
}

// LockDir returns the directory of a lock file that this process has inherited, or
// nothing if f is nil or its path can't be read.
func LockDir(f *os.File) string {
	if f == nil {
		return ""
	}
	path := ""
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) })
	}
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	return filepath.Dir(path)
}

// Relock tries again to take a lock that another process held, and then writes this
// process's id into the file. held says that the other process still has the lock.
func Relock(f *os.File) (held bool, err error) {
	err = flock(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return false, nil
}

func flock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) {
		lerr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
	}); err != nil {
		return err
	}
	return lerr
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
