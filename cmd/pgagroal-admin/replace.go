package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockLimit is how long to wait for another pgagroal-admin, which never waits for a
// person while it holds the lock.
const lockLimit = 10 * time.Second

// lockFile locks the directory of a file, because the file itself is
// replaced.
func lockFile(path string) (unlock func(), err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("lock the file: %w", err)
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock the file: %w", err)
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
		return nil, fmt.Errorf("lock the file: another process has locked %s for %v", dir.Name(), lockLimit)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock the file: %w", err)
	}
	return func() { dir.Close() }, nil
}

// replaceFile puts a file with this text at path, durably, and so that no reader ever sees half of it. own gives the file
// its owner and mode, which is 0600 before. move is os.Rename, or os.Link if no file may be there.
func replaceFile(path string, text []byte, own func(*os.File) error, move func(from, to string) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after a rename, which is intended
	if _, err = tmp.Write(text); err == nil {
		err = own(tmp)
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := move(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// keepOwner gives the new file the owner and group of the old one, and those of its permissions that are in kept, beside
// those of the owner to read and write.
func keepOwner(file *os.File, old fs.FileInfo, kept fs.FileMode) error {
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
	return file.Chmod(0o600 | old.Mode().Perm()&kept)
}
