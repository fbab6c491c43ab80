package transaction

import (
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestPooledManyClientsShareFewBackends(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE counted (i int)")
	p := pool.TxPool(t, c, 2, map[string]string{"workers": "2"})
	var clients sync.WaitGroup
	var mu sync.Mutex
	pids := map[string]int{}
	for i := range 20 {
		clients.Go(func() {
			cl, err := p.Try(p.Config("postgres", "", "postgres"))
			if err != nil {
				t.Error(err)
				return
			}
			defer cl.Close()
			mine := fmt.Sprint("client ", i)
			if err := cl.Prepare(t.Context(), "s", "SELECT '"+mine+"/' || pg_backend_pid()"); err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if _, err := pool.Query(cl, "BEGIN; INSERT INTO counted VALUES (1)"); err != nil {
					t.Error(err)
					return
				}
				res, err := cl.ExecPrepared(t.Context(), "s")
				if err != nil || len(res.Rows) != 1 || res.Rows[0][0][:len(mine)] != mine {
					t.Errorf("client %d: %v, %v", i, res, err)
					return
				}
				mu.Lock()
				pids[res.Rows[0][0][len(mine)+1:]]++
				mu.Unlock()
				if _, err := pool.Query(cl, "COMMIT"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	if got := pool.AskNode(t, c.Primary(), "SELECT count(*) FROM counted"); got != "400" {
		t.Errorf("%s rows instead of 400", got)
	}
	t.Logf("transactions by backend: %v", pids)
}

func TestPooledClientsAreServedInTheOrderTheyCame(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	holder := p.Connect()
	var waiting []*pgtest.Client
	for range 5 {
		waiting = append(waiting, p.Connect())
	}
	pool.MustQuery(t, holder, "CREATE SEQUENCE served; SELECT nextval('served')")
	pool.MustQuery(t, holder, "BEGIN")
	for i, cl := range waiting {
		pool.Send(t, cl, &pgproto3.Query{String: "SELECT nextval('served')"})
		p.WaitWaiting(i + 1)
	}
	pool.MustQuery(t, holder, "COMMIT")
	for i, cl := range waiting {
		wantTold(t, cl, fmt.Sprintf("RowDescription row:%d done:SELECT_1 ready:I", i+2))
	}
}

func TestPooledClientThatWaitsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, map[string]string{"blocking_timeout": "1"})
	holder, cl := p.Connect(), p.Connect()
	pool.MustQuery(t, holder, "BEGIN")
	_, err := pool.Query(cl, "SELECT 1")
	pool.WantCode(t, err, "53300", "connection pool is full")
	pool.MustQuery(t, holder, "COMMIT")
	pool.MustQuery(t, p.Connect(), "SELECT 1")
}

func TestPooledClientThatVanishesWhileItWaitsTakesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE nothing (i int)")
	p := pool.TxPool(t, c, 1, nil)
	holder, cl := p.Connect(), p.Connect()
	pool.MustQuery(t, holder, "BEGIN")
	pool.Send(t, cl, &pgproto3.Query{String: "INSERT INTO nothing VALUES (1)"})
	p.WaitWaiting(1)
	pool.Vanish(t, cl)
	p.WaitWaiting(0)
	pool.MustQuery(t, holder, "COMMIT")
	if got := pool.MustQuery(t, holder, "SELECT count(*) FROM nothing")[0][0]; got != "0" {
		t.Errorf("%s rows of a client that has gone", got)
	}
}

func TestPooledCancelHitsOnlyTheStatementOfItsClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, map[string]string{"workers": "2"})
	a, b, idle := p.Connect(), p.Connect(), p.Connect()
	keys := map[string]bool{}
	for _, cl := range []*pgtest.Client{a, b, idle} {
		keys[fmt.Sprint(cl.PID, cl.Secret)] = true
	}
	if len(keys) != 3 {
		t.Errorf("three clients have keys %v", keys)
	}
	running := "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
	pool.Send(t, a, &pgproto3.Query{String: "SELECT pg_sleep(600)"})
	pool.Send(t, b, &pgproto3.Query{String: "SELECT pg_sleep(600)"})
	pool.WaitNode(t, c.Primary(), running, "2")
	if err := idle.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := pool.Told(t, a, "ready:I"); got != "RowDescription error:57014 ready:I" && got != "error:57014 ready:I" {
		t.Errorf("the client that cancelled: %s", got)
	}
	if got := pool.AskNode(t, c.Primary(), running); got != "1" {
		t.Errorf("%s statements run on, want the other one", got)
	}
	if got := pool.MustQuery(t, idle, "SELECT 'fine'")[0][0]; got != "fine" {
		t.Error(got)
	}
	if err := b.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool.Told(t, b, "ready:I")
	for _, cl := range []*pgtest.Client{a, b, idle} {
		if got := pool.MustQuery(t, cl, "SELECT 'on'")[0][0]; got != "on" {
			t.Error(got)
		}
	}
}
