package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestALoginThatFindsThePrimaryDeadStartsTheFailoverAndIsServed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	pool.Must(t, c.Nodes[0].Kill()) // nobody is connected, so nobody notices
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("the client is on %s, want n2", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestALoginThatMustNotWaitIsRefusedAtOnceDuringAFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, map[string]string{"blocking_timeout": "0"})
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	s.Refused(s.LogIn(), "57P03")
	open()
	s.Opened("n2")
	pool.MustQuery(t, s.Pool.Connect(), "SELECT 1")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestAWorkerThatDoesNotAnswerAFenceIsKilledBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"fence_timeout": "1s"}})
	s.Opened("n1")
	for range 4 {
		s.Pool.Connect()
	}
	stuck := s.Pool.Workers()[0]
	pool.Freeze(t, stuck)
	pool.Must(t, c.Nodes[0].Kill())
	s.Failover.WaitRuns(1)
	if pool.Titled(stuck, "worker") {
		t.Error("the script runs while the stopped worker is still there")
	}
	s.Opened("n2")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestWithoutThePrivilegeToMonitorARunningReceiverIsUnknownAndAMissingOneIsNot(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	_, err := c.Nodes[0].Query(pool.Within(t), "CREATE ROLE probe LOGIN")
	pool.Must(t, err)
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Nodes[0]))
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: servers, Script: promoteVia(c, servers), Keys: silence(map[string]string{"health_check_user": "probe"})})
	s.Opened("n1")
	s.Pool.Connect()
	s.Pool.WaitLog("GRANT pg_monitor")
	proxies[0].Silence(pgtest.BothWays)
	s.Seen("n1", "silent")
	s.Quiet(4 * time.Second)
	if n := strings.Count(s.Pool.Log(), "pg_stat_wal_receiver is not readable"); n != 1 {
		t.Errorf("the log asks for the privilege %d times, want once", n)
	}
	// That a standby has no receiver any more can be seen without it.
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgsOf(servers...)}, [][]string{pool.RunArgsOf(servers...)})
}

func TestWithoutALoginOfItsOwnThePoolLearnsRolesFromItsClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"health_check_user": ""}})
	s.Opened("n1")
	s.Pool.Connect()
	s.Pool.WaitState("n1", "Primary")
	pool.Must(t, c.Nodes[0].Kill())
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("the client is on %s, want n2", got)
	}
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}
