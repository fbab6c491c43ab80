package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// lockRetry is how often the lock is asked for that children of a dead
// supervisor still hold.
const lockRetry = 200 * time.Millisecond

// lockState is our hold on state_dir. Every child gets the open file, whether
// it is locked already or not: the lock, once it is taken, is theirs as well.
type lockState struct {
	file   *os.File // nil when there is no usable state_dir
	ours   bool     // it is locked by us
	usable bool     // state_dir can be written
}

// takeLock locks state_dir before anything is started. It refuses when a run of
// a hook could meet another pgagroal, or could not be recorded.
func takeLock(c *config.Config, log *slog.Logger) (lockState, error) {
	if c.StateDir == "" && !c.Failover {
		return lockState{}, nil
	}
	file, held, holder, err := proc.Lock(c.StateDir)
	switch {
	case err != nil && c.Failover:
		return lockState{}, fmt.Errorf("state_dir can't be used, and failover = on needs it: %w", err)
	case err != nil:
		log.Info("state_dir can't be used; going on without, since failover is off", "error", err)
		return lockState{}, nil
	case !held:
		return lockState{file: file, ours: true, usable: true}, nil
	case holder > 0 && holder != os.Getpid() && isPgagroal(holder):
		file.Close()
		return lockState{}, fmt.Errorf("state_dir %s belongs to another running pgagroal, process %d; give each its own", c.StateDir, holder)
	}
	log.Warn("children of a pgagroal that is gone still hold state_dir; no script runs until they have ended", "state_dir", c.StateDir)
	return lockState{file: file, usable: true}, nil
}

// startLock goes on asking for a lock that wasn't free.
func (s *supervisor) startLock() {
	if !s.lock.ours && s.lock.usable {
		s.after(lockRetry, s.askLock)
	}
}

func (s *supervisor) askLock() {
	file := s.lock.file
	s.env.background(func() func() {
		held, err := s.env.relock(file)
		return func() { s.onLock(held, err) }
	})
}

func (s *supervisor) onLock(held bool, err error) {
	if err != nil {
		s.log.Debug("state_dir can't be locked", "error", err)
	}
	if held || err != nil {
		s.after(lockRetry, s.askLock)
		return
	}
	s.lock.ours = true
	s.log.Info("state_dir is ours now; scripts may run")
	s.feed(failover.RunsAllowed{Allowed: true})
	s.lockIsOurs()
}
