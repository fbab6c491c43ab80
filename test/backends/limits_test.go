package backends

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// watch samples a count on a node until stop: most is the largest count seen, looks the
// number of samples.
type watch struct {
	most, looks atomic.Int64
	stop        func()
}

// enoughLooks is how many samples will show a limit that is exceeded now and then.
const enoughLooks = 50

func watchCount(t testing.TB, n *pgtest.Node, sql string) *watch {
	t.Helper()
	c, err := n.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	w := &watch{stop: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		defer c.Close()
		for ctx.Err() == nil {
			rows, err := pool.Query(c, sql)
			if err != nil {
				t.Error(err)
				return
			}
			k, _ := strconv.ParseInt(rows[0][0], 10, 64)
			w.most.Store(max(w.most.Load(), k))
			w.looks.Add(1)
		}
	}()
	return w
}

// hammer runs clients that connect, query and leave the given number of times, and
// longer until enough returns true. They take the users in turn and leave in several
// ways.
func hammer(t testing.TB, p *pool.Pool, clients, times int, enough func() bool, users ...string) {
	t.Helper()
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for k := 0; k < times || !enough() && !t.Failed() && time.Since(begin) < pool.Generous; k++ {
				cl, err := p.Try(p.Config(users[(i+k)%len(users)], "", "postgres"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := pool.Query(cl, "SELECT pg_sleep(0.002)"); err != nil {
					t.Error(err)
				}
				if k%4 == 3 {
					pool.Vanish(t, cl)
				} else {
					cl.Close()
				}
			}
		})
	}
	wg.Wait()
}

func TestMaxConnectionsIsNeverExceededOnTheServer(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "4"}})
	w := watchCount(t, c.Primary(), pool.CountPooled)
	hammer(t, p, 12, 12, func() bool { return w.looks.Load() >= enoughLooks && w.most.Load() >= 4 }, "postgres", "bob", "eve")
	w.stop()
	if most, looks := w.most.Load(), w.looks.Load(); most != 4 || looks < enoughLooks {
		t.Errorf("the server has shown %d connections of the pool, in %d looks; 4 are allowed", most, looks)
	}
}

func TestRuleOfDatabasesFileIsAHardLimit(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "10", "blocking_timeout": "3s"},
		Databases: "postgres bob 2\n",
	})
	a, b := p.ConnectAs(p.Config("bob", "", "postgres")), p.ConnectAs(p.Config("bob", "", "postgres"))
	pool.WantCode(t, p.WantRefused(p.Config("bob", "", "postgres")), "53300", "connection pool is full")
	p.Connect() // another pool has room
	a.Close()
	cl := p.ConnectAs(p.Config("bob", "", "postgres"))
	cl.Close()
	b.Close()
}

func TestMaxPoolsBoundsThePoolsOfAWorker(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_pools": "1", "workers": "1"}})
	bob, eve := p.Config("bob", "", "postgres"), p.Config("eve", "", "postgres")
	cl := p.ConnectAs(bob)
	pool.WantCode(t, p.WantRefused(eve), "53300", "too many pools, the limit is max_pools")
	p.ConnectAs(bob).Close() // bob's pool exists already
	cl.Close()
	pgtest.Eventually(t, pool.Generous, "a pool that nobody uses makes room", func() error {
		other, err := p.Try(eve)
		if err == nil {
			other.Close()
		}
		return err
	})
	pgtest.WaitUntil(t, pool.Generous, "its backends are closed", func() bool {
		rows := pool.AskNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bob'")
		return rows == "0"
	})
}

func TestAliasLeadsToTheRealDatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE DATABASE real")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Keys: map[string]string{"workers": "1", "blocking_timeout": "3s"},
		Databases: "real=nick,other postgres 1\n",
	})
	pid := ""
	for _, name := range []string{"nick", "other", "real", "nick"} {
		cl := p.ConnectAs(p.Config("postgres", "", name))
		if got := pool.MustQuery(t, cl, "SELECT current_database()")[0][0]; got != "real" {
			t.Errorf("%s leads to %s", name, got)
		}
		if got := pool.BackendPID(t, cl); pid != "" && got != pid {
			t.Errorf("%s has a backend of its own", name)
		} else {
			pid = got
		}
		cl.Close()
	}
	p.ConnectAs(p.Config("postgres", "", "nick"))
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "other")), "53300", "connection pool is full")
}

// A list with names in quotes is one limit, which all its databases and users share.
func TestALimitHoldsForEveryNameOfItsList(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, sql := range []string{`CREATE DATABASE "my db"`, `CREATE ROLE "an app" LOGIN`} {
		pool.AskNode(t, c.Primary(), sql)
	}
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Keys: map[string]string{"workers": "1", "blocking_timeout": "2s"},
		Databases: "\"my db\",postgres \"an app\", postgres 1\n",
	})
	for _, holder := range [][2]string{{"an app", "my db"}, {"postgres", "postgres"}} {
		cl := p.ConnectAs(p.Config(holder[0], "", holder[1]))
		for _, other := range [][2]string{{"postgres", "my db"}, {"an app", "postgres"}} {
			pool.WantCode(t, p.WantRefused(p.Config(other[0], "", other[1])), "53300", "connection pool is full")
		}
		cl.Close()
	}
	p.ConnectAs(p.Config("an app", "", "template1"))
}

