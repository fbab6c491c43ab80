package test

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestAFailedNotifyScriptRunsAgain(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	// The first run fails, the second doesn't.
	s := play(t, c, plan{notify: `test "$(wc -l < "$0.runs")" -ge 2 || exit 4`, keys: map[string]string{"failover_notify_retries": "3"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.notify.WaitRuns(1)
	s.alarmed("the notify script failed: exit code 4; retry 1 of 3")
	s.notify.WaitRuns(2)
	pgtest.WaitUntil(t, generous, "the alarm to be over", func() bool { return !s.hasAlarm("notify script") }, s.p.Log)
	s.opened("n2")
	h := s.toldTimes(2, "notify")
	says(t, h[0], "result", "exit code 4")
	says(t, h[1], "reason", "retry 1 of 3")
	says(t, h[1], "result", "exit code 0")
	s.ran(one(n1, n2), [][]string{args(n1, n2), args(n1, n2)})
}

func TestAReplacedPrimaryIsAReplicaByItselfAfterItsQuarantine(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{keys: map[string]string{"failback": "standby", "failback_quarantine": "1s"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.opened("n2")
	must(t, n1.Rejoin(within(t), n2))
	s.p.WaitState("n1", "Replica")
	says(t, s.told("failback"), "reason", "followed n2 for 1s")
	// And so it is a candidate again.
	s.p.Connect()
	must(t, n2.Kill())
	s.opened("n1")
	s.notify.WaitRuns(2)
	there, back := args(n1, n2), args(n2, n1)
	s.ran([][]string{there, back}, [][]string{there, back})
}

func TestWhileFailoverIsPausedADeadPrimaryIsShownAndHeldAndNothingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	says(t, s.p.JSON("failover", "pause"), "Next", "until pgagroal-cli failover resume")
	s.alarmed("failover is paused")
	must(t, n1.Kill())
	s.held("failover is paused, and n1 can't be used")
	s.deny("failover is paused", "failover", "trigger")
	// It is the same after a restart.
	s.p.Kill()
	s.p.Restart()
	s.held("failover is paused, and n1 can't be used")
	s.alarmed("failover is paused")
	s.nothingRan()
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	waiting := s.logIn()
	says(t, s.p.JSON("failover", "resume"), "Next", "a failover follows")
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.notify.WaitRuns(1)
	s.ran(one(n1, n2), one(n1, n2))
	says(t, s.told("pause"), "reason", "by command")
	says(t, s.told("resume"), "reason", "by command")
}

func TestARestartOfThePrimaryWhileFailoverIsPausedEndsByItself(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"failover_restart_grace": "0"}})
	s.opened("n1")
	s.p.Connect()
	s.do("failover", "pause")
	must(t, s.node(1).Stop(within(t), pgtest.Fast))
	s.held("failover is paused, and n1 can't be used")
	waiting := s.logIn()
	must(t, s.node(1).Start(within(t)))
	if got := at(t, s.served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.opened("n1")
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.alarmed("failover is paused")
	s.nothingRan()
}

func TestATriggeredFailoverPromotesTheServerThatIsNamed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	s := play(t, c, plan{keys: map[string]string{"failover_restart_grace": "10m"}})
	s.opened("n1")
	s.deny("n1 is writable", "failover", "trigger")
	s.deny("n1 is the primary already", "failover", "trigger", "--to", "n1", "--force")
	s.deny("no such server", "failover", "trigger", "--to", "n9")
	client := s.p.Connect()
	must(t, n1.Stop(within(t), pgtest.Fast))
	if _, err := query(client, "SELECT 1"); err == nil {
		t.Error("a client of the stopped primary got no error")
	}
	answer := s.p.JSON("failover", "trigger", "--to", "n3")
	says(t, answer, "Next", "failover_script promotes n3")
	s.opened("n3")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n3), one(n1, n3, n2))
	says(t, s.told("failover"), "reason", "triggered by command")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
}

func TestATriggerByForceReplacesAPrimaryThatWorks(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{})
	s.opened("n1")
	client := s.p.Connect()
	mustQuery(t, client, "SELECT 1") // else it would move without a word
	s.do("failover", "trigger", "--force")
	s.opened("n2")
	if _, err := query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("a session on the old primary got %v, want 57P01", err)
	}
	s.p.WaitState("n1", "Failed (split brain)")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n2), one(n1, n2))
}

func TestAResetEndsTheLockOfFailoverMax(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// The notify script leaves n3 to the test.
	s := play(t, c, plan{keys: map[string]string{"failover_max": "1", "failback": "standby"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.opened("n2")
	s.follow(n3, n2)
	s.p.Connect()
	must(t, n2.Kill())
	s.held("failover_max")
	if got := s.word("HeldReason"); !strings.Contains(got, "reset") {
		t.Errorf("the reason doesn't name the command: %s", got)
	}
	says(t, s.p.JSON("failover", "reset"), "Next", "n2 is looked at again")
	s.opened("n3")
	s.notify.WaitRuns(2)
	s.ran([][]string{args(n1, n2), args(n2, n3)}, [][]string{args(n1, n2, n3), args(n2, n3)})
}
