package statedir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// Dir is state_dir and its lock. The zero value is no directory.
type Dir struct {
	Path string
	// Lock is nil without a usable state_dir. Every child gets the open file, even while this
	// process hasn't got the lock: a lock belongs to the open file, so once this process gets it,
	// the children hold it, too.
	Lock   *os.File
	Ours   bool // this process has the lock
	Usable bool // it can be written
	// Damage says which files in it were unreadable at the start, "" for none.
	Damage string
}

// Close gives up the lock; children may still have it.
func (d Dir) Close() {
	if d.Lock != nil {
		d.Lock.Close()
	}
}

// Open chooses and locks state_dir, before any child is started. It returns an error if another
// pgagroal uses the directory, or if failover needs a directory and none can be used.
func Open(c *config.Config, a Account, log *slog.Logger) (Dir, error) {
	if !c.Failover {
		return openOptional(c, a, log)
	}
	path, err := choose(c, a, makeDir)
	if err != nil {
		return Dir{}, fmt.Errorf("%s can't be used, and failover = on needs it: %w", key(c), err)
	}
	d, err := lock(path, log)
	if err != nil {
		return Dir{}, fmt.Errorf("%s can't be used, and failover = on needs it: %w", key(c), err)
	}
	if c.StateDir == "" {
		log.Info("state_dir is not set", "used", path)
	}
	return d, nil
}

// openOptional is Open when nothing depends on state_dir. It makes no directory, and goes on without
// one; a directory that is configured and can't be used is a mistake that it warns of.
func openOptional(c *config.Config, a Account, log *slog.Logger) (Dir, error) {
	path, err := choose(c, a, neverMake)
	var d Dir
	if err == nil {
		d, err = lock(path, log)
	}
	switch {
	case err != nil && c.StateDir == "":
		log.Debug("there is no state_dir, and nothing needs it with failover = off", "error", err)
		return Dir{}, nil
	case errors.Is(err, errShared):
		return Dir{}, err
	case err != nil:
		log.Warn("state_dir can't be used; going on without, since failover is off", "place", c.Place("state_dir"), "error", err)
		return Dir{}, nil
	}
	return d, nil
}

// errShared says that another pgagroal uses the same state_dir.
var errShared = errors.New("give each its own")

func lock(path string, log *slog.Logger) (Dir, error) {
	file, held, holder, err := proc.Lock(path)
	switch {
	case err != nil:
		return Dir{}, err
	case !held:
		warnOfReaders(path, log)
		return Dir{Path: path, Lock: file, Ours: true, Usable: true}, nil
	case holder > 0 && holder != os.Getpid() && isPgagroal(holder):
		file.Close()
		return Dir{}, fmt.Errorf("state_dir %s belongs to another running pgagroal, process %d; %w", path, holder, errShared)
	}
	log.Warn("children of a pgagroal that is gone still hold state_dir; no script runs until they have ended", "state_dir", path)
	return Dir{Path: path, Lock: file, Usable: true}, nil
}

// warnOfReaders warns if other users can read the output of scripts.
func warnOfReaders(path string, log *slog.Logger) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("state_dir can be read by everybody; chmod 0750 it", "state_dir", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
}
