package test

import (
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// verdicts are what the history says of each candidate.
func verdicts(entry map[string]any) map[string]string {
	out := map[string]string{}
	list, _ := entry["candidates"].([]any)
	for _, x := range list {
		if m, _ := x.(map[string]any); m != nil {
			out[fmt.Sprint(m["name"])] = fmt.Sprint(m["verdict"])
		}
	}
	return out
}

// fill writes rows to a primary, some 100 KB of WAL.
func fill(t *testing.T, n *pgtest.Node) {
	t.Helper()
	_, err := n.Query(within(t), "CREATE TABLE filled AS SELECT i, repeat('x', 100) FROM generate_series(1, 500) i")
	must(t, err)
}

func TestTheStandbyThatReceivedMoreIsChosen(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	link := replicationVia(t, c, n2)
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	must(t, n3.WaitReplay(within(t), n1))
	must(t, n1.Kill())
	s.opened("n3")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n3), one(n1, n3, n2))
	v := verdicts(s.told("failover"))
	if v["n3"] != "chosen" || v["n2"] != "eligible" {
		t.Errorf("verdicts are %v, want n3 chosen and n2 eligible", v)
	}
	if rows := mustQuery(t, s.p.Connect(), "SELECT count(*) FROM filled"); rows[0][0] != "500" {
		t.Errorf("%s of 500 rows are there", rows[0][0])
	}
}

func TestAHigherTimelineIsChosenBeforeAHigherPosition(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 3})
	n1, n2, n3, n4 := c.Nodes[0], c.Nodes[1], c.Nodes[2], c.Nodes[3]
	// n3 follows a server that nobody told the pool of, on timeline 2.
	must(t, n4.Promote(within(t)))
	must(t, n3.Follow(within(t), n4.Host, n4.Port))
	must(t, n3.WaitStreaming(within(t), n4))
	s := play(t, c, plan{servers: nodes(c)[:3]})
	s.opened("n1")
	s.p.Connect()
	fill(t, n1)
	must(t, n2.WaitReplay(within(t), n1))
	must(t, n1.Kill())
	s.opened("n3")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n3), one(n1, n3, n2))
	says(t, s.server("n3"), "Timeline", "3")
}

func TestAServerThatIsNoCandidateIsNeverPromotedButNotified(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	link := replicationVia(t, c, n3)
	s := play(t, c, plan{servers: noCandidate(nodes(c), 2)})
	s.opened("n1")
	s.p.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	must(t, n2.WaitReplay(within(t), n1)) // further than n3, and still no candidate
	must(t, n1.Kill())
	s.opened("n3")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n3), one(n1, n3, n2))
	if v := verdicts(s.told("failover")); v["n2"] != "failover_candidate is off" {
		t.Errorf("the verdict on n2 is %q", v["n2"])
	}
}

func TestAStandbyTooFarBehindIsNotPromotedAndThePrimaryIsTakenBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1 := c.Nodes[0]
	link := replicationVia(t, c, c.Nodes[1])
	s := play(t, c, plan{keys: map[string]string{"failover_max_lag": "16384", "health_check": "on", "health_check_period": "1s"}})
	s.opened("n1")
	client := s.p.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	lsn := mustQuery(t, client, "SELECT pg_current_wal_lsn()")[0][0]
	s.waitStatus("LastLSN", lsn)
	must(t, n1.Kill())
	s.held("New primary could not be found")
	s.p.WaitState("n1", "Failed")
	says(t, s.server("n1"), "Reason", "New primary could not be found")
	if v := verdicts(s.told("no_candidate")); v["n2"] == "" || v["n2"] == "chosen" {
		t.Errorf("the verdict on n2 is %q", v["n2"])
	}
	says(t, s.told("no_candidate"), "candidates", "failover_max_lag is 16384")
	must(t, n1.Start(within(t)))
	s.same()
	says(t, s.told("settled"), "result", "n1 is the primary again, same epoch")
	mustQuery(t, s.p.Connect(), "SELECT count(*) FROM filled")
}

func TestWithoutACandidateClientsWaitForOneThatIsPromotedByHand(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{servers: noCandidate(nodes(c), 2)})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.held("New primary could not be found")
	s.p.WaitState("n1", "Failed")
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1: nothing has changed", got)
	}
	s.alarmed("New primary could not be found")
	s.nothingRan()
	waiting := s.logIn()
	must(t, n2.Promote(within(t)))
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.notify.WaitRuns(1)
	s.ran(nil, one(n1, n2))
	says(t, s.told("settled"), "result", "adopted n2")
}

func TestWhenEveryServerDiedThePrimaryThatReturnsIsTakenBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[1].Kill())
	must(t, c.Nodes[0].Kill())
	s.held("New primary could not be found")
	waiting := s.logIn()
	must(t, c.Nodes[0].Start(within(t)))
	s.served(waiting)
	s.same()
}

func TestAStandbyThatWasPromotedByHandIsAdoptedWithoutARun(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	must(t, n2.Promote(within(t)))
	must(t, n1.Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(nil, one(n1, n2, n3))
	says(t, s.told("adopted"), "reason", "writable on a higher timeline while n1 is dead")
	if got := s.epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	s.p.WaitState("n1", "Failed")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}

func TestACandidateThatDiesBeforeTheScriptIsPassedOver(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := play(t, c, plan{keys: map[string]string{"failover_probe_count": "6"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.waitStatus("Phase", "suspect")
	must(t, n2.Kill())
	s.opened("n3")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n3), one(n1, n3, n2))
}

func TestTheNotifyScriptGetsTheOtherServersInConfigurationOrder(t *testing.T) {
	t.Parallel()
	for _, standbys := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d servers", standbys+1), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: standbys})
			servers := nodes(c)
			// The last server is the candidate, and the order is not that of the names.
			next := c.Nodes[standbys]
			want := []*pgtest.Node{c.Nodes[0], next}
			for i := standbys; i >= 2; i-- {
				servers = noCandidate(servers, i)
				want = append(want, c.Nodes[i-1])
			}
			for i, j := 0, len(servers)-1; i < j; i, j = i+1, j-1 {
				servers[i], servers[j] = servers[j], servers[i]
			}
			s := play(t, c, plan{servers: servers})
			s.opened("n1")
			s.p.Connect()
			must(t, c.Nodes[0].Kill())
			s.opened(next.Name)
			s.notify.WaitRuns(1)
			s.ran(one(c.Nodes[0], next), one(want...))
			mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
		})
	}
}
