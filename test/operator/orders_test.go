package operator

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestAFailedNotifyScriptRunsAgain(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	// The first run fails, the second doesn't.
	s := pool.Play(t, c, pool.Plan{Notify: `test "$(wc -l < "$0.runs")" -ge 2 || exit 4`, Keys: map[string]string{"failover_notify_retries": "3"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Notify.WaitRuns(1)
	s.Alarmed("the notify script failed: exit code 4; retry 1 of 3")
	s.Notify.WaitRuns(2)
	pgtest.WaitUntil(t, pool.Generous, "the alarm to be over", func() bool { return !s.HasAlarm("notify script") }, s.Pool.Log)
	s.Opened("n2")
	h := s.ToldTimes(2, "notify")
	pool.Says(t, h[0], "result", "exit code 4")
	pool.Says(t, h[1], "reason", "retry 1 of 3")
	pool.Says(t, h[1], "result", "exit code 0")
	s.Ran(pool.OneRun(n1, n2), [][]string{pool.RunArgs(n1, n2), pool.RunArgs(n1, n2)})
}

func TestAReplacedPrimaryIsAReplicaByItselfAfterItsQuarantine(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failback": "standby", "failback_quarantine": "1s"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Opened("n2")
	pool.Must(t, n1.Rejoin(pool.Within(t), n2))
	s.Pool.WaitState("n1", "Replica")
	pool.Says(t, s.Told("failback"), "reason", "followed n2 for 1s")
	// So the server is a candidate again.
	s.Pool.Connect()
	pool.Must(t, n2.Kill())
	s.Opened("n1")
	s.Notify.WaitRuns(2)
	there, back := pool.RunArgs(n1, n2), pool.RunArgs(n2, n1)
	s.Ran([][]string{there, back}, [][]string{there, back})
}

func TestWhileFailoverIsPausedADeadPrimaryIsShownAndHeldAndNothingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Says(t, s.Pool.JSON("failover", "pause"), "Next", "until pgagroal-cli failover resume")
	s.Alarmed("failover is paused")
	pool.Must(t, n1.Kill())
	s.Held("failover is paused, and n1 can't be used")
	s.Deny("failover is paused", "failover", "trigger")
	// It is the same after a restart.
	s.Pool.Kill()
	s.Pool.Restart()
	s.Held("failover is paused, and n1 can't be used")
	s.Alarmed("failover is paused")
	s.NothingRan()
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	waiting := s.LogIn()
	pool.Says(t, s.Pool.JSON("failover", "resume"), "Next", "a failover follows")
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
	pool.Says(t, s.Told("pause"), "reason", "by command")
	pool.Says(t, s.Told("resume"), "reason", "by command")
}

func TestARestartOfThePrimaryWhileFailoverIsPausedEndsByItself(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "0"}})
	s.Opened("n1")
	s.Pool.Connect()
	s.Do("failover", "pause")
	pool.Must(t, s.Node(1).Stop(pool.Within(t), pgtest.Fast))
	s.Held("failover is paused, and n1 can't be used")
	waiting := s.LogIn()
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.Opened("n1")
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.Alarmed("failover is paused")
	s.NothingRan()
}

func TestATriggeredFailoverPromotesTheServerThatIsNamed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_restart_grace": "10m"}})
	s.Opened("n1")
	s.Deny("n1 is writable", "failover", "trigger")
	s.Deny("n1 is the primary already", "failover", "trigger", "--to", "n1", "--force")
	s.Deny("no such server", "failover", "trigger", "--to", "n9")
	client := s.Pool.Connect()
	pool.Must(t, n1.Stop(pool.Within(t), pgtest.Fast))
	if _, err := pool.Query(client, "SELECT 1"); err == nil {
		t.Error("a client of the stopped primary got no error")
	}
	answer := s.Pool.JSON("failover", "trigger", "--to", "n3")
	pool.Says(t, answer, "Next", "failover_script promotes n3")
	s.Opened("n3")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n3), pool.OneRun(n1, n3, n2))
	pool.Says(t, s.Told("failover"), "reason", "triggered by command")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
}

func TestATriggerByForceReplacesAPrimaryThatWorks(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_keep_sessions": "known"}})
	s.Opened("n1")
	kept, marked := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, kept, "SELECT 1") // else it would move in any case
	pool.MustQuery(t, marked, "LISTEN x")
	s.Do("failover", "trigger", "--force")
	s.Opened("n2")
	pool.CutFrom(t, kept, marked, "n2")
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
}

func TestAResetEndsTheLockOfFailoverMax(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// The notify script leaves n3 to the test.
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_max": "1", "failback": "standby"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Opened("n2")
	s.Follow(n3, n2)
	s.Pool.Connect()
	pool.Must(t, n2.Kill())
	s.Held("failover_max")
	if got := s.Word("HeldReason"); !strings.Contains(got, "reset") {
		t.Errorf("the reason doesn't name the command: %s", got)
	}
	pool.Says(t, s.Pool.JSON("failover", "reset"), "Next", "n2 is probed again")
	s.Opened("n3")
	s.Notify.WaitRuns(2)
	s.Ran([][]string{pool.RunArgs(n1, n2), pool.RunArgs(n2, n3)}, [][]string{pool.RunArgs(n1, n2, n3), pool.RunArgs(n2, n3)})
}
