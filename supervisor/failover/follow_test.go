package failover

import (
	"testing"
	"time"
)

// The servers that may have been promoted are probed often, for a while, and only if somebody else promotes.
func TestProbesLookForASuccessor(t *testing.T) {
	for _, c := range []struct {
		name        string
		follow      bool
		after       time.Duration // since the primary died
		most, least int           // probes of n2 within ten seconds
	}{
		{"at once", true, 5 * time.Second, 101, 90},
		{"much later", true, 10 * time.Minute, 11, 9},
		{"pgagroal promotes", false, 5 * time.Second, 11, 9},
	} {
		w := openWorld(t, "n1 n2")
		cfg := w.cfg
		cfg.Follow = c.follow
		w.step(Reconfigured{Config: &cfg})
		w.hooks[HookFailover] = script{after: time.Second, end: RunEnded{Exit: 1}}
		w.nodes[0].outcome = SawRefused
		w.step(Hinted{Server: 0, Epoch: 1, Kind: "refused"})
		w.run(w.now + c.after)
		if w.m.phase != PhaseHeld {
			t.Errorf("%s: phase is %s, want held", c.name, w.m.phase)
		}
		probes := 0
		w.onAct = func(a Action) bool {
			if p, ok := a.(Probe); ok && p.Server == 1 {
				probes++
			}
			return true
		}
		w.run(w.now + 10*time.Second)
		if probes < c.least || probes > c.most {
			t.Errorf("%s: %d probes in ten seconds, want %d to %d", c.name, probes, c.least, c.most)
		}
	}
}
