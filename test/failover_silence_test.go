package test

import (
	"context"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// silence are keys that make a silent primary a case of seconds.
func silence(more map[string]string) map[string]string {
	return with(map[string]string{
		"failover_probe_timeout": "300ms", "failover_probe_interval": "100ms", "failover_silence_time": "2s",
		"health_check": "on", "health_check_period": "1s",
	}, more)
}

// doubtful has standbys notice within a second that they receive nothing.
func doubtful(t *testing.T, standbys int) *pgtest.Cluster {
	t.Helper()
	return pgtest.New(t, pgtest.Options{Standbys: standbys, Extra: map[string]string{"wal_receiver_timeout": "1s", "wal_sender_timeout": "0"}})
}

func TestAFrozenPrimaryIsReplacedAfterTheSilenceTime(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	s := play(t, c, plan{servers: noCandidate(nodes(c), 3), keys: silence(nil)})
	s.opened("n1")
	client := s.p.Connect()
	mustQuery(t, client, "SELECT 1") // a session that has done nothing yet moves without a word
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	must(t, n1.Pause())
	frozen := time.Now()
	s.failover.WaitRuns(1)
	if d := time.Since(frozen); d < 2*time.Second {
		t.Errorf("the script ran %v after the last byte, want 2 s at least", d)
	}
	s.opened("n2")
	if _, err := query(client, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the frozen primary's client got %v, want 57P01", err)
	}
	says(t, s.told("failover"), "reason", "and 2 standbys don't receive")
	s.notify.WaitRuns(1)
	must(t, n1.Resume())
	s.p.WaitState("n1", "Failed (split brain)")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.ran(one(n1, n2), one(n1, n2, n3))
}

func TestASilentPrimaryIsKeptWhileOneStandbyReceives(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	links := []*pgtest.Proxy{replicationVia(t, c, c.Nodes[1]), replicationVia(t, c, c.Nodes[2])}
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: noCandidate(servers, 3), script: promoteVia(c, servers), keys: silence(nil)})
	s.opened("n1")
	s.p.Connect()
	proxies[0].Silence(pgtest.BothWays)
	links[0].Silence(pgtest.BothWays)
	s.seen("n1", "silent")
	s.quiet(4 * time.Second) // twice the silence time
	if got := s.word("Phase"); got != "suspect" {
		t.Errorf("phase is %q, want suspect", got)
	}
	links[1].Silence(pgtest.BothWays)
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran([][]string{argsOf(servers[0], servers[1])}, [][]string{argsOf(servers...)})
}

func TestMinStandbysSaysHowManyStandbysMustAgree(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	link := replicationVia(t, c, c.Nodes[1])
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: noCandidate(servers, 3), script: promoteVia(c, servers), keys: silence(map[string]string{"failover_min_standbys": "1", "failover_veto_streaming": "off"})})
	s.opened("n1")
	s.p.Connect()
	proxies[0].Silence(pgtest.BothWays)
	link.Silence(pgtest.BothWays)
	s.opened("n2")
	says(t, s.told("failover"), "reason", "and 1 standbys don't receive")
	s.notify.WaitRuns(1)
	s.ran([][]string{argsOf(servers[0], servers[1])}, [][]string{argsOf(servers...)})
}

func TestBytesOnAPooledConnectionKeepASilentPrimary(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	link := replicationVia(t, c, c.Nodes[1])
	s := play(t, c, plan{keys: silence(nil)})
	s.opened("n1")
	client := s.p.Connect()
	ctx, stop := context.WithCancel(t.Context())
	busy := make(chan time.Time, 1)
	go func() {
		last := time.Now()
		for ctx.Err() == nil {
			if _, err := query(client, "SELECT pg_sleep(0.05)"); err != nil {
				break
			}
			last = time.Now()
		}
		busy <- last
	}()
	must(t, c.Nodes[0].PausePostmaster())
	link.Silence(pgtest.BothWays)
	s.seen("n1", "silent")
	s.quiet(4 * time.Second)
	stop()
	last := <-busy
	s.failover.WaitRuns(1)
	if d := time.Since(last); d < 1900*time.Millisecond {
		t.Errorf("the script ran %v after the last answer on a pooled connection, want 2 s", d)
	}
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

func TestAStoppedPostmasterWhoseSessionsWorkRunsNothing(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 1)
	s := play(t, c, plan{keys: silence(nil)})
	s.opened("n1")
	client := s.p.Connect()
	must(t, c.Nodes[0].PausePostmaster())
	s.seen("n1", "silent")
	s.quiet(4 * time.Second)
	mustQuery(t, client, "SELECT 1")
	must(t, c.Nodes[0].Resume())
	s.same()
	mustQuery(t, client, "SELECT 1")
}

func TestAPoolerCutOffFromEveryServerRunsNothingAndResumes(t *testing.T) {
	t.Parallel()
	c := doubtful(t, 2)
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: servers, keys: silence(nil)})
	s.opened("n1")
	client := s.p.Connect()
	for _, x := range proxies {
		x.Silence(pgtest.BothWays)
	}
	s.alarmed("no server answers and none refuses")
	s.quiet(4 * time.Second)
	for _, x := range proxies {
		x.Unsilence()
	}
	s.same()
	if s.hasAlarm("no server answers") {
		t.Error("the alarm is still there")
	}
	mustQuery(t, client, "SELECT 1")
	mustQuery(t, s.p.Connect(), "SELECT 1")
}
