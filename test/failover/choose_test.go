package failover

import (
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// verdicts returns the history's verdict on each candidate.
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
	_, err := n.Query(pool.Within(t), "CREATE TABLE filled AS SELECT i, repeat('x', 100) FROM generate_series(1, 500) i")
	pool.Must(t, err)
}

// lsnBefore compares two positions. The server writes WAL of its own, so a probe may see a later position than
// the one that it is compared with.
func lsnBefore(t *testing.T, a, b string) bool {
	t.Helper()
	var n [2]uint64
	for i, text := range []string{a, b} {
		var high, low uint64
		_, err := fmt.Sscanf(text, "%X/%X", &high, &low)
		pool.Must(t, err)
		n[i] = high<<32 | low
	}
	return n[0] < n[1]
}

func TestTheStandbyThatReceivedMoreIsChosen(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	link := replicationVia(t, c, n2)
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	pool.Must(t, n3.WaitReplay(pool.Within(t), n1))
	pool.Must(t, n1.Kill())
	s.Opened("n3")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n3), pool.OneRun(n1, n3, n2))
	v := verdicts(s.Told("failover"))
	if v["n3"] != "chosen" || v["n2"] != "eligible" {
		t.Errorf("verdicts are %v, want n3 chosen and n2 eligible", v)
	}
	if rows := pool.MustQuery(t, s.Pool.Connect(), "SELECT count(*) FROM filled"); rows[0][0] != "500" {
		t.Errorf("%s of 500 rows are there", rows[0][0])
	}
}

func TestAHigherTimelineIsChosenBeforeAHigherPosition(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 3})
	n1, n2, n3, n4 := c.Nodes[0], c.Nodes[1], c.Nodes[2], c.Nodes[3]
	// n3 follows a server on timeline 2 that isn't configured in the pool.
	pool.Must(t, n4.Promote(pool.Within(t)))
	pool.Must(t, n3.Follow(pool.Within(t), n4.Host, n4.Port))
	pool.Must(t, n3.WaitStreaming(pool.Within(t), n4))
	s := pool.Play(t, c, pool.Plan{Servers: pool.Nodes(c)[:3]})
	s.Opened("n1")
	s.Pool.Connect()
	fill(t, n1)
	pool.Must(t, n2.WaitReplay(pool.Within(t), n1))
	pool.Must(t, n1.Kill())
	s.Opened("n3")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n3), pool.OneRun(n1, n3, n2))
	pool.Says(t, s.Server("n3"), "Timeline", "3")
}

func TestAServerThatIsNoCandidateIsNeverPromotedButNotified(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	link := replicationVia(t, c, n3)
	s := pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(pool.Nodes(c), 2)})
	s.Opened("n1")
	s.Pool.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	pool.Must(t, n2.WaitReplay(pool.Within(t), n1)) // n2 has replayed more than n3, and still is no candidate
	pool.Must(t, n1.Kill())
	s.Opened("n3")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n3), pool.OneRun(n1, n3, n2))
	if v := verdicts(s.Told("failover")); v["n2"] != "failover_candidate is off" {
		t.Errorf("the verdict on n2 is %q", v["n2"])
	}
}

func TestAStandbyTooFarBehindIsNotPromotedAndThePrimaryIsTakenBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1 := c.Nodes[0]
	link := replicationVia(t, c, c.Nodes[1])
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_max_lag": "16384", "health_check": "on", "health_check_period": "1s"}})
	s.Opened("n1")
	client := s.Pool.Connect()
	link.Silence(pgtest.BothWays)
	fill(t, n1)
	lsn := pool.MustQuery(t, client, "SELECT pg_current_wal_lsn()")[0][0]
	pgtest.WaitUntil(t, pool.Generous, "a probe to see position "+lsn, func() bool { return !lsnBefore(t, s.Word("LastLSN"), lsn) },
		func() string { return s.Word("LastLSN") })
	pool.Must(t, n1.Kill())
	s.Held("New primary could not be found")
	s.Pool.WaitState("n1", "Failed")
	pool.Says(t, s.Server("n1"), "Reason", "New primary could not be found")
	if v := verdicts(s.Told("no_candidate")); v["n2"] == "" || v["n2"] == "chosen" {
		t.Errorf("the verdict on n2 is %q", v["n2"])
	}
	pool.Says(t, s.Told("no_candidate"), "candidates", "failover_max_lag is 16384")
	pool.Must(t, n1.Start(pool.Within(t)))
	s.Same()
	pool.Says(t, s.Told("settled"), "result", "n1 is the primary again, same epoch")
	pool.MustQuery(t, s.Pool.Connect(), "SELECT count(*) FROM filled")
}

func TestWithoutACandidateClientsWaitForOneThatIsPromotedByHand(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(pool.Nodes(c), 2)})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Held("New primary could not be found")
	s.Pool.WaitState("n1", "Failed")
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1: nothing has changed", got)
	}
	s.Alarmed("New primary could not be found")
	s.NothingRan()
	waiting := s.LogIn()
	pool.Must(t, n2.Promote(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran(nil, pool.OneRun(n1, n2))
	pool.Says(t, s.Told("settled"), "result", "adopted n2")
}

func TestWhenEveryServerDiedThePrimaryThatReturnsIsTakenBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[1].Kill())
	pool.Must(t, c.Nodes[0].Kill())
	s.Held("New primary could not be found")
	waiting := s.LogIn()
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Served(waiting)
	s.Same()
}

func TestAStandbyThatWasPromotedByHandIsAdoptedWithoutARun(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n2.Promote(pool.Within(t)))
	pool.Must(t, n1.Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(nil, pool.OneRun(n1, n2, n3))
	pool.Says(t, s.Told("adopted"), "reason", "writable on a higher timeline while n1 is dead")
	if got := s.Epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2", got)
	}
	s.Pool.WaitState("n1", "Failed")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}

func TestACandidateThatDiesBeforeTheScriptIsPassedOver(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_probe_count": "20"}}) // 6 s to kill n2
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.WaitStatus("Phase", "suspect")
	pool.Must(t, n2.Kill())
	s.Opened("n3")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n3), pool.OneRun(n1, n3, n2))
}

func TestTheNotifyScriptGetsTheOtherServersInConfigurationOrder(t *testing.T) {
	t.Parallel()
	for _, standbys := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d servers", standbys+1), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: standbys})
			servers := pool.Nodes(c)
			// The last server is the candidate, and the order is not that of the names.
			next := c.Nodes[standbys]
			want := []*pgtest.Node{c.Nodes[0], next}
			for i := standbys; i >= 2; i-- {
				servers = pool.NoCandidate(servers, i)
				want = append(want, c.Nodes[i-1])
			}
			for i, j := 0, len(servers)-1; i < j; i, j = i+1, j-1 {
				servers[i], servers[j] = servers[j], servers[i]
			}
			s := pool.Play(t, c, pool.Plan{Servers: servers})
			s.Opened("n1")
			s.Pool.Connect()
			pool.Must(t, c.Nodes[0].Kill())
			s.Opened(next.Name)
			s.Notify.WaitRuns(1)
			s.Ran(pool.OneRun(c.Nodes[0], next), pool.OneRun(want...))
			pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
		})
	}
}
