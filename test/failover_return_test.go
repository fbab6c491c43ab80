package test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// do runs a command of pgagroal-cli that has to succeed.
func (s *scene) do(args ...string) {
	s.t.Helper()
	if out, errs, code := s.p.CLI(args...); code != 0 {
		s.t.Fatalf("pgagroal-cli %v: exit %d\n%s%s", args, code, out, errs)
	}
}

// deny runs a command that has to be refused with a reason.
func (s *scene) deny(why string, args ...string) {
	s.t.Helper()
	out, errs, code := s.p.CLI(args...)
	if code == 0 {
		s.t.Errorf("pgagroal-cli %v: exit 0, want a refusal", args)
	}
	says(s.t, map[string]any{"answer": out + errs}, "answer", why)
}

func TestAReplacedPrimaryThatReturnsWritableIsNeverUsed(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	must(t, s.node(1).Start(within(t)))
	s.p.WaitState("n1", "Failed (split brain)")
	s.alarmed("never used: n1")
	if got := s.p.JSON("status")["SplitBrain"]; got != "Yes" {
		t.Errorf("status says SplitBrain %v, want Yes", got)
	}
	s.p.WaitLog("writable although n2 replaced it: never used")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestARestartedPoolerDoesNotGoBackToTheReplacedPrimary(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	for name, end := range map[string]func(){"stopped": s.p.Stop, "killed": s.p.Kill} {
		end()
		if !s.node(1).Running() {
			must(t, s.node(1).Start(within(t)))
		}
		s.p.Restart()
		s.opened("n2")
		s.p.WaitState("n1", "Failed (split brain)")
		if got := at(t, s.p.Connect()); got != "n2" {
			t.Errorf("%s and started again, a client is on %s, want n2", name, got)
		}
		if got := s.epoch(); got != 2 {
			t.Errorf("%s and started again, epoch is %d, want 2", name, got)
		}
	}
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAReplacedPrimaryIsNotUsedEvenWhenItIsTheOnlyOneLeft(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	s.p.Connect()
	must(t, s.node(1).Start(within(t)))
	s.p.WaitState("n1", "Failed (split brain)")
	must(t, s.node(2).Kill())
	s.held("New primary could not be found")
	says(t, s.server("n1"), "EndedBy", "clear server --force n1")
	s.deny("--force accepts it as the primary", "clear", "server", "n1")
	waiting := s.logIn()
	s.do("clear", "server", "n1", "--force")
	if got := at(t, s.served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.opened("n1")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestAReplacedPrimaryThatReturnsAsAStandbyStaysFailedUntilCleared(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	must(t, s.node(1).Rejoin(within(t), s.node(2)))
	s.seen("n1", "standby")
	s.p.WaitState("n1", "Failed")
	says(t, s.server("n1"), "Reason", "back as a standby")
	says(t, s.server("n1"), "EndedBy", "pgagroal-cli clear server n1")
	s.do("clear", "server", "n1")
	s.p.WaitState("n1", "Replica")
	// And now it may be promoted: a second failover, back to where it began.
	s.p.Connect()
	must(t, s.node(2).Kill())
	s.opened("n1")
	s.notify.WaitRuns(2)
	there, back := args(s.node(1), s.node(2)), args(s.node(2), s.node(1))
	s.ran([][]string{there, back}, [][]string{there, back})
	if got := s.epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
}

func TestWhileItIsFailedAReturnedStandbyIsNoCandidate(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	s.p.Connect()
	must(t, s.node(1).Rejoin(within(t), s.node(2)))
	s.seen("n1", "standby")
	must(t, s.node(2).Kill())
	s.held("New primary could not be found")
	says(t, s.told("no_candidate"), "candidates", "Failed: back as a standby")
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestClearServerRefusesWhatItCannotMean(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 1)
	s.deny("n7: no such server", "clear", "server", "n7")
	must(t, s.node(1).Start(within(t)))
	s.p.WaitState("n1", "Failed (split brain)")
	s.deny("n1 is writable; --force accepts it as the primary", "clear", "server", "n1")
	s.p.WaitState("n1", "Failed (split brain)")
	client := s.p.Connect()
	mustQuery(t, client, "SELECT 1") // else it would move without a word
	s.do("clear", "server", "n1", "--force")
	s.opened("n1")
	if _, err := query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("a session on the old primary got %v, want 57P01", err)
	}
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

func TestCommandsAreRefusedWhileAScriptRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := gatedPlan(t, c, nil)
	s := play(t, c, pl)
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	s.deny("a failover script is running", "clear", "server", "n1")
	s.deny("a failover script is running", "switch-to", "n2")
	open()
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestSwitchToOfAWritableServerNeedsAnOldOneThatIsNot(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	s.deny("n7: no such server", "switch-to", "n7")
	must(t, c.Nodes[1].Promote(within(t)))
	s.deny("n1 is still writable", "switch-to", "n2")
	s.opened("n1")
	client := s.p.Connect()
	mustQuery(t, client, "SELECT 1") // else it would move without a word
	s.do("switch-to", "n2", "--force")
	s.opened("n2")
	if _, err := query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("a session on the old primary got %v, want 57P01", err)
	}
	s.p.WaitState("n1", "Not init (split brain)")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.nothingRan()
}

func TestAPlannedSwitchoverMadeByHandIsFollowed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{keys: map[string]string{"failover_restart_grace": "30s"}})
	s.opened("n1")
	must(t, n1.Stop(within(t), pgtest.Fast))
	must(t, n2.Promote(within(t)))
	s.do("switch-to", "n2")
	s.opened("n2")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	if n := len(s.failover.Runs()); n != 0 {
		t.Errorf("%d runs of failover_script, want none", n)
	}
}

func TestADemotedPrimaryIsLeftForTheServerPromotedInItsPlace(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{keys: map[string]string{"failover_restart_grace": "30s"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Stop(within(t), pgtest.Fast))
	must(t, os.WriteFile(filepath.Join(n1.DataDir, "standby.signal"), nil, 0o600))
	give(t, filepath.Join(n1.DataDir, "standby.signal"))
	must(t, n1.Start(within(t)))
	s.held("n1 answers as a standby")
	must(t, n2.Promote(within(t)))
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(nil, one(n1, n2))
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
}

func TestTheNewPrimaryMayDieTooAndTheFirstOneStaysOut(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 2)
	n1, n2, n3 := s.node(1), s.node(2), s.node(3)
	s.p.WaitState("n3", "Replica (detached)") // nobody has re-pointed it
	s.follow(n3, n2)
	must(t, n1.Rejoin(within(t), n2))
	s.seen("n1", "standby")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	must(t, n3.WaitReplay(within(t), n2))
	must(t, n2.Kill())
	s.opened("n3")
	s.notify.WaitRuns(2)
	s.ran([][]string{args(n1, n2), args(n2, n3)}, [][]string{args(n1, n2, n3), args(n2, n3)})
	mustQuery(t, s.p.Connect(), "INSERT INTO t VALUES (1)")
	if got := s.epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
	for _, name := range []string{"n1", "n2"} {
		s.p.WaitState(name, "Failed")
	}
}

func TestADetachedStandbyIsNoCandidate(t *testing.T) {
	t.Parallel()
	s := failedOver(t, 2)
	s.p.WaitState("n3", "Replica (detached)")
	s.p.Connect()
	must(t, s.node(2).Kill())
	s.held("New primary could not be found")
	says(t, s.told("no_candidate"), "candidates", "detached")
	n1, n2, n3 := s.node(1), s.node(2), s.node(3)
	s.ran(one(n1, n2), one(n1, n2, n3))
}
