package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// CheckScript says why the user with uid and gids (the primary group first) must not run the script
// at path, or returns nil: it has to be a regular file at an absolute path, readable and executable
// by that user, owned by that user or root, and neither it nor its directory writable by others.
// The user's primary group may write: with groups of one member that is the user.
func CheckScript(path string, uid uint32, gids []uint32) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the script %s is not an absolute path; write it from / on", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("the script can't be used: %w", err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fmt.Errorf("the script can't be used: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the script %s is not a regular file; name one", path)
	}
	if err := ownedSafely(real, info, uid, gids); err != nil {
		return err
	}
	if !allows(info, uid, gids, 0o5) {
		return fmt.Errorf("the script %s has mode %#o; user %d must be able to read and execute it", path, info.Mode().Perm(), uid)
	}
	return safeDirectories(path, real, uid, gids)
}

// safeDirectories checks the directory of the file, and that of the link when path is one.
func safeDirectories(path, real string, uid uint32, gids []uint32) error {
	dirs := []string{filepath.Dir(real)}
	if d := filepath.Dir(path); d != dirs[0] {
		dirs = append(dirs, d)
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("the script's directory can't be used: %w", err)
		}
		if err := ownedSafely(dir, info, uid, gids); err != nil {
			return err
		}
		if !allows(info, uid, gids, 0o1) {
			return fmt.Errorf("user %d can't enter %s; chmod it", uid, dir)
		}
	}
	return nil
}

// errStat can't happen on the systems that we run on.
var errStat = errors.New("the system doesn't tell who owns files")

func ownedSafely(path string, info fs.FileInfo, uid uint32, gids []uint32) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errStat
	}
	mode := info.Mode().Perm()
	trustedGroup := st.Gid == 0 || (len(gids) > 0 && st.Gid == gids[0])
	switch {
	case st.Uid != uid && st.Uid != 0:
		return fmt.Errorf("%s is owned by user %d; chown it to root or to user %d", path, st.Uid, uid)
	case mode&0o002 != 0, mode&0o020 != 0 && !trustedGroup:
		return fmt.Errorf("%s has mode %#o, so others can change what is run; chmod go-w it", path, mode)
	}
	return nil
}

// allows says whether the user has all rights of want (4 read, 2 write, 1 execute) on a file.
func allows(info fs.FileInfo, uid uint32, gids []uint32, want fs.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case uid == 0:
		return info.IsDir() || mode&0o111 != 0 // root reads everything, and runs what anybody may run
	case st.Uid == uid:
		mode >>= 6
	case slices.Contains(gids, st.Gid):
		mode >>= 3
	}
	return mode&want == want
}
