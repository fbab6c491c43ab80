package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// usersFile is a credential file as lines. Lines that are no entries stay
// unchanged.
type usersFile struct {
	path  string
	info  fs.FileInfo // nil when the file is new
	lines []string
	owner config.KeyFile // whose account a new file is for
}

// readUsers reads the file at path. With create, a missing file counts as empty.
func readUsers(path string, create bool) (*usersFile, error) {
	real, err := filepath.EvalSymlinks(path)
	if create && errors.Is(err, os.ErrNotExist) {
		return &usersFile{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	data, err := os.ReadFile(real)
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	f := &usersFile{path: real, info: info}
	for line := range bytes.Lines(data) {
		f.lines = append(f.lines, strings.TrimRight(string(line), "\r\n"))
	}
	return f, nil
}

// entryName returns the user of a line, or "".
func entryName(line string) string {
	line = strings.Trim(line, " \t")
	if line == "" || line[0] == '#' || line[0] == ';' {
		return ""
	}
	name, _, found := strings.Cut(strings.TrimLeft(line, ":"), ":")
	if !found {
		return ""
	}
	return name
}

func (f *usersFile) has(name string) bool {
	return slices.ContainsFunc(f.lines, func(l string) bool { return entryName(l) == name })
}

// put replaces the user's line, or adds one at the end. It removes a second line of
// the same user, which the daemon would refuse.
func (f *usersFile) put(name, blob string) {
	i := slices.IndexFunc(f.lines, func(l string) bool { return entryName(l) == name })
	f.remove(name)
	if i < 0 {
		i = len(f.lines)
	}
	f.lines = slices.Insert(f.lines, i, name+":"+blob)
}

func (f *usersFile) remove(name string) {
	f.lines = slices.DeleteFunc(f.lines, func(l string) bool { return entryName(l) == name })
}

// names returns the users, and errors for the lines that the daemon will refuse.
func (f *usersFile) names() ([]string, []error) {
	entries, problems := config.ParseEntries(f.path, f.text())
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, problems
}

func (f *usersFile) text() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

// lockLimit is how long to wait for another pgagroal-admin, which never waits for a
// person while it holds the lock.
const lockLimit = 10 * time.Second

// lockUsers locks the directory of a users file, because the file itself is
// replaced.
func lockUsers(path string) (unlock func(), err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("lock the users: %w", err)
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock the users: %w", err)
	}
	locked := make(chan error, 1)
	go func() {
		var lerr error
		err := raw.Control(func(fd uintptr) { lerr = syscall.Flock(int(fd), syscall.LOCK_EX) })
		locked <- errors.Join(err, lerr)
	}()
	select {
	case err = <-locked:
	case <-time.After(lockLimit):
		// The process is about to end, and with it the descriptor.
		return nil, fmt.Errorf("lock the users: another process has locked %s for %v", dir.Name(), lockLimit)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock the users: %w", err)
	}
	return func() { dir.Close() }, nil
}

// write replaces the file in one step, durably. Owner and group stay; other users lose
// access.
func (f *usersFile) write() error {
	tmp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*") // with mode 0600
	if err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, which is intended
	_, err = tmp.Write(f.text())
	switch {
	case err != nil:
	case f.info != nil:
		err = keepOwner(tmp, f.info)
	case os.Geteuid() == 0: // pgagroal may be started as its account, which must read the file
		err = tmp.Chown(int(f.owner.UID), int(f.owner.GID))
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	return syncDir(filepath.Dir(f.path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	return nil
}

// keepOwner gives the new file the owner and group of the old one, and the group its
// permission to read.
func keepOwner(file *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the system doesn't tell who owns the file")
	}
	mine, err := file.Stat()
	if err != nil {
		return err
	}
	if m, ok := mine.Sys().(*syscall.Stat_t); !ok || m.Uid != st.Uid || m.Gid != st.Gid {
		if err := file.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return file.Chmod(0o600 | old.Mode().Perm()&0o040)
}
