package supervisor

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// lockRetry is how often the supervisor tries to get the lock while children of a dead
// supervisor still hold it.
const lockRetry = 200 * time.Millisecond

// lockLate is how long the lock may be held before its holders are named. Children of a
// killed supervisor normally end within a second.
const lockLate = 5 * time.Second

// startLock keeps trying to get a lock that wasn't free.
func (s *supervisor) startLock() {
	if !s.dir.Ours && s.dir.Usable {
		s.after(lockRetry, s.askLock)
		s.after(lockLate, s.nameHolders)
	}
}

// nameHolders tells the machine which processes hold the lock, for as long as they do:
// meanwhile no script can be run.
func (s *supervisor) nameHolders() {
	if s.dir.Ours {
		return
	}
	file := s.dir.Lock
	elsewhere(s, func() ([]proc.Process, error) { return s.env.lockHolders(file) }, func(by []proc.Process, err error) {
		if !s.dir.Ours {
			s.feed(failover.RunsAllowed{Holder: holdersText(by, err, s.dir.Path)})
			s.after(lockLate, s.nameHolders)
		}
	})
}

// holdersText lists the processes, or says how to find them.
func holdersText(by []proc.Process, err error, dir string) string {
	var names []string
	for _, p := range by {
		names = append(names, fmt.Sprintf("process %d (%s)", p.PID, p.Command()))
	}
	switch {
	case err != nil:
		return fmt.Sprintf("a process that can't be told: %v", err)
	case len(names) == 0:
		return fmt.Sprintf("a process that only root may look at: fuser %s/%s names it", dir, proc.LockName)
	}
	return strings.Join(names, ", ")
}

func (s *supervisor) askLock() {
	file := s.dir.Lock
	elsewhere(s, func() (held bool, err error) { return s.env.relock(file) }, s.onLock)
}

func (s *supervisor) onLock(held bool, err error) {
	if err != nil {
		s.log.Debug("state_dir can't be locked", "error", err)
	}
	if held || err != nil {
		s.after(lockRetry, s.askLock)
		return
	}
	s.dir.Ours = true
	s.log.Info("state_dir is locked by this pgagroal now; scripts may run")
	s.feed(failover.RunsAllowed{Allowed: true})
	s.lockIsOurs()
}
