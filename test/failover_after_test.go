package test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// fell starts a scene of n1 and n2 with a script of its own, kills n1 and waits
// until the script has been started.
func fell(t *testing.T, script string, keys map[string]string) *scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{script: script, keys: keys})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	return s
}

func TestASuccessThatPromotedNothingHoldsClientsUntilSomebodyPromotes(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify_timeout": "1s"})
	n1, n2 := s.node(1), s.node(2)
	s.p.WaitState("n2", "Primary (not writable)")
	s.alarmed("n2 is recorded as the primary but is not out of recovery")
	s.notify.WaitRuns(1) // at the end of failover_verify_timeout, verified or not
	s.p.WaitLog("the script ended with exit code 0, but the new primary is not writable")
	says(t, s.status(), "Held", "true")
	if got := s.epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2: exit code 0 records the new primary", got)
	}
	waiting := s.logIn()
	must(t, n2.Promote(within(t)))
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.p.WaitState("n2", "Primary")
	s.ran(one(n1, n2), one(n1, n2))
}

func TestStrictVerificationCountsSuchASuccessAsAFailedRun(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify": "strict", "failover_verify_timeout": "1s", "failover_client_wait": "300ms"})
	n1, n2 := s.node(1), s.node(2)
	s.held("n2 is not out of recovery after 1s")
	s.p.WaitState("n1", "Failed")
	s.p.WaitState("n2", "Failed")
	s.refused(s.logIn(), "57P03")
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.ran(one(n1, n2), nil)
	must(t, n2.Promote(within(t)))
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(n1, n2), one(n1, n2))
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
}

func TestStrictVerificationOfAPromotionOpensAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"failover_verify": "strict"}})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
}

func TestWithoutVerificationTheScriptIsTrusted(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify": "off", "failover_verify_timeout": "1s"})
	client := s.p.Connect()
	if got := at(t, client); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	if _, err := query(client, "CREATE TABLE t(i int)"); pgtest.Code(err) != "25006" {
		t.Errorf("a write on the standby that the script vouched for got %v, want 25006", err)
	}
	s.p.WaitState("n2", "Primary (not writable)")
	s.notify.WaitRuns(1)
	s.ran(one(s.node(1), s.node(2)), one(s.node(1), s.node(2)))
}

// failures are scripts that end badly, and what is said of them.
var failures = map[string]struct{ script, why, timeout string }{
	"exit code 3": {"echo nothing to see; exit 3", "failover_script ended with exit code 3", "120s"},
	"signal":      {"kill -9 $$", "failover_script was ended by signal 9", "120s"},
	"time-out":    {"exec sleep 600", "failover_script took longer than 1s", "1s"},
}

func TestAFailedScriptRecordsBothServersAsFailed(t *testing.T) {
	t.Parallel()
	for name, f := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fell(t, f.script, map[string]string{"failover_script_timeout": f.timeout, "failover_client_wait": "300ms"})
			n1, n2 := s.node(1), s.node(2)
			s.held(f.why)
			for _, name := range []string{"n1", "n2"} {
				s.p.WaitState(name, "Failed")
				says(t, s.server(name), "Reason", f.why)
			}
			s.refused(s.logIn(), "57P03")
			if got := s.epoch(); got != 1 {
				t.Errorf("epoch is %d, want 1", got)
			}
			if got := s.word("Primary"); got != "n1" {
				t.Errorf("the recorded primary is %s, want n1", got)
			}
			s.ran(one(n1, n2), nil)
			// Rule (a): somebody promotes the candidate after all.
			must(t, n2.Promote(within(t)))
			s.opened("n2")
			s.notify.WaitRuns(1)
			s.ran(one(n1, n2), one(n1, n2))
			says(t, s.told("settled"), "result", "adopted n2")
			mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
		})
	}
}

func TestTheHistoryKeepsExitCodeAndOutputOfTheScript(t *testing.T) {
	t.Parallel()
	s := fell(t, failures["exit code 3"].script, nil)
	s.held("exit code 3")
	run := s.told("failover")
	says(t, run, "exit", "3")
	says(t, run, "result", "exit code 3")
	says(t, run, "output", "nothing to see")
	says(t, run, "argv", args(s.node(2))[1])
}

func TestAPrimaryThatReturnsAfterAFailedRunIsPrimaryAgain(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 3", nil)
	s.held("exit code 3")
	waiting := s.logIn()
	must(t, s.node(1).Start(within(t)))
	if got := at(t, s.served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.opened("n1")
	s.p.WaitState("n1", "Primary")
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	says(t, s.told("settled"), "result", "n1 is the primary again, same epoch")
	s.ran(one(s.node(1), s.node(2)), nil)
}

func TestManualSettlementWaitsForACommand(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 3", map[string]string{"failover_settle": "manual"})
	s.held("exit code 3")
	must(t, s.node(1).Start(within(t)))
	s.seen("n1", "primary")
	must(t, s.node(2).Promote(within(t)))
	s.seen("n2", "primary")
	s.held("exit code 3")
	if out, errs, code := s.p.CLI("switch-to", "n2"); code == 0 {
		t.Errorf("switch-to n2 with n1 writable: exit 0\n%s%s", out, errs)
	}
	must(t, s.node(1).Kill())
	s.seen("n1", "refused")
	s.do("switch-to", "n2")
	s.opened("n2")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	s.ran(one(s.node(1), s.node(2)), nil)
}

func TestAFailedNotifyScriptChangesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{notify: "exit 4"})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.notify.WaitRuns(1)
	s.alarmed("the notify script failed: exit code 4")
	s.opened("n2")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestAPrimaryThatAnswersDuringTheRunIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := gatedPlan(t, c, nil)
	s := play(t, c, pl)
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	must(t, c.Nodes[0].Start(within(t)))
	s.seen("n1", "primary")
	waiting := s.logIn()
	s.waitStatus("Phase", "running")
	open()
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.p.WaitState("n1", "Failed (split brain)")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestANewPrimaryThatDiesBeforeItIsVerifiedIsReplacedByTheNext(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// The first run promotes nothing, as a host that dies just then does.
	script := strings.Replace(promote(c), "\nesac", "\nesac\ncase $4 in "+strconv.Itoa(n2.Port)+") exit 0 ;; esac", 1)
	s := play(t, c, plan{script: script, keys: map[string]string{"failover_verify_timeout": "60s"}})
	s.opened("n1")
	s.p.Connect()
	must(t, n1.Kill())
	s.p.WaitState("n2", "Primary (not writable)")
	waiting := s.logIn()
	must(t, n2.Kill())
	if got := at(t, s.served(waiting)); got != "n3" {
		t.Errorf("the held client is on %s, want n3", got)
	}
	s.notify.WaitRuns(1)
	s.ran([][]string{args(n1, n2), args(n2, n3)}, one(n2, n3))
	s.p.WaitState("n1", "Failed")
	s.p.WaitState("n2", "Failed")
	if got := s.epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
}
