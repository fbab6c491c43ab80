package operator

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var all = flag.Bool("all", false, "each pipeline with each event loop, and more rounds")

// Workers are replaced several times while 64 clients are busy and others are in the middle of something.
// Nobody notices.
func TestWorkersAreReplacedUnderTheirClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n1 := c.Nodes[0]
	scenes, recycles := []struct{ pipeline, loop, keep string }{
		{"session", "epoll", "known"},
		{"transaction", "io_uring", "off"},
		{"session", "io_uring", "on"},
		{"session", "epoll", "off"},
		{"session", "io_uring", "off"},
		{"transaction", "epoll", "off"},
	}, 2
	if *all {
		recycles = 10
	} else {
		scenes = scenes[:2]
	}
	for _, scene := range scenes {
		t.Run(scene.pipeline+" "+scene.loop+" "+scene.keep, func(t *testing.T) {
			pool.AskNode(t, n1, "DROP TABLE IF EXISTS written")
			pool.AskNode(t, n1, "CREATE TABLE written (by text)")
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
				"pipeline": scene.pipeline, "ev_backend": scene.loop, "failover_keep_sessions": scene.keep, "max_connections": "90", "failover": "off", "log_level": "debug", "log_connections": "off", "log_disconnections": "off",
			}})
			p.Connect().Close()
			before := openFiles(t, p.Cmd.Process.Pid)
			b := startBusy(t, p)
			written := func() {
				t.Helper()
				n, err := strconv.Atoi(pool.AskNode(t, n1, "SELECT count(*) FROM written"))
				pool.Must(t, err)
				pgtest.WaitUntil(t, pool.Generous, "clients to write", func() bool {
					return pool.AskNode(t, n1, fmt.Sprintf("SELECT count(*) >= %d FROM written", n+5*writers)) == "t"
				}, p.Log)
			}
			half, still := p.Connect(), midway(t, p, n1, scene.pipeline)
			written()
			for range recycles {
				old := p.Workers()
				pool.SendRaw(t, half, query[:7]) // its worker can't move it before the rest comes
				if r := p.JSON("worker", "recycle"); fmt.Sprint(response(r, "Workers")) != "2" {
					t.Fatalf("answer %v", r)
				}
				written()
				pool.SendRaw(t, half, query[7:])
				res, err := half.ReadResult(pool.Within(t))
				if got := pool.Cell(t, res, err); got != "7" {
					t.Errorf("the client with half a message reads %s", got)
				}
				pgtest.WaitUntil(t, pool.Generous, "the old workers to end", func() bool {
					return !slices.ContainsFunc(p.Workers(), func(pid int) bool { return slices.Contains(old, pid) })
				}, p.Log)
			}
			for _, f := range still {
				f()
			}
			if want, got := fmt.Sprint(b.end(t)), pool.AskNode(t, n1, "SELECT count(*) FROM written"); got != want {
				t.Errorf("%s rows are there, clients have written %s", got, want)
			}
			checkNothingLeft(t, p, before)
		})
	}
}

// query is a message of a client.
var query = pgwire.AppendQuery(nil, "SELECT 7")

func response(r map[string]any, name string) any {
	if in, ok := r["Response"].(map[string]any); ok {
		r = in
	}
	return r[name]
}

// midway begins clients that are in the middle of something, and returns what ends each of them.
func midway(t *testing.T, p *pool.Pool, n1 *pgtest.Node, pipeline string) (ends []func()) {
	t.Helper()
	block, prepared, temp, sleeper := p.Connect(), p.Connect(), p.Connect(), p.Connect()
	pool.MustQuery(t, block, "BEGIN")
	pool.MustQuery(t, block, "CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 5 AS five")
	pool.MustQuery(t, block, "DECLARE k CURSOR FOR SELECT generate_series(1, 10)")
	next := func(want string) {
		t.Helper()
		if got := pool.MustQuery(t, block, "FETCH 1 FROM k"); got[0][0] != want {
			t.Errorf("the cursor returns %v, not %s", got, want)
		}
	}
	next("1")
	ends = append(ends, func() {
		next("2")
		if got := pool.MustQuery(t, block, "SELECT five FROM mine"); got[0][0] != "5" {
			t.Errorf("the transaction has lost its table: %v", got)
		}
		pool.MustQuery(t, block, "COMMIT")
	})
	pool.PrepareStatement(t, prepared, "s", "SELECT $1::int + 1")
	pool.RunPrepared(t, prepared, "s", "1")
	ends = append(ends, func() {
		if got := pool.RunPrepared(t, prepared, "s", "41"); got != "42" {
			t.Errorf("the prepared statement returns %s", got)
		}
	})
	if pipeline == "session" {
		pool.MustQuery(t, temp, "CREATE TEMP TABLE kept AS SELECT 6 AS six")
		ends = append(ends, func() {
			if got := pool.MustQuery(t, temp, "SELECT six FROM kept"); got[0][0] != "6" {
				t.Errorf("the session has lost its table: %v", got)
			}
		})
	}
	ends = append(ends, func() { // a cancel request finds the client in its new worker
		pool.Send(t, sleeper, &pgproto3.Query{String: "SELECT pg_sleep(600)"})
		pool.WaitNode(t, n1, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'", "1")
		pool.Must(t, sleeper.Cancel(pool.Within(t)))
		_, err := sleeper.ReadResult(pool.Within(t))
		pool.WantCode(t, err, "57014", "canceling statement")
	})
	return ends
}

// checkNothingLeft checks that no client, lease or descriptor is left when all clients have gone.
func checkNothingLeft(t *testing.T, p *pool.Pool, files int) {
	t.Helper()
	_, _, code := p.CLI("flush", "all")
	if code != 0 {
		t.Errorf("flush: exit code %d", code)
	}
	pgtest.WaitUntil(t, pool.Generous, "the supervisor to have as many files as before", func() bool {
		return openFiles(t, p.Cmd.Process.Pid) <= files
	}, p.Log)
}
