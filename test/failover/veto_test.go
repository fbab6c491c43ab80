package failover

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// writing starts a session that writes on a node all the time, so that every standby
// that streams from the node receives something.
func writing(t *testing.T, n *pgtest.Node) {
	t.Helper()
	c, err := n.Dial(pool.Within(t))
	pool.Must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := pool.Query(c, "SELECT pg_logical_emit_message(false, 'x', 'y'), pg_sleep(0.02)"); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done; c.Close() })
}

// halfCut starts a pool that can't reach n1. The standby n2 can't reach n1 either,
// while n3 receives from it through link. One standby is enough as a witness.
func halfCut(t *testing.T, keys map[string]string) (s *pool.Scene, link *pgtest.Proxy, servers []pool.Server) {
	t.Helper()
	c := doubtful(t, 2)
	cut := replicationVia(t, c, c.Nodes[1])
	link = replicationVia(t, c, c.Nodes[2])
	servers, proxies := pool.ViaProxies(t, c)
	keys = with(map[string]string{
		"failover_min_standbys": "1", "failover_probe_timeout": "1500ms", "failover_silence_time": "4s", // the probe of n3 must see new WAL in time
	}, keys)
	s = pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(servers, 3), Script: promoteVia(c, servers), Keys: silence(keys)})
	s.Opened("n1")
	writing(t, c.Nodes[0])
	s.Pool.Connect()
	proxies[0].Silence(pgtest.BothWays)
	cut.Silence(pgtest.BothWays)
	s.Pool.WaitState("n1", "Primary (vetoed)")
	return s, link, servers
}

func TestAStandbyThatReceivesVetoesTheDeathOfASilentPrimary(t *testing.T) {
	t.Parallel()
	s, link, servers := halfCut(t, nil)
	pgtest.WaitUntil(t, pool.Generous, "the veto's reason", func() bool { // between two rounds the reason is what pgagroal waits for
		return strings.Contains(fmt.Sprint(s.Status()["Reason"]), "n3 received from it a moment ago")
	}, s.Pool.Log)
	s.Alarmed("n1 lets nobody log in")
	s.Quiet(3 * time.Second)
	s.Pool.WaitState("n1", "Primary (vetoed)")
	link.Silence(pgtest.BothWays)
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgsOf(servers[0], servers[1])}, [][]string{pool.RunArgsOf(servers...)})
}

func TestAVetoIsBounded(t *testing.T) {
	t.Parallel()
	s, _, _ := halfCut(t, map[string]string{"failover_veto_max": "12s"})
	s.Opened("n2")
	pool.Says(t, s.Told("failover"), "reason", "and 1 standbys don't receive")
}

func TestAPrimaryThatLetsNobodyInIsReplacedThoughItsSessionsWork(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := pool.Play(t, c, pool.Plan{Keys: silence(map[string]string{"failover_veto_max": "8s"})})
	s.Opened("n1")
	client := s.Pool.Connect()
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := pool.Query(client, "SELECT pg_logical_emit_message(false, 'x', 'y'), pg_sleep(0.02)"); err != nil {
				ended <- err
				return
			}
		}
	}()
	pool.Must(t, c.Nodes[0].PausePostmaster())
	s.Pool.WaitState("n1", "Primary (vetoed)")
	s.Opened("n2")
	pool.Says(t, s.Told("failover"), "reason", "it has let nobody log in for")
	if err := <-ended; pgtest.Code(err) != "08007" && pgtest.Code(err) != "57P01" {
		t.Errorf("the session of the old primary got %v, want 08007 or 57P01", err)
	}
	pool.Must(t, c.Nodes[0].Resume())
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}
