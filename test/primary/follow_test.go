package primary

import (
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestFollowModeRunsNothingAndFollowsWhoeverIsPromoted(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: pool.HastyKeys(map[string]string{"failover_mode": "follow"})})
	s.Opened("n1")
	if got := s.Pool.Runner(); got != 0 {
		t.Errorf("there is a script runner, process %d", got)
	}
	s.Kill(1)
	s.Held("somebody else promotes")
	pool.Says(t, s.Status(), "Mode", "follow")
	waiting := s.LogIn()
	s.Quiet(time.Second)
	pool.Must(t, c.Nodes[1].Promote(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Opened("n2")
	if got := s.Epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	s.Pool.WaitState("n1", "Failed")
	s.NothingRan()
}

func TestFollowModeGoesBackToAPrimaryThatNobodyReplaced(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: pool.HastyKeys(map[string]string{"failover_mode": "follow"})})
	s.Opened("n1")
	s.Kill(1)
	s.Held("somebody else promotes")
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Same()
}

func TestModeOffOnlyShowsWhatItSees(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: pool.HastyKeys(map[string]string{"failover_mode": "off"})})
	s.Opened("n1")
	s.Kill(1)
	s.Alarmed("n1 does not answer, and failover is off")
	pool.Says(t, s.Status(), "Held", "false")
	s.Seen("n1", "refused")
	s.Same()
}
