package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

// elsewhere runs work in a goroutine, and then done with its result in the loop. If
// work panics, the panic becomes its error: the operation fails, and the supervisor
// goes on.
func elsewhere[T any](s *supervisor, work func() (T, error), done func(T, error)) {
	s.env.background(func() func() {
		var v T
		err := logline.Guarded(s.log, func() (err error) { v, err = work(); return err })
		return func() { done(v, err) }
	})
}

// abandon kills workers and prober after a panic in the loop, and waits a while for their
// exits. The runner isn't killed: it sees the end of its link, and ends after its
// script.
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
	for _, a := range s.aides() {
		if p := a.end; p != nil && p.started != nil {
			p.started.kill()
			killed = append(killed, p.started)
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
