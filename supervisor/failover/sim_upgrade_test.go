package failover

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

// upgrades are the moments of a schedule at which another machine goes on, as after an upgrade.
type upgrades struct {
	r    *rand.Rand // nil: there are none
	done int
	busy bool
}

// mayUpgrade puts another machine in the place of the one that has just made a step. What was
// under way to the old one is lost: its prober, its runner and its timers are replaced.
func (s *sim) mayUpgrade() {
	u := &s.upgrade
	if u.r == nil || u.busy || !s.alive || s.active != nil || s.m.Unsettled() != "" || u.r.IntN(20) > 0 {
		return
	}
	u.busy = true
	defer func() { u.busy = false }()
	var h Heritage
	b, err := json.Marshal(s.m.PassOn())
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	was := s.m.Status(s.now)
	if err == nil {
		s.m, err = Continue(s.cfg, h, s.now)
	}
	if err != nil {
		s.fail("no machine can go on: %v", err)
		return
	}
	u.done++
	s.life++
	s.note("upgrade")
	s.step(Started{Wall: time.Unix(1000, 0).Add(s.now)})
	if !s.alive {
		return
	}
	if is := s.m.Status(s.now); is.Primary != was.Primary || is.Epoch != was.Epoch || is.Open != (is.Phase == PhaseOpen.String() || is.Phase == PhaseSuspect.String()) {
		s.fail("it goes on with %s, not with %s", is.Line(), was.Line())
	}
	s.at(s.now+s.upTo(time.Second), RunnerUp{}, nil)
	s.at(s.now+s.upTo(time.Second), RunsAllowed{Allowed: true}, nil)
}

func TestWhatMustNeverHappenDoesNotAfterUpgrades(t *testing.T) {
	schedules, done := uint64(4000), 0
	if testing.Short() {
		schedules = 500
	}
	for seed := range schedules {
		s := newSim(seed)
		s.upgrade.r = rand.New(rand.NewPCG(seed, 4))
		if _, err := s.play(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		done += s.upgrade.done
	}
	if done < int(schedules) {
		t.Errorf("only %d upgrades: the schedules test nothing", done)
	}
}
