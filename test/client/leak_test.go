package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// big is a query whose result is larger than any socket buffer.
const big = "SELECT 'secret of another client ' || repeat('x', 1000) || g FROM generate_series(1, 50000) g"

// readSome reads a part of the pool's output and leaves the rest.
func readSome(t testing.TB, c *pgtest.Client, n int64) {
	t.Helper()
	if err := c.Conn().SetReadDeadline(time.Now().Add(pool.Generous)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c.Conn(), n); err != nil {
		t.Fatal(err)
	}
}

// departure is a moment at which a client leaves.
type departure struct {
	name string
	at   func(t testing.TB, c *pgtest.Client)
}

func departures() []departure {
	return []departure{
		{"idle", func(testing.TB, *pgtest.Client) {}},
		{"in the middle of a result", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: big}))
			readSome(t, c, 100_001)
		}},
		{"before the first byte of a result", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: big}))
		}},
		{"in the middle of COPY in", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: "COPY kept FROM STDIN"}))
			readSome(t, c, 5)
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.CopyData{Data: []byte("1\n2\n")}))
		}},
		{"in the middle of CopyData", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: "COPY kept FROM STDIN"}))
			readSome(t, c, 5)
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.CopyData{Data: []byte("1\n2\n")})[:6])
		}},
		{"in the middle of COPY in of the extended protocol", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Parse{Query: "COPY kept FROM STDIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}))
			readSome(t, c, 15)
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.CopyData{Data: []byte("1\n2\n")}))
		}},
		{"in the middle of COPY out", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: "COPY (" + big + ") TO STDOUT"}))
			readSome(t, c, 100_001)
		}},
		{"in the middle of a Query", func(t testing.TB, c *pgtest.Client) {
			msg := pool.Encode(t, &pgproto3.Query{String: "INSERT INTO kept VALUES (3)"})
			pool.SendRaw(t, c, msg[:len(msg)/2])
		}},
		{"in the middle of a header", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: "SELECT 1"})[:3])
		}},
		{"in a transaction", func(t testing.TB, c *pgtest.Client) {
			pool.MustQuery(t, c, "BEGIN")
			pool.MustQuery(t, c, "INSERT INTO kept VALUES (4)")
		}},
		{"in a failed transaction", func(t testing.TB, c *pgtest.Client) {
			pool.MustQuery(t, c, "BEGIN")
			_, _ = pool.Query(c, "SELECT 1/0")
		}},
		{"with a batch in flight", func(t testing.TB, c *pgtest.Client) {
			var b []byte
			for range 50 {
				b = append(b, pool.Encode(t, &pgproto3.Parse{Query: "SELECT repeat('secret of another client', 1000)"},
					&pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})...)
			}
			pool.SendRaw(t, c, b)
		}},
		{"with a batch without Sync", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Parse{Query: "INSERT INTO kept VALUES (5)"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{}))
			readSome(t, c, 20)
		}},
		{"after an error in a batch", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Parse{Query: "SELECT 1/0"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{}))
			readSome(t, c, 50)
		}},
		{"while its query sleeps", func(t testing.TB, c *pgtest.Client) {
			pool.SendRaw(t, c, pool.Encode(t, &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
		}},
	}
}

// goings are the ways in which a client's connection ends without a Terminate.
func goings() map[string]func(t testing.TB, c *pgtest.Client) {
	return map[string]func(t testing.TB, c *pgtest.Client){
		"reset":  pool.Vanish,
		"closed": func(_ testing.TB, c *pgtest.Client) { _ = c.Conn().Close() },
		"half closed": func(t testing.TB, c *pgtest.Client) {
			if err := c.Conn().(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Conn().Close() })
		},
	}
}

// The pool has one place, so the next client has the same backend or the one that
// replaced it.
func TestNextClientSeesNothingOfOneThatVanished(t *testing.T) {
	t.Parallel()
	for _, loop := range []string{"auto", "epoll"} {
		t.Run(loop, func(t *testing.T) { vanishInEveryWay(t, loop) })
	}
}

func vanishInEveryWay(t *testing.T, loop string) {
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE kept(i int)")
	p := pool.OnePlace(t, c, map[string]string{"ev_backend": loop})
	for network, cfg := range map[string]pgtest.ClientConfig{
		"tcp": p.Config("postgres", "", "postgres"), "unix": p.UnixConfig("postgres", "", "postgres"),
	} {
		for how, goes := range goings() {
			for _, d := range departures() {
				cl := p.ConnectAs(cfg)
				pool.MustQuery(t, cl, "SET work_mem TO '7MB'")
				d.at(t, cl)
				goes(t, cl)
				next := p.ConnectAs(cfg)
				rows := pool.MustQuery(t, next, "SELECT 'mine', current_setting('work_mem'), (SELECT count(*) FROM kept)")
				got := fmt.Sprintf("%v %c", rows, next.Status)
				if got != "[[mine 4MB 0]] I" {
					t.Errorf("%s, %s %s: the next client gets %.200s", network, how, d.name, got)
				}
				next.Close()
			}
		}
	}
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep|secret' AND state = 'active' AND pid <> pg_backend_pid()", "0")
}

