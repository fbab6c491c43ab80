package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// writing has a session of its own on a node write all the time, so that
// whoever streams from it receives something.
func writing(t *testing.T, n *pgtest.Node) {
	t.Helper()
	c, err := n.Dial(within(t))
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := query(c, "SELECT pg_logical_emit_message(false, 'x', 'y'), pg_sleep(0.02)"); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done; c.Close() })
}

// halfCut starts a pool that can't reach n1, whose standby n2 can't either while
// n3 receives from it through link; one of them is enough as a witness.
func halfCut(t *testing.T, keys map[string]string) (s *scene, link *pgtest.Proxy, servers []Server) {
	t.Helper()
	c := doubtful(t, 2)
	cut := replicationVia(t, c, c.Nodes[1])
	link = replicationVia(t, c, c.Nodes[2])
	servers, proxies := via(t, c)
	keys = with(map[string]string{
		"failover_min_standbys": "1", "failover_probe_timeout": "1500ms", "failover_silence_time": "4s", // n3 has to be heard in time
	}, keys)
	s = play(t, c, plan{servers: noCandidate(servers, 3), script: promoteVia(c, servers), keys: silence(keys)})
	s.opened("n1")
	writing(t, c.Nodes[0])
	s.p.Connect()
	proxies[0].Silence(pgtest.BothWays)
	cut.Silence(pgtest.BothWays)
	s.p.WaitState("n1", "Primary (vetoed)")
	return s, link, servers
}

func TestAStandbyThatReceivesVetoesTheDeathOfASilentPrimary(t *testing.T) {
	t.Parallel()
	s, link, servers := halfCut(t, nil)
	pgtest.WaitUntil(t, generous, "the veto's reason", func() bool { // between two rounds it says what is waited for
		return strings.Contains(fmt.Sprint(s.status()["Reason"]), "n3 received from it a moment ago")
	}, s.p.Log)
	s.alarmed("n1 lets nobody log in")
	s.quiet(3 * time.Second)
	s.p.WaitState("n1", "Primary (vetoed)")
	link.Silence(pgtest.BothWays)
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran([][]string{argsOf(servers[0], servers[1])}, [][]string{argsOf(servers...)})
}

func TestAVetoIsBounded(t *testing.T) {
	t.Parallel()
	s, _, _ := halfCut(t, map[string]string{"failover_veto_max": "12s"})
	s.opened("n2")
	says(t, s.told("failover"), "reason", "and 1 standbys don't receive")
}

func TestAPrimaryThatLetsNobodyInIsReplacedThoughItsSessionsWork(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := play(t, c, plan{keys: silence(map[string]string{"failover_veto_max": "4s"})})
	s.opened("n1")
	client := s.p.Connect()
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := query(client, "SELECT pg_logical_emit_message(false, 'x', 'y'), pg_sleep(0.02)"); err != nil {
				ended <- err
				return
			}
		}
	}()
	must(t, c.Nodes[0].PausePostmaster())
	s.p.WaitState("n1", "Primary (vetoed)")
	s.opened("n2")
	says(t, s.told("failover"), "reason", "it has let nobody log in for")
	if err := <-ended; pgtest.Code(err) != "08007" && pgtest.Code(err) != "57P01" {
		t.Errorf("the session of the old primary got %v, want 08007 or 57P01", err)
	}
	must(t, c.Nodes[0].Resume())
	s.p.WaitState("n1", "Failed (split brain)")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}
