package test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestARehearsalTellsWhatWouldRunAndRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, Extra: map[string]string{"wal_receiver_timeout": "10s"}})
	s := play(t, c, plan{keys: map[string]string{"health_check": "on"}})
	s.opened("n1")
	must(t, c.Nodes[1].WaitStreaming(within(t), c.Nodes[0]))
	must(t, c.Nodes[2].WaitStreaming(within(t), c.Nodes[0]))
	s.do("failover", "rehearse")
	r := s.p.JSON("failover", "rehearse")
	for key, want := range map[string]any{
		"Well": true, "Primary": "n1", "Next": "n2", "Problems": []any{}, "Warnings": []any{},
	} {
		if d := cmp.Diff(want, r[key]); d != "" {
			t.Errorf("%s (-want +got)\n%s", key, d)
		}
	}
	runs, _ := r["Runs"].([]any)
	if len(runs) != 2 {
		t.Fatalf("runs %v", runs)
	}
	for i, want := range [][]string{args(s.node(1), s.node(2)), args(s.node(1), s.node(2), s.node(3))} {
		run, _ := runs[i].(map[string]any)
		var got []string
		list, _ := run["Args"].([]any)
		for _, a := range list {
			got = append(got, a.(string))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("run %d (-want +got)\n%s", i, d)
		}
	}
	s.opened("n1")
	s.nothingRan()
}

func TestARehearsalFindsWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, Extra: map[string]string{"wal_receiver_timeout": "0"}})
	s := play(t, c, plan{})
	s.opened("n1")
	must(t, c.Nodes[2].Kill())
	must(t, os.Chmod(s.failover.Path, 0o777))
	_, errs, code := s.p.CLI("failover", "rehearse")
	if code != 1 {
		t.Errorf("exit code %d, want 1\n%s", code, errs)
	}
	r := s.p.JSON("failover", "rehearse")
	says(t, r, "Well", "false")
	for _, want := range []string{
		"the failover script would be refused", "n3", "not reachable: refused", "it never notices that the primary is silent",
	} {
		says(t, r, "Problems", want)
	}
	says(t, r, "Warnings", "without health checks")
	// Mended, the script can run again, without a restart.
	must(t, os.Chmod(s.failover.Path, 0o755))
	r = s.p.JSON("failover", "rehearse")
	if p, _ := r["Problems"].([]any); len(p) == 0 {
		t.Errorf("problems %v", r["Problems"])
	}
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
}

func TestARehearsalWithoutPgMonitorSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	if _, err := c.Nodes[0].Query(within(t), "CREATE ROLE plain LOGIN"); err != nil {
		t.Fatal(err)
	}
	must(t, c.Nodes[1].WaitReplay(within(t), c.Nodes[0]))
	s := play(t, c, plan{keys: map[string]string{"health_check_user": "plain"}})
	s.opened("n1")
	says(t, s.p.JSON("failover", "rehearse"), "Problems", "GRANT pg_monitor")
	s.nothingRan()
}
