package operator

import (
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestAPlannedSwitchoverLosesNoTransactionAndTheOldPrimaryIsAReplica(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct{ name, pipeline, keep string }{
		{"session", "session", "off"}, {"kept session", "session", "known"}, {"transaction", "transaction", "off"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			n1, n2 := c.Nodes[0], c.Nodes[1]
			s := pool.Play(t, c, pool.Plan{Script: pool.DemoteScript(c), Keys: map[string]string{"pipeline": mode.pipeline, "failover_keep_sessions": mode.keep}})
			s.Opened("n1")
			fresh, idle, busy := s.Pool.Connect(), s.Pool.Connect(), s.Pool.Connect()
			pool.MustQuery(t, idle, "SELECT 1")
			pool.MustQuery(t, busy, "CREATE TABLE t(i int)")
			pool.MustQuery(t, busy, "BEGIN")
			pool.MustQuery(t, busy, "INSERT INTO t VALUES (1)")
			done := switching(s, "n2", "-T", "30")
			s.WaitStatus("Phase", "switching")
			waiting := s.LogIn()
			// The client in a transaction goes on, and the switch waits for it.
			pool.MustQuery(t, busy, "INSERT INTO t VALUES (2)")
			pool.MustQuery(t, busy, "COMMIT")
			if got := <-done; got != "" {
				t.Fatalf("switch-to: %s\n%s", got, s.Pool.Log())
			}
			if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
				t.Errorf("the held client is on %s, want n2", got)
			}
			if got := pool.MustQuery(t, s.Pool.Connect(), "SELECT count(*) FROM t")[0][0]; got != "2" {
				t.Errorf("%s rows on the new primary, want 2", got)
			}
			if got := pool.NodeOf(t, fresh); got != "n2" {
				t.Errorf("a client that has done nothing yet is on %s, want n2", got)
			}
			if mode.name != "session" {
				if got := pool.NodeOf(t, idle); got != "n2" {
					t.Errorf("the idle client is on %s, want n2", got)
				}
				pool.MustQuery(t, busy, "INSERT INTO t VALUES (3)")
			} else if _, err := pool.Query(idle, "SELECT 1"); pgtest.Code(err) != "57P01" {
				t.Errorf("the idle client got %v, want 57P01", err)
			}
			s.Pool.WaitState("n1", "Replica")
			s.Notify.WaitRuns(1)
			s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2))
			if got := s.Epoch(); got != 2 {
				t.Errorf("epoch is %d, want 2", got)
			}
			pool.Says(t, s.Told("failover"), "reason", "planned switchover")
		})
	}
}

// switching runs switch-to and returns what it says, "" for success.
func switching(s *pool.Scene, args ...string) <-chan string {
	done := make(chan string, 1)
	go func() {
		_, errs, code := s.Pool.CLI(append([]string{"switch-to"}, args...)...)
		if code == 0 {
			errs = ""
		} else if errs == "" {
			errs = fmt.Sprintf("exit %d", code)
		}
		done <- errs
	}()
	return done
}

func TestASwitchoverGivesUpOnATransactionThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "transaction"}})
	s.Opened("n1")
	idle, busy := s.Pool.Connect(), s.Pool.Connect()
	pool.MustQuery(t, busy, "CREATE TABLE t(i int)")
	pool.MustQuery(t, busy, "BEGIN")
	pool.MustQuery(t, busy, "INSERT INTO t VALUES (1)")
	s.Deny("1 transaction is still running", "switch-to", "n2", "-T", "1")
	s.Opened("n1")
	pool.MustQuery(t, busy, "INSERT INTO t VALUES (2)")
	pool.MustQuery(t, busy, "COMMIT")
	if got := pool.MustQuery(t, idle, "SELECT count(*) FROM t")[0][0]; got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.NothingRan()
}

func TestASwitchoverWhoseScriptFailsIsUndone(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{Script: "exit 3", Keys: map[string]string{"failover_settle": "manual"}})
	s.Opened("n1")
	s.Deny("failover_script ended with exit code 3; n1 is the primary as before", "switch-to", "n2")
	s.Opened("n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.Ran(pool.OneRun(n1, n2), nil)
}

func TestASwitchoverGivesUpOnAStandbyThatDoesNotCatchUp(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n2 := c.Nodes[1]
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	client := s.Pool.Connect()
	pool.MustQuery(t, client, "CREATE TABLE t(i int)")
	pool.Must(t, n2.WaitReplay(pool.Within(t), c.Nodes[0]))
	if _, err := n2.Query(pool.Within(t), "SELECT pg_wal_replay_pause()"); err != nil {
		t.Fatal(err)
	}
	s.Deny("replay is paused or delayed on n2", "switch-to", "n2")
	s.Opened("n1")
	pool.Must(t, n2.Kill())
	s.Deny("n2 is not writable (refused)", "switch-to", "n2")
	pool.MustQuery(t, client, "INSERT INTO t VALUES (1)")
	s.NothingRan()
}

func TestASwitchoverGivesUpWhileSomebodyElseWrites(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1 := c.Nodes[0]
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	pool.MustQuery(t, s.Pool.Connect(), "CREATE TABLE t(i int)")
	stranger, err := pgtest.Connect(pool.Within(t), pgtest.ClientConfig{Addr: n1.Addr(), User: "postgres", Database: "postgres"})
	pool.Must(t, err)
	defer stranger.Close()
	writing, stop := make(chan error, 1), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				writing <- nil
				return
			default:
				if _, err := pool.Query(stranger, "INSERT INTO t VALUES (1)"); err != nil {
					writing <- err
					return
				}
			}
		}
	}()
	s.Deny("somebody else is connected", "switch-to", "n2", "-T", "1")
	close(stop)
	pool.Must(t, <-writing)
	s.Opened("n1")
	s.NothingRan()
}
