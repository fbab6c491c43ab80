package failover

import (
	"context"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// silence returns keys with which a silent primary is given up within seconds.
func silence(more map[string]string) map[string]string {
	return with(map[string]string{
		"failover_probe_timeout": "1s", "failover_probe_interval": "100ms", "failover_silence_time": "2s",
		"health_check": "on", "health_check_period": "1s",
	}, more)
}

// doubtful has standbys notice within 3 s that they receive nothing. A server that gets no CPU for a moment isn't
// silent to them.
func doubtful(t *testing.T, standbys int) *pgtest.Cluster {
	t.Helper()
	return pgtest.New(t, pgtest.Options{Standbys: standbys, Extra: map[string]string{"wal_receiver_timeout": "3s", "wal_sender_timeout": "0"}})
}

func TestAFrozenPrimaryIsReplacedAfterTheSilenceTime(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	s := pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(pool.Nodes(c), 3), Keys: silence(map[string]string{"failover_keep_sessions": "off"})})
	s.Opened("n1")
	client := s.Pool.Connect()
	pool.MustQuery(t, client, "SELECT 1") // a session that has done nothing yet moves without a word
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	frozen := time.Now()
	pool.Must(t, n1.Pause())
	s.Failover.WaitRuns(1)
	if d := time.Since(frozen); d < 2*time.Second {
		t.Errorf("the script ran %v after the last byte, want 2 s at least", d)
	}
	s.Opened("n2")
	if _, err := pool.Query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the frozen primary's client got %v, want 57P01", err)
	}
	pool.Says(t, s.Told("failover"), "reason", "and 2 standbys don't receive")
	s.Notify.WaitRuns(1)
	pool.Must(t, n1.Resume())
	s.Pool.WaitState("n1", "Failed (split brain)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2, n3))
}

func TestASilentPrimaryIsKeptWhileOneStandbyReceives(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	links := []*pgtest.Proxy{replicationVia(t, c, c.Nodes[1]), replicationVia(t, c, c.Nodes[2])}
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(servers, 3), Script: promoteVia(c, servers), Keys: silence(nil)})
	s.Opened("n1")
	s.Pool.Connect()
	proxies[0].Silence(pgtest.BothWays)
	links[0].Silence(pgtest.BothWays)
	s.Seen("n1", "silent")
	s.Quiet(6 * time.Second) // twice the time after which n2 alone would be a witness
	if got := s.Word("Phase"); got != "suspect" {
		t.Errorf("phase is %q, want suspect", got)
	}
	links[1].Silence(pgtest.BothWays)
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgsOf(servers[0], servers[1])}, [][]string{pool.RunArgsOf(servers...)})
}

func TestMinStandbysSaysHowManyStandbysMustAgree(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	link := replicationVia(t, c, c.Nodes[1])
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: pool.NoCandidate(servers, 3), Script: promoteVia(c, servers), Keys: silence(map[string]string{"failover_min_standbys": "1", "failover_veto_streaming": "off"})})
	s.Opened("n1")
	s.Pool.Connect()
	proxies[0].Silence(pgtest.BothWays)
	link.Silence(pgtest.BothWays)
	s.Opened("n2")
	pool.Says(t, s.Told("failover"), "reason", "and 1 standbys don't receive")
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgsOf(servers[0], servers[1])}, [][]string{pool.RunArgsOf(servers...)})
}

func TestBytesOnAPooledConnectionKeepASilentPrimary(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	link := replicationVia(t, c, c.Nodes[1])
	s := pool.Play(t, c, pool.Plan{Keys: silence(nil)})
	s.Opened("n1")
	client := s.Pool.Connect()
	ctx, stop := context.WithCancel(t.Context())
	busy := make(chan time.Time, 1)
	go func() {
		var last time.Time // what came later is its answer
		for ctx.Err() == nil {
			asked := time.Now()
			if _, err := pool.Query(client, "SELECT pg_sleep(0.05)"); err != nil {
				break
			}
			last = asked
		}
		busy <- last
	}()
	pool.Must(t, c.Nodes[0].PausePostmaster())
	link.Silence(pgtest.BothWays)
	s.Seen("n1", "silent")
	s.Quiet(6 * time.Second)
	stop()
	last := <-busy
	s.Failover.WaitRuns(1)
	if d := time.Since(last); d < 2*time.Second {
		t.Errorf("the script ran %v after the last question on a pooled connection that was answered, want 2 s", d)
	}
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

func TestAStoppedPostmasterWhoseSessionsWorkRunsNothing(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := pool.Play(t, c, pool.Plan{Keys: silence(nil)})
	s.Opened("n1")
	client := s.Pool.Connect()
	pool.Must(t, c.Nodes[0].PausePostmaster())
	s.Seen("n1", "silent")
	s.Quiet(4 * time.Second)
	pool.MustQuery(t, client, "SELECT 1")
	pool.Must(t, c.Nodes[0].Resume())
	s.Same()
	pool.MustQuery(t, client, "SELECT 1")
}

func TestAPoolerCutOffFromEveryServerRunsNothingAndResumes(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: silence(nil)})
	s.Opened("n1")
	client := s.Pool.Connect()
	for _, x := range proxies {
		x.Silence(pgtest.BothWays)
	}
	s.Alarmed("no server answers and none refuses")
	s.Quiet(4 * time.Second)
	for _, x := range proxies {
		x.Unsilence()
	}
	s.Same()
	if s.HasAlarm("no server answers") {
		t.Error("the alarm is still there")
	}
	pool.MustQuery(t, client, "SELECT 1")
	pool.MustQuery(t, s.Pool.Connect(), "SELECT 1")
}
