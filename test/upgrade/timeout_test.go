package upgrade

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// leavers are clients that connect again when they are told 57P01 between two transactions. They
// aren't psycopg2's, whose libpq keeps only the last error, which is that of the closed connection.
type leavers struct {
	cfg  pgtest.ClientConfig
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu       sync.Mutex
	left     []span // connections that have ended so
	rows     int    // acknowledged
	serving  int    // clients that have written a row
	problems []error
}

func startLeavers(t testing.TB, cfg pgtest.ClientConfig) *leavers {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &leavers{cfg: cfg, stop: stop}
	for i := range 2 * ofEach {
		l.wg.Go(func() {
			rows := 0
			for ctx.Err() == nil {
				if err := l.serve(ctx, i, &rows); err != nil {
					l.mu.Lock()
					l.problems = append(l.problems, fmt.Errorf("client %d: %w", i, err))
					l.mu.Unlock()
					return
				}
			}
		})
	}
	t.Cleanup(l.end)
	pgtest.WaitUntil(t, 2*pool.Generous, "each client to be served", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.serving == 2*ofEach
	})
	return l
}

func (l *leavers) end() {
	l.stop()
	l.wg.Wait()
}

// serve is one connection of a client.
func (l *leavers) serve(ctx context.Context, i int, rows *int) error {
	began := time.Now()
	within, done := context.WithTimeout(context.Background(), 4*pool.Generous)
	defer done()
	c, err := pgtest.Connect(within, l.cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		script := []string{"INSERT INTO written VALUES ('single')"}
		if (i+*rows)%2 == 1 {
			script = []string{"BEGIN", "INSERT INTO written VALUES ('block')", "SELECT 1", "COMMIT"}
		}
		for n, sql := range script {
			_, err := c.Query(within, sql)
			switch {
			case err == nil:
			case n == 0 && pgtest.Code(err) == "57P01":
				l.mu.Lock()
				l.left = append(l.left, span{began, time.Now()})
				l.mu.Unlock()
				return nil
			default:
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		l.mu.Lock()
		l.rows++
		if *rows++; *rows == 1 {
			l.serving++
		}
		l.mu.Unlock()
	}
	return nil
}

// Clients with TLS stay with the workers of the version before until upgrade_timeout, and are told 57P01
// then, but not in a transaction: whatever was acknowledged is there, and nothing else.
func TestUpgradeTimeoutCutsNoTransaction(t *testing.T) {
	onlyAll(t)
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) { leaving(t, pipeline) })
	}
}

func leaving(t *testing.T, pipeline string) {
	const limit = 3 * time.Second
	c := pgtest.New(t, pgtest.Options{Extra: map[string]string{"max_connections": "200"}})
	pool.AskNode(t, c.Primary(), "CREATE TABLE written (by text)")
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
		"pipeline": pipeline, "max_connections": map[string]string{"session": "150", "transaction": "24"}[pipeline],
		"log_level": "info", "log_connections": "off", "log_disconnections": "off",
		"upgrade_timeout": limit.String(), "authentication_timeout": "60s",
	}})
	installed(t, p)
	certify(t, p, "require")
	p.Run()
	cfg := p.Config("postgres", "", "postgres")
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	l := startLeavers(t, cfg)
	var spans []span
	for n := 1; n <= inARow; n++ {
		install(t, p, build(t, versions[n%2]))
		s := span{begin: time.Now()}
		order(t, p)
		upgraded(t, p, n)
		s.end = time.Now()
		spans = append(spans, s)
	}
	pgtest.WaitUntil(t, 2*pool.Generous, "the old workers to end", func() bool { return len(p.Workers()) == 2 }, p.Log)
	l.end()
	for _, err := range l.problems {
		t.Error(err)
	}
	for _, conn := range l.left {
		if !timely(spans, limit, conn) {
			t.Errorf("a connection of %v ended %v after the first upgrade", conn.end.Sub(conn.begin), conn.end.Sub(spans[0].begin))
		}
	}
	if len(l.left) < 2*ofEach {
		t.Errorf("%d connections were ended, fewer than there were clients", len(l.left))
	}
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM written", fmt.Sprint(l.rows))
	t.Logf("%d connections were ended in %d upgrades; %d transactions", len(l.left), len(spans), l.rows)
}

// timely reports whether a connection can have been with a worker that had retired upgrade_timeout before.
func timely(spans []span, limit time.Duration, conn span) bool {
	for _, s := range spans {
		if conn.begin.Before(s.end) && !conn.end.Before(s.begin.Add(limit)) {
			return true
		}
	}
	return false
}
