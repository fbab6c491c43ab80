package supervisor

import (
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// confinement is what the kernel forbids the workers, and what of this the kernel
// doesn't support. The last worker that became ready has reported it.
type confinement struct{ inForce, lacking []string }

// noteConfinement logs each missing part once, since it is missing in all workers.
func (s *supervisor) noteConfinement(m *ipc.ConfigDone) {
	was := s.workers.confined
	s.workers.confined = confinement{m.Confined, m.Unconfined}
	for _, part := range m.Unconfined {
		if !slices.Contains(was.lacking, part) {
			s.log.Warn("the kernel doesn't confine the workers in everything; see pgagroal-privsep(7)", "lacking", part)
		}
	}
}

func (c confinement) response() control.Confinement {
	return control.Confinement{InForce: c.inForce, Lacking: c.lacking}
}