// A statement that was sent before a Terminate takes effect, as it does without a pool,
// and its backend is used again.
func TestStatementsBeforeTheGoodbyeTakeEffect(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE kept(i int)")
	p := pool.OnePlace(t, c, nil)
	insert := func(n int) pgproto3.FrontendMessage {
		return &pgproto3.Query{String: fmt.Sprintf("INSERT INTO kept SELECT %d FROM pg_sleep(0.05)", n)}
	}
	for n, msgs := range [][]pgproto3.FrontendMessage{
		{insert(0)},
		{insert(1), insert(1)},
		{&pgproto3.Parse{Query: "INSERT INTO kept VALUES (2)"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}},
		{&pgproto3.Query{String: "COPY kept FROM STDIN"}, &pgproto3.CopyData{Data: []byte("3\n3\n3\n")}, &pgproto3.CopyDone{}},
		{insert(4), &pgproto3.Query{String: "SELECT repeat('x', 10000) FROM generate_series(1, 2000)"}, insert(4)},
	} {
		cl := p.Connect()
		pid := pool.BackendPID(t, cl)
		pool.SendRaw(t, cl, pool.Encode(t, append(msgs, &pgproto3.Terminate{})...))
		vanishAfterTerminate(t, cl)
		next := p.Connect()
		if got := pool.BackendPID(t, next); got != pid {
			t.Errorf("case %d: the backend was replaced", n)
		}
		want := map[int]string{0: "1", 1: "2", 2: "1", 3: "3", 4: "2"}[n]
		if got := pool.MustQuery(t, next, fmt.Sprintf("SELECT count(*) FROM kept WHERE i = %d", n))[0][0]; got != want {
			t.Errorf("case %d: %s rows are there, want %s", n, got, want)
		}
		next.Close()
	}
}

// vanishAfterTerminate closes without an RST, which could overtake the bytes that were
// sent.
func vanishAfterTerminate(t testing.TB, c *pgtest.Client) {
	t.Helper()
	if err := c.Conn().Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGoodbyeInTheMiddleOfCopyInFreesTheBackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE kept(i int)")
	p := pool.OnePlace(t, c, map[string]string{"blocking_timeout": "20s"})
	cl := p.Connect()
	pool.SendRaw(t, cl, pool.Encode(t, &pgproto3.Query{String: "COPY kept FROM STDIN"}))
	readSome(t, cl, 5)
	pool.SendRaw(t, cl, pool.Encode(t, &pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.Terminate{}))
	vanishAfterTerminate(t, cl)
	if got := pool.MustQuery(t, p.Connect(), "SELECT count(*) FROM kept")[0][0]; got != "0" {
		t.Errorf("%s rows of an unfinished COPY are there", got)
	}
}

// Several times over, twenty clients are killed at once in the middle of a result, and
// twenty new ones connect.
func TestManyKilledClientsLeaveNothingToTheNext(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"max_connections": "20"}})
	for round := range 4 {
		cfg := p.Config("postgres", "", "postgres")
		if round%2 == 1 {
			cfg = p.UnixConfig("postgres", "", "postgres")
		}
		var clients sync.WaitGroup
		for i := range 20 {
			clients.Go(func() {
				cl, err := p.Try(cfg)
				if err != nil {
					t.Error(err)
					return
				}
				defer pool.Vanish(t, cl)
				if err := cl.Send(t.Context(), &pgproto3.Query{String: big}); err != nil {
					t.Error(err)
					return
				}
				for range 1 + 50*i {
					if _, err := cl.Receive(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		for i := range 20 {
			clients.Go(func() { ownRowsOnly(t, p, cfg, i) })
		}
		clients.Wait()
	}
}

// ownRowsOnly connects and checks that every answer is the client's own.
func ownRowsOnly(t testing.TB, p *pool.Pool, cfg pgtest.ClientConfig, i int) {
	cl, err := p.Try(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	for k := range 20 {
		want := fmt.Sprintf("client %d row %d", i, k)
		rows, err := pool.Query(cl, "SELECT '"+want+"'")
		if err != nil || len(rows) != 1 || rows[0][0] != want {
			t.Errorf("%s: got %.100s %v", want, fmt.Sprint(rows), err)
			return
		}
	}
}

func TestClientsThatVanishDuringTheirLoginTakeNoPlace(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	hello := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres"})
	for cut := 1; cut <= len(hello); cut += 3 {
		conn := p.DialRaw()
		if _, err := conn.Write(hello[:cut]); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	for range 3 {
		conn := p.DialRaw()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		cl := p.Connect()
		if got := pool.MustQuery(t, cl, "SELECT 'mine'")[0][0]; got != "mine" {
			t.Errorf("got %q", got)
		}
		cl.Close()
	}
}

func TestClientsThatVanishWhileTheyWaitTakeNoPlace(t *testing.T) {
	t.Parallel()
	for name, users := range map[string]map[string]string{"known": {"postgres": "secret"}, "passed through": nil} {
		t.Run(name, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			p := pool.Start(t, pool.Setup{
				Servers: pool.Nodes(c), Users: users, Keys: map[string]string{"max_connections": "1", "workers": "1"},
			})
			holder := p.Connect()
			hello := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres"})
			for range 5 {
				conn := p.DialRaw()
				if _, err := conn.Write(hello); err != nil {
					t.Fatal(err)
				}
				if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			holder.Close()
			next := p.Connect()
			if got := pool.MustQuery(t, next, "SELECT 'mine'")[0][0]; got != "mine" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// The client is psql and ends with SIGKILL, so the kernel closes its connection.
func TestKilledPsqlLeavesNothingToTheNext(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cmd := p.PSQL(ctx, big)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pool.WaitNode(t, c.Primary(), "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ 'secret' AND pid <> pg_backend_pid()", "t")
		cancel()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		next := p.Connect()
		if rows := pool.MustQuery(t, next, "SELECT 'mine'"); strings.Contains(fmt.Sprint(rows), "secret") || rows[0][0] != "mine" {
			t.Errorf("the next client gets %.200s", fmt.Sprint(rows))
		}
		next.Close()
	}
}
