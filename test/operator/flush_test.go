package operator

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// flushes compares an answer to flush with what is expected of it.
func flushes(t *testing.T, p *pool.Pool, closed, graceful int, args ...string) {
	t.Helper()
	r := p.JSON(append([]string{"flush"}, args...)...)
	if r["Closed"] != float64(closed) || r["Graceful"] != float64(graceful) {
		t.Errorf("flush %v: closed %v, graceful %v, want %d and %d", args, r["Closed"], r["Graceful"], closed, graceful)
	}
}

func TestFlushClosesConnectionsToTheServers(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n1 := c.Nodes[0]
	pool.AskNode(t, n1, "CREATE DATABASE other")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"failover": "off", "workers": "1", "pipeline": "session"}})
	gone := func(pid string) {
		t.Helper()
		pool.WaitNode(t, n1, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid, "0")
	}
	// Two idle connections, of two databases.
	pids := map[string]string{}
	for _, database := range []string{"postgres", "other"} {
		client := p.ConnectAs(p.Config("postgres", "", database))
		pids[database] = pool.BackendPID(t, client)
		client.Close()
	}
	pgtest.WaitUntil(t, pool.Generous, "two idle connections", func() bool {
		free := 0
		for _, x := range p.JSON("status", "details")["Connections"].([]any) {
			if x.(map[string]any)["State"] == "Free" {
				free++
			}
		}
		return free == 2
	}, p.Log)
	flushes(t, p, 1, 0, "idle", "other")
	gone(pids["other"])
	client := p.Connect()
	if got := pool.BackendPID(t, client); got != pids["postgres"] {
		t.Errorf("the connection of another database was closed, too")
	}
	// A graceful flush waits for its client, which doesn't notice it.
	flushes(t, p, 0, 1, "-T", "0")
	connection := p.JSON("status", "details")["Connections"].([]any)[0].(map[string]any)
	if connection["State"] != "Graceful" {
		t.Errorf("state of the connection: %v", connection["State"])
	}
	if got := pool.BackendPID(t, client); got != pids["postgres"] {
		t.Error("the client has got another connection")
	}
	client.Close()
	gone(pids["postgres"])
	// At its time limit it disconnects the clients that still have an old connection.
	client = p.Connect()
	flushes(t, p, 0, 1, "gracefully", "postgres", "-T", "1")
	fresh := p.Connect()
	_, err := client.ReadResult(pool.Within(t))
	pool.WantCode(t, err, "57P01", "terminating connection due to a flush")
	pool.MustQuery(t, fresh, "SELECT 1")
	flushes(t, p, 0, 0, "all", "other")
	flushes(t, p, 1, 0, "all")
	_, err = fresh.ReadResult(pool.Within(t))
	pool.WantCode(t, err, "57P01", "terminating connection due to a flush")
	pool.WaitNode(t, n1, pool.CountPooled, "0")
	if _, _, code := p.CLI("enable", "other"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if list := p.JSON("enable", "other")["Databases"].([]any); len(list) > 0 {
		t.Errorf("a database that wasn't disabled is enabled: %v", list)
	}
}
