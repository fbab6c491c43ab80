package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// lockRetry is how often the lock is asked for that children of a dead
// supervisor still hold.
const lockRetry = 200 * time.Millisecond

// startLock goes on asking for a lock that wasn't free.
func (s *supervisor) startLock() {
	if !s.dir.Ours && s.dir.Usable {
		s.after(lockRetry, s.askLock)
	}
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
	s.log.Info("state_dir is ours now; scripts may run")
	s.feed(failover.RunsAllowed{Allowed: true})
	s.lockIsOurs()
}
