package primary

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestAReplacedPrimaryThatReturnsWritableIsNeverUsed(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 1)
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.Alarmed("never used: n1")
	if got := s.Pool.JSON("status")["SplitBrain"]; got != "Yes" {
		t.Errorf("status says SplitBrain %v, want Yes", got)
	}
	s.Pool.WaitLog("writable although n2 replaced it: never used")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestARestartedPoolerDoesNotGoBackToTheReplacedPrimary(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 1)
	for name, end := range map[string]func(){"stopped": s.Pool.Stop, "killed": s.Pool.Kill} {
		end()
		if !s.Node(1).Running() {
			pool.Must(t, s.Node(1).Start(pool.Within(t)))
		}
		s.Pool.Restart()
		s.Opened("n2")
		s.Pool.WaitState("n1", "Failed (split brain)")
		if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
			t.Errorf("%s and started again, a client is on %s, want n2", name, got)
		}
		if got := s.Epoch(); got != 2 {
			t.Errorf("%s and started again, epoch is %d, want 2", name, got)
		}
	}
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAReplacedPrimaryIsNotUsedEvenWhenItIsTheOnlyOneLeft(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 1)
	s.Pool.Connect()
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Pool.WaitState("n1", "Failed (split brain)")
	pool.Must(t, s.Node(2).Kill())
	s.Held("New primary could not be found")
	pool.Says(t, s.Server("n1"), "EndedBy", "clear server --force n1")
	s.Deny("--force accepts it as the primary", "clear", "server", "n1")
	waiting := s.LogIn()
	s.Do("clear", "server", "n1", "--force")
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.Opened("n1")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestAReplacedPrimaryThatReturnsAsAStandbyStaysFailedUntilCleared(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 1)
	pool.Must(t, s.Node(1).Rejoin(pool.Within(t), s.Node(2)))
	s.Seen("n1", "standby")
	s.Pool.WaitState("n1", "Failed")
	pool.Says(t, s.Server("n1"), "Reason", "back as a standby")
	pool.Says(t, s.Server("n1"), "EndedBy", "pgagroal-cli clear server n1")
	s.Do("clear", "server", "n1")
	s.Pool.WaitState("n1", "Replica")
	// And now it may be promoted: a second failover, back to where it began.
	s.Pool.Connect()
	pool.Must(t, s.Node(2).Kill())
	s.Opened("n1")
	s.Notify.WaitRuns(2)
	there, back := pool.RunArgs(s.Node(1), s.Node(2)), pool.RunArgs(s.Node(2), s.Node(1))
	s.Ran([][]string{there, back}, [][]string{there, back})
	if got := s.Epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
}

func TestWhileItIsFailedAReturnedStandbyIsNoCandidate(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 1)
	s.Pool.Connect()
	pool.Must(t, s.Node(1).Rejoin(pool.Within(t), s.Node(2)))
	s.Seen("n1", "standby")
	pool.Must(t, s.Node(2).Kill())
	s.Held("New primary could not be found")
	pool.Says(t, s.Told("no_candidate"), "candidates", "Failed: back as a standby")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestClearServerRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	s := pool.FailedOverWith(t, 1, map[string]string{"failover_keep_sessions": "known"})
	s.Deny("n7: no such server", "clear", "server", "n7")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.Deny("n1 is writable; --force accepts it as the primary", "clear", "server", "n1")
	s.Pool.WaitState("n1", "Failed (split brain)")
	kept, marked := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, kept, "SELECT 1") // else it would move in any case
	pool.MustQuery(t, marked, "LISTEN x")
	s.Do("clear", "server", "n1", "--force")
	s.Opened("n1")
	pool.CutFrom(t, kept, marked, "n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

func TestCommandsAreRefusedWhileAScriptRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, nil)
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	s.Deny("a failover script is running", "clear", "server", "n1")
	s.Deny("a failover script is running", "switch-to", "n2")
	open()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestSwitchToOfAWritableServerNeedsAnOldOneThatIsNot(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_keep_sessions": "known"}})
	s.Opened("n1")
	s.Deny("n7: no such server", "switch-to", "n7")
	pool.Must(t, c.Nodes[1].Promote(pool.Within(t)))
	s.Deny("n1 is still writable", "switch-to", "n2")
	s.Opened("n1")
	kept, marked := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, kept, "SELECT 1") // else it would move in any case
	pool.MustQuery(t, marked, "LISTEN x")
	s.Do("switch-to", "n2", "--force")
	s.Opened("n2")
	pool.CutFrom(t, kept, marked, "n2")
	s.Pool.WaitState("n1", "Not init (split brain)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.NothingRan()
}

func TestAPlannedSwitchoverMadeByHandIsFollowed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "30s"}})
	s.Opened("n1")
	pool.Must(t, n1.Stop(pool.Within(t), pgtest.Fast))
	pool.Must(t, n2.Promote(pool.Within(t)))
	s.Do("switch-to", "n2")
	s.Opened("n2")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	if n := len(s.Failover.Runs()); n != 0 {
		t.Errorf("%d runs of failover_script, want none", n)
	}
}

func TestADemotedPrimaryIsLeftForTheServerPromotedInItsPlace(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "30s"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Stop(pool.Within(t), pgtest.Fast))
	pool.Must(t, os.WriteFile(filepath.Join(n1.DataDir, "standby.signal"), nil, 0o600))
	pool.Give(t, filepath.Join(n1.DataDir, "standby.signal"))
	pool.Must(t, n1.Start(pool.Within(t)))
	s.Held("n1 answers as a standby")
	pool.Must(t, n2.Promote(pool.Within(t)))
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(nil, pool.OneRun(n1, n2))
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}

func TestTheNewPrimaryMayDieTooAndTheFirstOneStaysOut(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 2)
	n1, n2, n3 := s.Node(1), s.Node(2), s.Node(3)
	s.Pool.WaitState("n3", "Replica (detached)") // nobody has re-pointed it
	s.Follow(n3, n2)
	pool.Must(t, n1.Rejoin(pool.Within(t), n2))
	s.Seen("n1", "standby")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	pool.Must(t, n3.WaitReplay(pool.Within(t), n2))
	pool.Must(t, n2.Kill())
	s.Opened("n3")
	s.Notify.WaitRuns(2)
	s.Ran([][]string{pool.RunArgs(n1, n2), pool.RunArgs(n2, n3)}, [][]string{pool.RunArgs(n1, n2, n3), pool.RunArgs(n2, n3)})
	pool.MustQuery(t, s.Pool.Connect(), "INSERT INTO t VALUES (1)")
	if got := s.Epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
	for _, name := range []string{"n1", "n2"} {
		s.Pool.WaitState(name, "Failed")
	}
}

func TestADetachedStandbyIsNoCandidate(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 2)
	s.Pool.WaitState("n3", "Replica (detached)")
	s.Pool.Connect()
	pool.Must(t, s.Node(2).Kill())
	s.Held("New primary could not be found")
	pool.Says(t, s.Told("no_candidate"), "candidates", "detached")
	n1, n2, n3 := s.Node(1), s.Node(2), s.Node(3)
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2, n3))
}
