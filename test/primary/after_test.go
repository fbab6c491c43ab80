package primary

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// fell starts a scene of n1 and n2 with a script of its own, kills n1 and waits
// until the script has been started.
func fell(t *testing.T, script string, keys map[string]string) *pool.Scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Script: script, Keys: keys})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	return s
}

func TestASuccessThatPromotedNothingHoldsClientsUntilSomebodyPromotes(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify_timeout": "1s"})
	n1, n2 := s.Node(1), s.Node(2)
	s.Pool.WaitState("n2", "Primary (not writable)")
	s.Alarmed("n2 is recorded as the primary but is not out of recovery")
	s.Notify.WaitRuns(1) // at the end of failover_verify_timeout, verified or not
	s.Pool.WaitLog("the script ended with exit code 0, but the new primary is not writable")
	pool.Says(t, s.Status(), "Held", "true")
	if got := s.Epoch(); got != 2 {
		t.Errorf("epoch is %d, want 2: exit code 0 records the new primary", got)
	}
	waiting := s.LogIn()
	pool.Must(t, n2.Promote(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Pool.WaitState("n2", "Primary")
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
}

func TestStrictVerificationCountsSuchASuccessAsAFailedRun(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify": "strict", "failover_verify_timeout": "1s", "failover_client_wait": "300ms"})
	n1, n2 := s.Node(1), s.Node(2)
	s.Held("n2 is not out of recovery after 1s")
	s.Pool.WaitState("n1", "Failed")
	s.Pool.WaitState("n2", "Failed")
	s.Refused(s.LogIn(), "57P03")
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.Ran(pool.OneRun(n1, n2), nil)
	pool.Must(t, n2.Promote(pool.Within(t)))
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
}

func TestStrictVerificationOfAPromotionOpensAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_verify": "strict"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
}

func TestWithoutVerificationTheScriptIsTrusted(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 0", map[string]string{"failover_verify": "off", "failover_verify_timeout": "1s"})
	client := s.Pool.Connect()
	if got := pool.NodeOf(t, client); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	if _, err := pool.Query(client, "CREATE TABLE t(i int)"); pgtest.Code(err) != "25006" {
		t.Errorf("a write on the standby that the script vouched for got %v, want 25006", err)
	}
	s.Pool.WaitState("n2", "Primary (not writable)")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), pool.OneRun(s.Node(1), s.Node(2)))
}

// failures are scripts that fail, and what pgagroal reports of them.
var failures = map[string]struct{ script, why, timeout string }{
	"exit code 3": {"echo nothing to see; exit 3", "failover_script ended with exit code 3", "120s"},
	"signal":      {"kill -9 $$", "failover_script was ended by signal 9", "120s"},
	"time-out":    {"exec sleep 600", "failover_script took longer than 4s", "4s"},
}

func TestAFailedScriptRecordsBothServersAsFailed(t *testing.T) {
	t.Parallel()
	for name, f := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fell(t, f.script, map[string]string{"failover_script_timeout": f.timeout, "failover_client_wait": "300ms"})
			n1, n2 := s.Node(1), s.Node(2)
			s.Held(f.why)
			for _, name := range []string{"n1", "n2"} {
				s.Pool.WaitState(name, "Failed")
				pool.Says(t, s.Server(name), "Reason", f.why)
			}
			s.Refused(s.LogIn(), "57P03")
			if got := s.Epoch(); got != 1 {
				t.Errorf("epoch is %d, want 1", got)
			}
			if got := s.Word("Primary"); got != "n1" {
				t.Errorf("the recorded primary is %s, want n1", got)
			}
			s.Ran(pool.OneRun(n1, n2), nil)
			// Rule (a): somebody promotes the candidate after all.
			pool.Must(t, n2.Promote(pool.Within(t)))
			s.Opened("n2")
			s.Notify.WaitRuns(1)
			s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
			pool.Says(t, s.Told("settled"), "result", "adopted n2")
			pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
		})
	}
}

func TestTheHistoryKeepsExitCodeAndOutputOfTheScript(t *testing.T) {
	t.Parallel()
	s := fell(t, failures["exit code 3"].script, nil)
	s.Held("exit code 3")
	run := s.Told("failover")
	pool.Says(t, run, "exit", "3")
	pool.Says(t, run, "result", "exit code 3")
	pool.Says(t, run, "output", "nothing to see")
	pool.Says(t, run, "argv", pool.RunArgs(s.Node(2))[1])
}

func TestAPrimaryThatReturnsAfterAFailedRunIsPrimaryAgain(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 3", nil)
	s.Held("exit code 3")
	waiting := s.LogIn()
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n1" {
		t.Errorf("the held client is on %s, want n1", got)
	}
	s.Opened("n1")
	s.Pool.WaitState("n1", "Primary")
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	pool.Says(t, s.Told("settled"), "result", "n1 is the primary again, same epoch")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), nil)
}

func TestManualSettlementWaitsForACommand(t *testing.T) {
	t.Parallel()
	s := fell(t, "exit 3", map[string]string{"failover_settle": "manual"})
	s.Held("exit code 3")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Seen("n1", "primary")
	pool.Must(t, s.Node(2).Promote(pool.Within(t)))
	s.Seen("n2", "primary")
	s.Held("exit code 3")
	if out, errs, code := s.Pool.CLI("switch-to", "n2"); code == 0 {
		t.Errorf("switch-to n2 with n1 writable: exit 0\n%s%s", out, errs)
	}
	pool.Must(t, s.Node(1).Kill())
	s.Seen("n1", "refused")
	s.Do("switch-to", "n2")
	s.Opened("n2")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	s.Ran(pool.OneRun(s.Node(1), s.Node(2)), nil)
}

func TestAFailedNotifyScriptChangesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Notify: "exit 4"})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Notify.WaitRuns(1)
	s.Alarmed("the notify script failed: exit code 4")
	s.Opened("n2")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestAPrimaryThatAnswersDuringTheRunIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, nil)
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Seen("n1", "primary")
	waiting := s.LogIn()
	s.WaitStatus("Phase", "running")
	open()
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestANewPrimaryThatDiesBeforeItIsVerifiedIsReplacedByTheNext(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// The first run promotes nothing, as if the candidate's host died during the run.
	script := strings.Replace(pool.PromoteScript(c), "\nesac", "\nesac\ncase $4 in "+strconv.Itoa(n2.Port)+") exit 0 ;; esac", 1)
	s := pool.Play(t, c, pool.Plan{Script: script, Keys: map[string]string{"failover_verify_timeout": "60s"}})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, n1.Kill())
	s.Pool.WaitState("n2", "Primary (not writable)")
	waiting := s.LogIn()
	pool.Must(t, n2.Kill())
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n3" {
		t.Errorf("the held client is on %s, want n3", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgs(n1, n2), pool.RunArgs(n2, n3)}, pool.OneRun(n2, n3))
	s.Pool.WaitState("n1", "Failed")
	s.Pool.WaitState("n2", "Failed")
	if got := s.Epoch(); got != 3 {
		t.Errorf("epoch is %d, want 3", got)
	}
}
