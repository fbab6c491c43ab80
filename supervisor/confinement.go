package supervisor

import (
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// confinement is what the kernel forbids the workers, the prober or the console, and what of this the
// kernel doesn't support. The last such process that became ready has reported it.
type confinement struct{ inForce, lacking []string }

// noteConfinement logs each missing part once, because a part that is missing in one
// worker is missing in all of them and in the further children. It logs nothing while pgagroal ends.
func (s *supervisor) noteConfinement(of *confinement, who string, inForce, lacking []string) {
	was := slices.Clone(s.workers.confined.lacking)
	for _, a := range s.aides() {
		was = append(was, a.confined.lacking...)
	}
	*of = confinement{inForce, lacking}
	for _, part := range lacking {
		if !slices.Contains(was, part) && s.stop.mode != stopNow {
			s.log.Warn("the kernel lacks a part of what confines the "+who+"; see pgagroal-privsep(7)", "lacking", part)
		}
	}
}

// confinement returns the confinement of the workers, and what only further children lack.
func (s *supervisor) confinement() control.Confinement {
	c := control.Confinement{InForce: s.workers.confined.inForce, Lacking: slices.Clone(s.workers.confined.lacking)}
	for _, a := range s.aides() {
		for _, part := range a.confined.lacking {
			if !slices.Contains(c.Lacking, part) {
				c.Lacking = append(c.Lacking, a.name+": "+part)
			}
		}
	}
	return c
}
