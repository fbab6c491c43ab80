package upgrade

import (
	"crypto/tls"
	"maps"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A failover that begins while workers of the version before live: the primary is frozen, and goes on
// later. The script runs once, and from then on no client of either version is served by the old primary.
func TestFailoverFencesWorkersOfBothVersions(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1, Extra: map[string]string{"wal_receiver_timeout": "1s", "wal_sender_timeout": "0"}})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(map[string]string{
		"pipeline": "transaction", "failover_probe_timeout": "1s", "failover_silence_time": "4s",
	})})
	installed(t, s.Pool)
	certify(t, s.Pool, "allow")
	s.Pool.Run()
	s.Opened("n1")
	s.Pool.WaitLog("script runner is ready")
	moving, staying := s.Pool.Config("postgres", "", "postgres"), s.Pool.Config("postgres", "", "old")
	staying.TLS = &tls.Config{InsecureSkipVerify: true} // so they stay with the workers of the version before
	pool.AskNode(t, n1, "CREATE DATABASE old")
	loads := map[string]*pool.Load{}
	for _, cfg := range []pgtest.ClientConfig{moving, staying} {
		cl := s.Pool.ConnectAs(cfg)
		pool.MustQuery(t, cl, "CREATE TABLE t (id text)")
		loads[cfg.Database] = pool.StartLoad(cfg)
	}
	write := func() {
		t.Helper()
		for name, l := range loads {
			n := l.Count()
			pgtest.WaitUntil(t, pool.Generous, name+" to be written", func() bool { return l.Count() > n+100 }, s.Pool.Log)
		}
	}
	write()
	install(t, s.Pool, build(t, versions[1]))
	order(t, s.Pool)
	upgraded(t, s.Pool, 1)
	write()
	upgrade, _ := s.Pool.JSON("status")["Upgrade"].(map[string]any)
	if old, _ := upgrade["OldClients"].(float64); old < 2 {
		t.Errorf("after the upgrade status says %v", upgrade)
	}
	epoch := s.Epoch()
	pool.Must(t, n1.Pause())
	s.Opened("n2")
	before := map[string]map[string]bool{} // the last of them may be on n1 alone: it doesn't wait for n2
	for name, l := range loads {
		before[name] = l.Seen().Acked
	}
	if n := strings.Count(s.Pool.Log(), "worker has let go of the old primary"); n < 3 {
		t.Errorf("%d workers of both versions were fenced", n)
	}
	write()
	pool.Must(t, n1.Resume()) // it still believes that it is the primary
	write()
	for name, l := range loads {
		l.End()
		seen := l.Seen()
		if seen.Disconnected > 0 {
			t.Errorf("%s: %d clients were disconnected: %s", name, seen.Disconnected, seen.Errors)
		}
		maps.DeleteFunc(seen.Acked, func(id string, _ bool) bool { return before[name][id] })
		checkWritten(t, n2, name, seen.Acked)
		t.Logf("%s: %d commits since the failover, and%s", name, len(seen.Acked), seen.Errors)
	}
	s.Notify.WaitRuns(1)
	if runs := s.Failover.Runs(); len(runs) != 1 {
		t.Errorf("the runs are %v", runs)
	}
	if got := s.Epoch(); got != epoch+1 {
		t.Errorf("the epoch was %d, and is %d", epoch, got)
	}
}

// checkWritten checks that each row that was acknowledged is on a node.
func checkWritten(t testing.TB, n *pgtest.Node, database string, acked map[string]bool) {
	t.Helper()
	cl, err := pgtest.Connect(pool.Within(t), n.Config("postgres", "", database))
	pool.Must(t, err)
	defer cl.Close()
	there := map[string]bool{}
	for _, row := range pool.MustQuery(t, cl, "SELECT id FROM t") {
		there[row[0]] = true
	}
	for id := range acked {
		if !there[id] {
			t.Errorf("%s: row %s was acknowledged, and is not on %s", database, id, n.Name)
		}
	}
}
