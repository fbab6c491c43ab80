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

// Account is who uses state_dir.
type Account struct {
	UID  uint32
	Home string // where the account keeps its state, "" for nowhere
}

// AccountOf returns the account with that id. The environment tells where its state is only if it is the account's
// own, and not that of a start as root.
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

// Check says why state_dir can't be used by an account, nil when it can, or when nothing depends on it. It makes nothing.
func Check(c *config.Config, a Account) error {
	if !c.Failover {
		return nil
	}
	_, err := choose(c, a, func(path string) error { return a.couldMake(path) })
	return err
}

// choose returns the path of state_dir: the configured one, or, if none is, the first that is there and the
// account's own, or that makeDir makes.
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

// owns says why a directory is not one for the state of the account: whoever else can write there could have
// pgagroal promote a server.
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
	return nil
}

// couldMake says why makeDir would fail: whether the closest directory above can be written.
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
		if err := syscall.Access(dir, 2|1); err != nil { // W_OK and X_OK
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

// neverMake is makeDir where nothing depends on state_dir.
func neverMake(path string) error { return &fs.PathError{Op: "use", Path: path, Err: fs.ErrNotExist} }

// MakeDefault makes the default directory for the account that a start as root becomes, if that is the one to use.
func MakeDefault(c *config.Config, uid, gid uint32) error {
	if c.StateDir != "" || !c.Failover || os.Geteuid() != 0 {
		return nil
	}
	parent, err := os.Stat(filepath.Dir(config.DefaultStateDir))
	if err != nil || parent.Mode().Perm()&0o022 != 0 {
		return nil // not a place where root may make something; another directory is looked for
	}
	if os.Mkdir(config.DefaultStateDir, 0o700) != nil {
		return nil // it is there, or can't be made
	}
	if err := os.Lchown(config.DefaultStateDir, int(uid), int(gid)); err != nil {
		return fmt.Errorf("make state_dir: %w", err)
	}
	return nil
}
