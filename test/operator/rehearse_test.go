package operator

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestARehearsalTellsWhatWouldRunAndRunsNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, Extra: map[string]string{"wal_receiver_timeout": "10s"}})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check": "on"}})
	s.Opened("n1")
	pool.Must(t, c.Nodes[1].WaitStreaming(pool.Within(t), c.Nodes[0]))
	pool.Must(t, c.Nodes[2].WaitStreaming(pool.Within(t), c.Nodes[0]))
	s.Do("failover", "rehearse")
	r := s.Pool.JSON("failover", "rehearse")
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
	for i, want := range [][]string{pool.RunArgs(s.Node(1), s.Node(2)), pool.RunArgs(s.Node(1), s.Node(2), s.Node(3))} {
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
	s.Opened("n1")
	s.NothingRan()
}

func TestARehearsalFindsWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, Extra: map[string]string{"wal_receiver_timeout": "0"}})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check": "off"}})
	s.Opened("n1")
	pool.Must(t, c.Nodes[2].Kill())
	pool.Must(t, os.Chmod(s.Failover.Path, 0o777))
	_, errs, code := s.Pool.CLI("failover", "rehearse")
	if code != 1 {
		t.Errorf("exit code %d, want 1\n%s", code, errs)
	}
	r := s.Pool.JSON("failover", "rehearse")
	pool.Says(t, r, "Well", "false")
	for _, want := range []string{
		"the failover script would be refused", "n3", "not reachable: refused", "it never notices that the primary is silent",
	} {
		pool.Says(t, r, "Problems", want)
	}
	pool.Says(t, r, "Warnings", "without health checks")
	// Mended, the script can run again, without a restart.
	pool.Must(t, os.Chmod(s.Failover.Path, 0o755))
	r = s.Pool.JSON("failover", "rehearse")
	if p, _ := r["Problems"].([]any); len(p) == 0 {
		t.Errorf("problems %v", r["Problems"])
	}
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
}

func TestARehearsalWithoutPgMonitorSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	if _, err := c.Nodes[0].Query(pool.Within(t), "CREATE ROLE plain LOGIN"); err != nil {
		t.Fatal(err)
	}
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Nodes[0]))
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check_user": "plain"}})
	s.Opened("n1")
	pool.Says(t, s.Pool.JSON("failover", "rehearse"), "Problems", "GRANT pg_monitor")
	s.NothingRan()
}
