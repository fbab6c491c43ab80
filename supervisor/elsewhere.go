package supervisor

import (
	"log/slog"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

// elsewhere runs work outside of the loop, and done with its result in the loop. If
// work panics, that is its error: the operation fails, and the supervisor goes on.
func elsewhere[T any](s *supervisor, work func() (T, error), done func(T, error)) {
	s.env.background(func() func() {
		v, err := guarded(s.log, work)
		return func() { done(v, err) }
	})
}

// guarded makes a panic of work an error.
func guarded[T any](log *slog.Logger, work func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = logline.Recovered(log, p)
		}
	}()
	return work()
}

// abandon kills the workers when the loop itself has panicked, and waits a while for
// their ends. The runner is told by the end of its link, since it ends its script first.
func (s *supervisor) abandon() {
	late := time.NewTimer(drainLimit)
	defer late.Stop()
	var killed []*started
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.started != nil {
			c.started.kill()
			killed = append(killed, c.started)
		}
	}
	if r := s.runner.end; r != nil && r.started != nil {
		r.started.close()
	}
	for _, st := range killed {
		select {
		case <-st.over:
			st.close()
		case <-late.C:
			return
		}
	}
}
