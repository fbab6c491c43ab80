package test

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestFollowModeRunsNothingAndFollowsWhoeverIsPromoted(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: hasty(map[string]string{"failover_mode": "follow"})})
	s.opened("n1")
	if got := s.p.Runner(); got != 0 {
		t.Errorf("there is a script runner, process %d", got)
	}
	s.kill(1)
	s.held("somebody else promotes")
	says(t, s.status(), "Mode", "follow")
	waiting := s.logIn()
	s.quiet(time.Second)
	must(t, c.Nodes[1].Promote(within(t)))
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.opened("n2")
	if got := s.epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	s.p.WaitState("n1", "Failed")
	s.nothingRan()
}

func TestFollowModeGoesBackToAPrimaryThatNobodyReplaced(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: hasty(map[string]string{"failover_mode": "follow"})})
	s.opened("n1")
	s.kill(1)
	s.held("somebody else promotes")
	must(t, c.Nodes[0].Start(within(t)))
	s.same()
}

func TestModeOffOnlyShowsWhatItSees(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: hasty(map[string]string{"failover_mode": "off"})})
	s.opened("n1")
	s.kill(1)
	s.alarmed("n1 does not answer, and failover is off")
	says(t, s.status(), "Held", "false")
	s.seen("n1", "refused")
	s.same()
}
