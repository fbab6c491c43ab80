package test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestALoginThatFindsThePrimaryDeadStartsTheFailoverAndIsServed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	must(t, c.Nodes[0].Kill()) // nobody is connected, nobody notices
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("the client is on %s, want n2", got)
	}
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestALoginThatMustNotWaitIsRefusedAtOnceDuringAFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := gatedPlan(t, c, map[string]string{"blocking_timeout": "0"})
	s := play(t, c, pl)
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	s.refused(s.logIn(), "57P03")
	open()
	s.opened("n2")
	mustQuery(t, s.p.Connect(), "SELECT 1")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestAWorkerThatDoesNotAnswerAFenceIsKilledBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	for range 4 {
		s.p.Connect()
	}
	stuck := s.p.Workers()[0]
	must(t, syscall.Kill(stuck, syscall.SIGSTOP))
	must(t, c.Nodes[0].Kill())
	s.failover.WaitRuns(1)
	if titled(stuck, "worker") {
		t.Error("the script runs while the stopped worker is still there")
	}
	s.opened("n2")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestWithoutThePrivilegeToMonitorARunningReceiverIsUnknownAndAMissingOneIsNot(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	_, err := c.Nodes[0].Query(within(t), "CREATE ROLE probe LOGIN")
	must(t, err)
	must(t, c.Nodes[1].WaitReplay(within(t), c.Nodes[0]))
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: servers, script: promoteVia(c, servers), keys: silence(map[string]string{"health_check_user": "probe"})})
	s.opened("n1")
	s.p.Connect()
	s.p.WaitLog("GRANT pg_monitor")
	proxies[0].Silence(pgtest.BothWays)
	s.seen("n1", "silent")
	s.quiet(4 * time.Second)
	if n := strings.Count(s.p.Log(), "pg_stat_wal_receiver is not readable"); n != 1 {
		t.Errorf("the log asks for the privilege %d times, want once", n)
	}
	// That a standby has no receiver any more can be seen without it.
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran([][]string{argsOf(servers...)}, [][]string{argsOf(servers...)})
}

func TestWithoutALoginOfItsOwnThePoolLearnsRolesFromItsClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{keys: map[string]string{"health_check_user": ""}})
	s.opened("n1")
	s.p.Connect()
	s.p.WaitState("n1", "Primary")
	must(t, c.Nodes[0].Kill())
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("the client is on %s, want n2", got)
	}
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}
