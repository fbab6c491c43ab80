package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// CheckScript returns why the user with uid and gids (the primary group first) must not run the script
// at path, or nil. The script must be a regular file at an absolute path, readable and executable by
// that user, and in a format that the kernel can start. The file, its interpreter and every directory
// and link on the way to them must be owned by that user or root, and nobody else may be able to
// replace one of them. The user's primary group may have write permission, because many systems give
// each user a primary group of its own.
func CheckScript(path string, uid uint32, gids []uint32) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the script %s is not an absolute path; write it from / on", path)
	}
	c := scriptCheck{uid: uid, gids: gids}
	real, info, err := c.resolve(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the script %s is not a regular file; name one", path)
	}
	if !allows(info, uid, gids, 0o5) {
		return fmt.Errorf("the script %s has mode %#o; user %d must be able to read and execute it", path, info.Mode().Perm(), uid)
	}
	return c.startable(real, 0)
}

// scriptCheck checks files for one user; gids begins with the user's primary group.
type scriptCheck struct {
	uid  uint32
	gids []uint32
}

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// resolve follows path from / as the kernel does, and checks each directory and link on the way.
// It returns the path without links, and the file's information.
func (c scriptCheck) resolve(path string) (string, fs.FileInfo, error) {
	at, rest, links := "/", parts(path), 0
	info, err := os.Lstat(at)
	for err == nil && len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if err := c.enter(at, info, len(rest) == 0); err != nil {
			return "", nil, err
		}
		next := filepath.Join(at, name) // Join may resolve "..", because at holds no links
		if info, err = os.Lstat(next); err != nil {
			break
		}
		if info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("the script %s leads through more than %d links", path, maxLinks)
		}
		target, err := c.follow(next, info)
		if err != nil {
			return "", nil, err
		}
		rest = append(parts(target), rest...)
		if filepath.IsAbs(target) {
			at = "/"
		}
		if info, err = os.Lstat(at); err != nil {
			return "", nil, fmt.Errorf("the script can't be used: %w", err)
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("the script can't be used: %w", err)
	}
	return at, info, ownedSafely(at, info, c.uid, c.gids)
}

// parts splits a path but keeps "..", whose meaning depends on the links before it.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// enter checks a directory in which the next part of a path is looked up. If a directory has the
// sticky bit, others can't replace files of the user or root in it. But they can add files beside
// the script, so the last directory must not be writable for others even with that bit.
func (c scriptCheck) enter(dir string, info fs.FileInfo, last bool) error {
	if !info.IsDir() {
		return fmt.Errorf("the script can't be used: %s is no directory", dir)
	}
	err := ownedSafely(dir, info, c.uid, c.gids)
	if err != nil && (last || info.Mode()&fs.ModeSticky == 0 || !c.ours(info)) {
		return err
	}
	if !allows(info, c.uid, c.gids, 0o1) {
		return fmt.Errorf("user %d can't enter %s; chmod it", c.uid, dir)
	}
	return nil
}

// follow returns the target of a link. The mode of a link means nothing, but its owner can
// replace the link.
func (c scriptCheck) follow(link string, info fs.FileInfo) (string, error) {
	if !c.ours(info) {
		return "", fmt.Errorf("the link %s belongs to neither root nor user %d; make it anew", link, c.uid)
	}
	target, err := os.Readlink(link)
	if err != nil {
		return "", fmt.Errorf("the script can't be used: %w", err)
	}
	return target, nil
}

// ours says whether a file belongs to the user or root.
func (c scriptCheck) ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == c.uid || st.Uid == 0)
}

// errStat says that a file has no Unix owner, which can't happen on Linux.
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
		return info.IsDir() || mode&0o111 != 0 // root may read every file, and execute a file if anybody may
	case st.Uid == uid:
		mode >>= 6
	case slices.Contains(gids, st.Gid):
		mode >>= 3
	}
	return mode&want == want
}
