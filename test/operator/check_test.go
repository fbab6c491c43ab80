package operator

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// runOf returns the nth of the Runs of a rehearsal, and its Check.
func runOf(t *testing.T, r map[string]any, n int) (run, check map[string]any) {
	t.Helper()
	runs, _ := r["Runs"].([]any)
	if len(runs) <= n {
		t.Fatalf("runs %v", runs)
	}
	run, _ = runs[n].(map[string]any)
	check, _ = run["Check"].(map[string]any)
	return run, check
}

// A rehearsal runs the scripts that know PGAGROAL_CHECK, with what a failover would give them, and no others.
func TestARehearsalHasScriptsCheckThemselves(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, Extra: map[string]string{"wal_receiver_timeout": "10s"}})
	s := pool.Play(t, c, pool.Plan{
		Keys: map[string]string{"health_check": "on"},
		Script: `# pgagroal: check
if [ "$PGAGROAL_CHECK" = 1 ]; then
    echo "epoch $PGAGROAL_EPOCH hook $PGAGROAL_HOOK from $PGAGROAL_OLD_NAME to $PGAGROAL_NEW_NAME"
    [ ! -e "$0.broken" ] || { echo "no settings" >&2; exit 1; }
    exit 0
fi
` + pool.PromoteScript(c),
	})
	s.Opened("n1")
	pool.Must(t, c.Nodes[1].WaitStreaming(pool.Within(t), c.Nodes[0]))
	pool.Must(t, c.Nodes[2].WaitStreaming(pool.Within(t), c.Nodes[0]))
	r := s.Pool.JSON("failover", "rehearse")
	pool.Says(t, r, "Well", "true")
	_, check := runOf(t, r, 0)
	if d := cmp.Diff(map[string]any{"Result": "passed", "Words": []any{"epoch 1 hook failover from n1 to n2"}}, check); d != "" {
		t.Error(d)
	}
	if _, check := runOf(t, r, 1); check["Result"] != "not run: it doesn't declare that it knows PGAGROAL_CHECK" {
		t.Errorf("notify: %v", check)
	}
	if d := cmp.Diff([][]string{pool.RunArgs(s.Node(1), s.Node(2))}, s.Failover.Runs()); d != "" {
		t.Errorf("arguments of the check (-want +got)\n%s", d)
	}
	if runs := s.Notify.Runs(); len(runs) != 0 {
		t.Errorf("a script that declares nothing was run: %v", runs)
	}
	pool.Must(t, os.WriteFile(s.Failover.Path+".broken", nil, 0o644))
	out, errs, code := s.Pool.CLI("failover", "rehearse")
	if code != 1 || !strings.Contains(out+errs, "no settings") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	// No check is a failover: none is counted, none is in the history.
	st := s.Pool.JSON("failover", "status")
	pool.Says(t, st, "Runs", "0")
	if h, _, _ := s.Pool.CLI("failover", "history"); strings.Contains(h, "check-") || strings.Contains(h, "rehearsal") {
		t.Errorf("history:\n%s", h)
	}
	s.Opened("n1")
}

// A failover doesn't wait for a check that hangs.
func TestAFailoverEndsTheCheckOfARehearsal(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: pool.HastyKeys(nil), Script: "# pgagroal: check\n" +
		`if [ "$PGAGROAL_CHECK" = 1 ]; then trap '' TERM; sleep 1h; fi` + "\n" + pool.PromoteScript(c)})
	s.Opened("n1")
	pool.Must(t, c.Nodes[1].WaitStreaming(pool.Within(t), c.Nodes[0]))
	said := make(chan map[string]any, 1)
	go func() { said <- s.Pool.JSON("failover", "rehearse") }()
	s.Failover.WaitRuns(1)
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	_, check := runOf(t, <-said, 0)
	if check["Result"] != "unknown: it was ended because a script had to run" {
		t.Errorf("the check: %v", check)
	}
	want := [][]string{pool.RunArgs(s.Node(1), s.Node(2)), pool.RunArgs(s.Node(1), s.Node(2))}
	if d := cmp.Diff(want, s.Failover.Runs()); d != "" {
		t.Errorf("the check and the run (-want +got)\n%s", d)
	}
}
