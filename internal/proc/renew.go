package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// renew executes the installed program in this process, which keeps link and children. It returns
// only if that fails.
func (s *starter) renew(wanted *os.File) error {
	if err := s.mayRenew(wanted); err != nil {
		return err
	}
	signal.Ignore(starterSignals...) // until the next program catches them
	defer catchSignals()
	keep := []int{s.link}
	var children []string
	for pid, fd := range s.children {
		keep, children = append(keep, fd), append(children, fmt.Sprintf("%d:%d", pid, fd))
	}
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
		defer unix.CloseOnExec(fd)
	}
	env := append(s.env[:len(s.env):len(s.env)], childVariable+"="+string(RoleStarter), starterVariable+"="+s.user,
		programVariable+"="+s.path, consoleVariable+"="+s.console, childrenVariable+"="+strings.Join(children, " "))
	return syscall.Exec(s.path, []string{starterTitle}, env)
}

// mayRenew returns an error if the starter must not execute the installed program. The supervisor,
// which an attacker may have taken over, must not choose what runs as root. So this is the file at
// the path of the start, only root may be able to change it, and it must be the file in wanted, the
// program that the supervisor runs by now.
func (s *starter) mayRenew(wanted *os.File) error {
	if s.path == "" {
		return unix.ENOENT
	}
	if err := OnlyRootChanges(s.path); errors.Is(err, unix.ENOENT) {
		return unix.ENOENT
	} else if err != nil {
		return unix.EPERM
	}
	want, err := wanted.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Stat(s.path); err != nil || !os.SameFile(is, want) {
		return unix.ESTALE
	}
	return s.learnable()
}

// learnable returns an error if the next program in this process could not learn what this one has (learn).
func (s *starter) learnable() error {
	if _, err := CredentialOf(s.user); err != nil {
		return unix.ENXIO
	}
	if s.console == "" {
		return nil
	}
	f, err := OpenProgram(s.console)
	if err != nil {
		return err
	}
	return f.Close()
}

// parseChildren reads the list of children that renew has written.
func parseChildren(list string) (map[int]int, error) {
	children := map[int]int{}
	for _, word := range strings.Fields(list) {
		var pid, fd int
		if _, err := fmt.Sscanf(word, "%d:%d", &pid, &fd); err != nil {
			return nil, fmt.Errorf("the list of children can't be read: %w", err)
		}
		unix.CloseOnExec(fd)
		children[pid] = fd
	}
	return children, nil
}

// maxLinks is how many symbolic links a path may lead through.
const maxLinks = 40

// OnlyRootChanges returns an error if somebody but root can change the file at an absolute path,
// or put another one there.
func OnlyRootChanges(path string) error {
	at, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if err := onlyRoots(next, info); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if links++; links > maxLinks {
			return &os.PathError{Op: "follow", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return nil
}

// onlyRoots returns an error if somebody but root can change a file, or in a directory a file of root.
func onlyRoots(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of a file can't be read")
	}
	mode := info.Mode()
	switch {
	case st.Uid != 0:
		return fmt.Errorf("%s belongs to user %d, not to root", path, st.Uid)
	case mode&fs.ModeSymlink != 0, mode.IsDir() && mode&fs.ModeSticky != 0:
		return nil
	case mode&0o022 != 0: // a member of root's group isn't root
		return fmt.Errorf("others than root can write to %s", path)
	}
	return nil
}
