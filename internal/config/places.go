package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// places checks the directories in which pgagroal makes the pid file and the log file.
func (k *checker) places() {
	k.makes("pidfile", k.c.PIDFile)
	if k.c.LogType == "file" {
		k.makes("log_path", k.c.LogPath)
	}
}

// makes checks that the account of pgagroal can make a file at path. Where a relative path leads is known only at the
// start, and so is a directory whose name has conversions of the time.
func (k *checker) makes(key, path string) {
	dir := filepath.Dir(path)
	if filepath.IsAbs(path) && !strings.Contains(dir, "%") {
		k.writable(key, dir)
	}
}

// writable reports a directory in which the account of pgagroal can't make files.
func (k *checker) writable(key, dir string) {
	info, err := os.Stat(dir)
	switch {
	case err != nil || !info.IsDir():
		k.fail(key, "%s is not a directory; create it, or name another", dir)
	case !k.env.NoAccount && !mayWrite(dir, k.env.UID, k.env.GIDs):
		k.fail(key, "%s can't be written by the account of pgagroal; give it to that account, or name another", dir)
	}
}

// mayWrite says whether an account may create files in a directory.
func mayWrite(dir string, uid uint32, gids []uint32) bool { return may(dir, uid, gids, 0o3) }

// MayRead says whether an account may read a file.
func MayRead(path string, uid uint32, gids []uint32) bool { return may(path, uid, gids, 0o4) }

// may says whether an account has all rights of want (4 read, 2 write, 1 search) on a file or directory. For another
// account than that of this process it can't ask the kernel, and goes by the modes of the file and the directories above;
// where an access control list may say something else, it returns true.
func may(path string, uid uint32, gids []uint32, want os.FileMode) bool {
	if os.Geteuid() == int(uid) {
		return syscall.Access(path, uint32(want)) == nil
	}
	at, err := filepath.EvalSymlinks(path)
	if err != nil || !filepath.IsAbs(at) {
		return true
	}
	for ; ; want = 0o1 { // above, searching is enough
		info, err := os.Stat(at)
		if err == nil && !mayHaveACL(at) && !allows(info, uid, gids, want) {
			return false
		}
		if at == "/" {
			return true
		}
		at = filepath.Dir(at)
	}
}

// mayHaveACL says whether a file's mode may not be the whole truth.
func mayHaveACL(path string) bool {
	for _, name := range []string{"system.posix_acl_access", "system.nfs4_acl"} {
		_, err := syscall.Getxattr(path, name, nil)
		if !errors.Is(err, syscall.ENODATA) && !errors.Is(err, syscall.EOPNOTSUPP) {
			return true
		}
	}
	return false
}
