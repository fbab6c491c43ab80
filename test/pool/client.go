package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// WaitSleeping starts a query that runs until it is cancelled, and returns when the
// server runs it.
func WaitSleeping(t testing.TB, n *pgtest.Node, c *pgtest.Client) {
	t.Helper()
	if err := c.Send(t.Context(), &pgproto3.Query{String: "SELECT pg_sleep(600)"}); err != nil {
		t.Fatal(err)
	}
	WaitNode(t, n, fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND state = 'active' AND wait_event = 'PgSleep'", c.PID), "1")
}

// OnePlace starts a pool with room for one backend only: the next client must get the
// same backend as the last one, or its replacement.
func OnePlace(t testing.TB, c *pgtest.Cluster, keys map[string]string) *Pool {
	t.Helper()
	all := map[string]string{"max_connections": "1", "workers": "1"}
	for k, v := range keys {
		all[k] = v
	}
	return Start(t, Setup{Servers: Nodes(c), Keys: all})
}

// BackendPID returns the process id of the backend that serves a client.
func BackendPID(t testing.TB, c *pgtest.Client) string {
	t.Helper()
	return MustQuery(t, c, "SELECT pg_backend_pid()")[0][0]
}

// ShowSetting returns one setting as the client's backend has it.
func ShowSetting(t testing.TB, c *pgtest.Client, name string) string {
	t.Helper()
	return MustQuery(t, c, "SHOW "+name)[0][0]
}

// AskNode queries a node as the superuser, without the pool.
func AskNode(t testing.TB, n *pgtest.Node, sql string) string {
	t.Helper()
	out, err := n.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// WaitNode waits until a node answers a query with want.
func WaitNode(t testing.TB, n *pgtest.Node, sql, want string) {
	t.Helper()
	var last string
	pgtest.WaitUntil(t, Generous, fmt.Sprintf("%q of %s", want, sql), func() bool {
		last = AskNode(t, n, sql)
		return last == want
	}, func() string { return last })
}

// SendRaw writes raw bytes on a client's connection.
func SendRaw(t testing.TB, c *pgtest.Client, b []byte) {
	t.Helper()
	if _, err := c.Conn().Write(b); err != nil {
		t.Fatal(err)
	}
}

// Vanish ends a client's connection without a Terminate, with RST over TCP, like a
// client that is killed with unread bytes.
func Vanish(t testing.TB, c *pgtest.Client) {
	t.Helper()
	if tc, ok := c.Conn().(*net.TCPConn); ok {
		if err := tc.SetLinger(0); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Conn().Close()
}

// UnixConfig returns how a client connects over the Unix socket.
func (p *Pool) UnixConfig(user, password, database string) pgtest.ClientConfig {
	return pgtest.ClientConfig{
		Network: "unix", Addr: filepath.Join(p.Dir, "run", ".s.PGSQL."+strconv.Itoa(p.Port)),
		User: user, Password: password, Database: database,
	}
}

// WithParam returns a configuration with one more start-up parameter.
func WithParam(cfg pgtest.ClientConfig, name, value string) pgtest.ClientConfig {
	params := map[string]string{name: value}
	for k, v := range cfg.Params {
		params[k] = v
	}
	cfg.Params = params
	return cfg
}

// WantRefused connects and returns the reason of the refusal.
func (p *Pool) WantRefused(cfg pgtest.ClientConfig) error {
	p.T.Helper()
	c, err := p.Try(cfg)
	if err == nil {
		c.Close()
		p.T.Fatal("the client was let in")
	}
	return err
}

// WantCode fails the test unless err carries a SQLSTATE and a text.
func WantCode(t testing.TB, err error, code, text string) {
	t.Helper()
	if pgtest.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %s %q", err, code, text)
	}
}

// Tool returns a PostgreSQL program that connects to the pool as postgres.
func (p *Pool) Tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, pgtest.Binary(name), args...)
	cmd.Env = []string{
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(p.Port), "PGUSER=postgres", "PGDATABASE=postgres",
		"HOME=" + p.Dir, "PATH=" + os.Getenv("PATH"), "PGCONNECT_TIMEOUT=60",
	}
	return cmd
}

// PSQL runs one command in psql.
func (p *Pool) PSQL(ctx context.Context, sql string) *exec.Cmd {
	return p.Tool(ctx, "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// Succeed runs a program and returns its output; a failure ends the test.
func Succeed(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// Within limits an operation of the test on a cluster.
func Within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Generous)
	t.Cleanup(cancel)
	return ctx
}

// Config returns how a client connects over TCP.
func (p *Pool) Config(user, password, database string) pgtest.ClientConfig {
	return pgtest.ClientConfig{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)), User: user, Password: password, Database: database}
}

// Connect connects as postgres and closes at the end of the test.
func (p *Pool) Connect() *pgtest.Client {
	p.T.Helper()
	return p.ConnectAs(p.Config("postgres", "", "postgres"))
}

// ConnectAs connects with a configuration and closes at the end of the test.
func (p *Pool) ConnectAs(cfg pgtest.ClientConfig) *pgtest.Client {
	p.T.Helper()
	c, err := p.Try(cfg)
	if err != nil {
		p.T.Fatalf("connect through the pool: %v\n%s", err, p.Log())
	}
	p.T.Cleanup(func() { c.Close() })
	return c
}

// Try connects; the caller closes the client.
func (p *Pool) Try(cfg pgtest.ClientConfig) (*pgtest.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Generous)
	defer cancel()
	return pgtest.Connect(ctx, cfg)
}

// Query runs one query and returns its rows as text.
func Query(c *pgtest.Client, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Generous)
	defer cancel()
	res, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return res.Rows, nil
}

// MustQuery runs one query and returns its rows as text.
func MustQuery(t testing.TB, c *pgtest.Client, sql string) [][]string {
	t.Helper()
	rows, err := Query(c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// CountPooled counts the backends of the pool as the server shows them. It leaves out
// the tests' own queries, the pool's probes and its questions for stored passwords, which
// have other names.
const CountPooled = `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
	AND application_name NOT IN ('pgtest', 'pgagroal probe', 'pgagroal auth_query')`

// SQLState returns the code of a pgx error, empty for other errors.
func SQLState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
