package supervisor

import (
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// confinement is what the kernel keeps the workers from, as the last one that
// became ready has told before its first client, and what it lacks for that.
type confinement struct{ inForce, lacking []string }

// noteConfinement warns of each part once, since all workers lack the same.
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
