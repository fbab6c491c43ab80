package statedir

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// Dir is state_dir and our hold on it. The zero value is none.
type Dir struct {
	Path string
	// Lock is nil when there is no usable state_dir. Every child gets the open file,
	// whether it is locked already or not: the lock, once it is taken, is theirs as well.
	Lock   *os.File
	Ours   bool // it is locked by us
	Usable bool // it can be written
}

// Close gives up the lock; children may still have it.
func (d Dir) Close() {
	if d.Lock != nil {
		d.Lock.Close()
	}
}

// Open locks state_dir before anything is started. It refuses when a run of
// a hook could meet another pgagroal, or could not be recorded.
func Open(c *config.Config, log *slog.Logger) (Dir, error) {
	if c.StateDir == "" && !c.Failover {
		return Dir{}, nil
	}
	file, held, holder, err := proc.Lock(c.StateDir)
	switch {
	case err != nil && c.Failover:
		return Dir{}, fmt.Errorf("state_dir can't be used, and failover = on needs it: %w", err)
	case err != nil:
		log.Info("state_dir can't be used; going on without, since failover is off", "error", err)
		return Dir{}, nil
	case !held:
		return Dir{Path: c.StateDir, Lock: file, Ours: true, Usable: true}, nil
	case holder > 0 && holder != os.Getpid() && isPgagroal(holder):
		file.Close()
		return Dir{}, fmt.Errorf("state_dir %s belongs to another running pgagroal, process %d; give each its own", c.StateDir, holder)
	}
	log.Warn("children of a pgagroal that is gone still hold state_dir; no script runs until they have ended", "state_dir", c.StateDir)
	return Dir{Path: c.StateDir, Lock: file, Usable: true}, nil
}
