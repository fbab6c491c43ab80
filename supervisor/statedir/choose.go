package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Account is the user that uses state_dir.
type Account struct {
	UID  uint32
	Home string // where the account keeps its state, "" for nowhere
}

// AccountOf returns the account with that id. ownEnvironment says that the environment belongs to
// the account and not to root; only then HOME and XDG_STATE_HOME are used.
func AccountOf(uid uint32, ownEnvironment bool) Account {
	if ownEnvironment {
		if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
			return Account{uid, dir}
		}
		if home := os.Getenv("HOME"); filepath.IsAbs(home) {
			return Account{uid, filepath.Join(home, ".local/state")}
		}
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return Account{UID: uid}
	}
	return Account{uid, filepath.Join(u.HomeDir, ".local/state")}
}

// Check returns why an account can't use state_dir, with file and line if the key is set. It creates nothing. With
// failover = off nothing depends on state_dir; then the answer is nil unless an operator asks and the key is set.
func Check(c *config.Config, a Account, asked bool) error {
	if !c.Failover && (!asked || c.StateDir == "") {
		return nil
	}
	_, err := choose(c, a, func(path string) error { return a.couldMake(path) })
	if err != nil {
		return fmt.Errorf("%s: %w", key(c), err)
	}
	return nil
}

// Find returns the path of the state_dir of an account, or "" if there is none that can be used. It creates nothing.
func Find(c *config.Config, a Account) string {
	path, err := choose(c, a, neverMake)
	if err != nil {
		return ""
	}
	return path
}

// key returns the name of the key for messages, with file and line if it is set.
func key(c *config.Config) string {
	if c.StateDir == "" {
		return "state_dir"
	}
	return c.Place("state_dir") + ": state_dir"
}

// choose returns the path of state_dir: the configured one or, without one, the first that exists
// and belongs to the account or that makeDir can make.
func choose(c *config.Config, a Account, makeDir func(path string) error) (string, error) {
	if c.StateDir != "" {
		return c.StateDir, a.owns(c.StateDir)
	}
	paths := []string{config.DefaultStateDir}
	if a.Home != "" {
		paths = append(paths, filepath.Join(a.Home, "pgagroal"))
	}
	var errs []error
	for _, path := range paths {
		err := a.owns(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = makeDir(path)
		}
		if err == nil {
			return path, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("it is not set, and none of the usual directories can be used: %w", errors.Join(errs...))
}

// owns returns why a directory can't be the account's state_dir: any other user who can write there
// could make pgagroal promote a server.
func (a Account) owns(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case !ok || st.Uid != a.UID:
		return fmt.Errorf("%s belongs to user id %d, and pgagroal runs as %d; make a directory of its own, with mode 0700", path, st.Uid, a.UID)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o); chmod 0700 it", path, info.Mode().Perm())
	case info.Mode().Perm()&0o300 != 0o300:
		return fmt.Errorf("%s can't be written by its owner (mode %04o): %w; chmod 0700 it", path, info.Mode().Perm(), fs.ErrPermission)
	}
	if err := syscall.Access(path, writeAndSearch); errors.Is(err, syscall.EROFS) || err != nil && os.Geteuid() == int(a.UID) {
		return fmt.Errorf("%s can't be written: %w", path, err)
	}
	return nil
}

// writeAndSearch is W_OK and X_OK of access(2).
const writeAndSearch = 2 | 1

// couldMake returns why makeDir would fail. It checks whether the closest existing parent directory
// is writable.
func (a Account) couldMake(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != path {
		return a.couldMake(dir)
	}
	if err != nil {
		return err
	}
	if os.Geteuid() == int(a.UID) {
		if err := syscall.Access(dir, writeAndSearch); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != a.UID || info.Mode().Perm()&0o200 == 0 {
		return fmt.Errorf("make %s: %w", path, fs.ErrPermission)
	}
	return nil
}

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }

// neverMake stands for makeDir when nothing depends on state_dir: a missing directory stays missing.
func neverMake(path string) error { return &fs.PathError{Op: "use", Path: path, Err: fs.ErrNotExist} }

// MakeDefault makes the default directory while the process is root, for the account that it will
// become. It does nothing if state_dir is set or nothing depends on it.
func MakeDefault(c *config.Config, uid, gid uint32) error {
	if c.StateDir != "" || !c.Failover || os.Geteuid() != 0 {
		return nil
	}
	parent, err := os.Stat(filepath.Dir(config.DefaultStateDir))
	if err != nil || parent.Mode().Perm()&0o022 != 0 {
		return nil // root must not make a directory there; another one is chosen later
	}
	if os.Mkdir(config.DefaultStateDir, 0o700) != nil {
		return nil // it exists, or can't be made
	}
	if err := os.Lchown(config.DefaultStateDir, int(uid), int(gid)); err != nil {
		return fmt.Errorf("make state_dir: %w", err)
	}
	return nil
}