func TestWaitersAreServedInTheOrderOfTheirArrival(t *testing.T) {
	t.Parallel()
	for name, users := range map[string]map[string]string{"same pool": {"postgres": "x"}, "two pools": {"postgres": "x", "bob": "x"}} {
		t.Run(name, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN")
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: users, Keys: map[string]string{"max_connections": "1", "workers": "1"}})
			holder := p.Connect()
			served := make(chan int, 8)
			for i := range 6 {
				cfg := p.Config("postgres", "", "postgres")
				if len(users) > 1 && i%2 == 0 {
					cfg.User = "bob"
				}
				go func() {
					cl, err := p.Try(cfg)
					if err != nil {
						t.Error(err)
						served <- -1
						return
					}
					served <- i
					cl.Close()
				}()
				p.WaitWaiting(i + 1)
			}
			holder.Close()
			for want := range 6 {
				select {
				case got := <-served:
					if got != want {
						t.Errorf("client %d was served as number %d", got, want)
					}
				case <-time.After(pool.Generous):
					t.Fatal("a waiter was never served")
				}
			}
		})
	}
}

func TestBlockingTimeoutEndsInARefusal(t *testing.T) {
	t.Parallel()
	for name, users := range map[string]map[string]string{"known": {"postgres": "x"}, "passed through": nil} {
		t.Run(name, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Users: users, Keys: map[string]string{"max_connections": "1", "blocking_timeout": "3s"}})
			holder := p.Connect()
			began := time.Now()
			pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "53300", "connection pool is full")
			if waited := time.Since(began); waited < 3*time.Second {
				t.Errorf("refused after %v, the limit is 3s", waited)
			}
			pool.MustQuery(t, holder, "SELECT 1")
			holder.Close()
			p.Connect()
		})
	}
}

func TestBlockingTimeoutOfZeroRefusesAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"blocking_timeout": "0"})
	p.Connect()
	began := time.Now()
	pool.WantCode(t, p.WantRefused(p.Config("postgres", "", "postgres")), "53300", "connection pool is full")
	if waited := time.Since(began); waited > pool.Generous/3 {
		t.Errorf("refused after %v", waited)
	}
}

func TestBlockingTimeoutOfZeroTakesAnIdleBackendOfAnotherPool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	if _, err := c.Primary().Query(t.Context(), "CREATE ROLE bob LOGIN"); err != nil {
		t.Fatal(err)
	}
	p := pool.OnePlace(t, c, map[string]string{"blocking_timeout": "0"})
	first := p.Connect()
	pool.MustQuery(t, first, "SELECT 1")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	pgtest.WaitUntil(t, pool.Generous, "the backend to be idle", func() bool {
		list, _ := p.JSON("status", "details")["Connections"].([]any)
		b, _ := append(list, nil)[0].(map[string]any)
		return len(list) == 1 && b["State"] == "Free"
	}, p.Log)
	pool.MustQuery(t, p.ConnectAs(p.Config("bob", "", "postgres")), "SELECT 1")
}

func TestWaiterThatLeavesFreesItsPlace(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: map[string]string{"max_connections": "1", "workers": "1"},
	})
	holder := p.Connect()
	hello := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres"})
	for _, goes := range []func(interface{ Close() error }){
		func(c interface{ Close() error }) { _ = c.Close() },
		func(c interface{ Close() error }) {
			_ = c.(interface{ SetLinger(int) error }).SetLinger(0)
			_ = c.Close()
		},
	} {
		conn := p.DialRaw()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		p.WaitWaiting(1)
		goes(conn)
		p.WaitWaiting(0)
	}
	pid := pool.BackendPID(t, holder)
	holder.Close()
	if got := pool.BackendPID(t, p.Connect()); got != pid {
		t.Error("the backend was spent on somebody who had left")
	}
}

// The only place is taken by an idle backend of another pool, on either worker.
func TestIdleBackendOfAnotherPoolIsReclaimed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE bob LOGIN")
	for _, workers := range []string{"1", "2"} {
		t.Run(workers+" workers", func(t *testing.T) {
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "1", "workers": workers}})
			for i := range 8 {
				cl := p.ConnectAs(p.Config([]string{"postgres", "bob"}[i%2], "", "postgres"))
				pool.MustQuery(t, cl, "SELECT 1")
				cl.Close()
			}
		})
	}
}

func TestIdleBackendIsClosedAfterIdleTimeout(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"idle_timeout": "1s"})
	cl := p.Connect()
	pid := pool.BackendPID(t, cl)
	pool.WaitNode(t, c.Primary(), pool.CountPooled, "1")
	cl.Close()
	pool.WaitNode(t, c.Primary(), pool.CountPooled, "0")
	if got := pool.BackendPID(t, p.Connect()); got == pid {
		t.Error("the same backend is there again")
	}
}

func TestOldBackendIsClosed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"max_connection_age": "1s"})
	cl := p.Connect()
	pid := pool.BackendPID(t, cl)
	old := fmt.Sprintf("SELECT now() - backend_start > '1100ms' FROM pg_stat_activity WHERE pid = %s", pid)
	pool.WaitNode(t, c.Primary(), old, "t") // a backend in use stays
	cl.Close()
	if got := pool.BackendPID(t, p.Connect()); got == pid {
		t.Error("a backend of more than its age serves the next client")
	}
}

func TestIdleBackendIsClosedAtItsAge(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"max_connection_age": "1s"})
	p.Connect().Close()
	pool.WaitNode(t, c.Primary(), pool.CountPooled, "0")
}
