package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// demoteAndPromote is the body of a hook that makes the old primary a standby of
// the new one, in order: stopped, so that the new one has everything, then
// started again behind it.
func demoteAndPromote(c *pgtest.Cluster) string {
	var b strings.Builder
	b.WriteString("test \"$PGAGROAL_PLANNED\" = on || exit 8\ncase $2 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) old=%s ;;\n", n.Port, n.DataDir)
	}
	b.WriteString("esac\ncase $4 in\n")
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "%d) new=%s ;;\n", n.Port, n.DataDir)
	}
	ctl := pgtest.Binary("pg_ctl")
	fmt.Fprintf(&b, `esac
%[1]s stop -w -s -m fast -D "$old" || exit 5
%[1]s promote -w -s -D "$new" || exit 6
touch "$old/standby.signal"
echo "primary_conninfo = 'host=$3 port=$4 user=postgres'" >> "$old/postgresql.auto.conf"
%[1]s start -w -s -D "$old" -l "$old/again.log" >/dev/null 2>&1 </dev/null || exit 7
`, ctl)
	return b.String()
}

func TestAPlannedSwitchoverLosesNoTransactionAndTheOldPrimaryIsAReplica(t *testing.T) {
	t.Parallel()
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Standbys: 1})
			n1, n2 := c.Nodes[0], c.Nodes[1]
			s := play(t, c, plan{script: demoteAndPromote(c), keys: map[string]string{"pipeline": pipeline}})
			s.opened("n1")
			fresh, idle, busy := s.p.Connect(), s.p.Connect(), s.p.Connect()
			mustQuery(t, idle, "SELECT 1")
			mustQuery(t, busy, "CREATE TABLE t(i int)")
			mustQuery(t, busy, "BEGIN")
			mustQuery(t, busy, "INSERT INTO t VALUES (1)")
			done := s.switching("n2", "-T", "30")
			s.waitStatus("Phase", "switching")
			waiting := s.logIn()
			// The one that is in a transaction goes on, and is waited for.
			mustQuery(t, busy, "INSERT INTO t VALUES (2)")
			mustQuery(t, busy, "COMMIT")
			if got := <-done; got != "" {
				t.Fatalf("switch-to: %s\n%s", got, s.p.Log())
			}
			if got := at(t, s.served(waiting)); got != "n2" {
				t.Errorf("the held client is on %s, want n2", got)
			}
			if got := mustQuery(t, s.p.Connect(), "SELECT count(*) FROM t")[0][0]; got != "2" {
				t.Errorf("%s rows on the new primary, want 2", got)
			}
			if got := at(t, fresh); got != "n2" {
				t.Errorf("a client that has done nothing yet is on %s, want n2", got)
			}
			if pipeline == "transaction" {
				if got := at(t, idle); got != "n2" {
					t.Errorf("the idle client is on %s, want n2", got)
				}
				mustQuery(t, busy, "INSERT INTO t VALUES (3)")
			} else if _, err := query(idle, "SELECT 1"); pgtest.Code(err) != "57P01" {
				t.Errorf("the idle client got %v, want 57P01", err)
			}
			s.p.WaitState("n1", "Replica")
			s.notify.WaitRuns(1)
			s.ran(one(n1, n2), one(n1, n2))
			if got := s.epoch(); got != 2 {
				t.Errorf("epoch is %d, want 2", got)
			}
			says(t, s.told("failover"), "reason", "planned switchover")
		})
	}
}

// switching runs switch-to and returns what it says, "" for success.
func (s *scene) switching(args ...string) <-chan string {
	done := make(chan string, 1)
	go func() {
		_, errs, code := s.p.CLI(append([]string{"switch-to"}, args...)...)
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
	s := play(t, c, plan{keys: map[string]string{"pipeline": "transaction"}})
	s.opened("n1")
	idle, busy := s.p.Connect(), s.p.Connect()
	mustQuery(t, busy, "CREATE TABLE t(i int)")
	mustQuery(t, busy, "BEGIN")
	mustQuery(t, busy, "INSERT INTO t VALUES (1)")
	s.deny("1 transaction is still running", "switch-to", "n2", "-T", "1")
	s.opened("n1")
	mustQuery(t, busy, "INSERT INTO t VALUES (2)")
	mustQuery(t, busy, "COMMIT")
	if got := mustQuery(t, idle, "SELECT count(*) FROM t")[0][0]; got != "2" {
		t.Errorf("%s rows, want 2", got)
	}
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.nothingRan()
}

func TestASwitchoverWhoseScriptFailsIsUndone(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := play(t, c, plan{script: "exit 3", keys: map[string]string{"failover_settle": "manual"}})
	s.opened("n1")
	s.deny("failover_script ended with exit code 3; n1 is the primary as before", "switch-to", "n2")
	s.opened("n1")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	if got := s.epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.ran(one(n1, n2), nil)
}

func TestASwitchoverGivesUpOnAStandbyThatDoesNotCatchUp(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n2 := c.Nodes[1]
	s := play(t, c, plan{})
	s.opened("n1")
	client := s.p.Connect()
	mustQuery(t, client, "CREATE TABLE t(i int)")
	must(t, n2.WaitReplay(within(t), c.Nodes[0]))
	if _, err := n2.Query(within(t), "SELECT pg_wal_replay_pause()"); err != nil {
		t.Fatal(err)
	}
	s.deny("replay is paused or delayed on n2", "switch-to", "n2")
	s.opened("n1")
	must(t, n2.Kill())
	s.deny("n2 is not writable (refused)", "switch-to", "n2")
	mustQuery(t, client, "INSERT INTO t VALUES (1)")
	s.nothingRan()
}

func TestASwitchoverGivesUpWhileSomebodyElseWrites(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1 := c.Nodes[0]
	s := play(t, c, plan{})
	s.opened("n1")
	mustQuery(t, s.p.Connect(), "CREATE TABLE t(i int)")
	stranger, err := pgtest.Connect(within(t), pgtest.ClientConfig{Addr: n1.Addr(), User: "postgres", Database: "postgres"})
	must(t, err)
	defer stranger.Close()
	writing, stop := make(chan error, 1), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				writing <- nil
				return
			default:
				if _, err := query(stranger, "INSERT INTO t VALUES (1)"); err != nil {
					writing <- err
					return
				}
			}
		}
	}()
	s.deny("somebody else is connected", "switch-to", "n2", "-T", "1")
	close(stop)
	must(t, <-writing)
	s.opened("n1")
	s.nothingRan()
}
