package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// onePlace starts a pool with room for one backend only: the next client must
// get the same backend as the last one, or what replaces it.
func onePlace(t testing.TB, c *pgtest.Cluster, keys map[string]string) *Pool {
	t.Helper()
	all := map[string]string{"max_connections": "1", "workers": "1"}
	for k, v := range keys {
		all[k] = v
	}
	return Start(t, Setup{Servers: nodes(c), Keys: all})
}

// backendPID returns the process id of the backend that serves a client.
func backendPID(t testing.TB, c *pgtest.Client) string {
	t.Helper()
	return mustQuery(t, c, "SELECT pg_backend_pid()")[0][0]
}

// showSetting returns one setting as the client's backend has it.
func showSetting(t testing.TB, c *pgtest.Client, name string) string {
	t.Helper()
	return mustQuery(t, c, "SHOW "+name)[0][0]
}

// askNode asks a node as the superuser, past the pool.
func askNode(t testing.TB, n *pgtest.Node, sql string) string {
	t.Helper()
	out, err := n.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// waitNode waits until a node answers a question so.
func waitNode(t testing.TB, n *pgtest.Node, sql, want string) {
	t.Helper()
	var last string
	pgtest.WaitUntil(t, generous, fmt.Sprintf("%q of %s", want, sql), func() bool {
		last = askNode(t, n, sql)
		return last == want
	}, func() string { return last })
}

// sendRaw writes raw bytes on a client's connection.
func sendRaw(t testing.TB, c *pgtest.Client, b []byte) {
	t.Helper()
	if _, err := c.Conn().Write(b); err != nil {
		t.Fatal(err)
	}
}

// vanish ends a client's connection with RST where there is one, and without a
// Terminate: what a client does that is killed with unread bytes.
func vanish(t testing.TB, c *pgtest.Client) {
	t.Helper()
	if tc, ok := c.Conn().(*net.TCPConn); ok {
		if err := tc.SetLinger(0); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Conn().Close()
}

// UnixConfig is what a client needs to connect over the Unix socket.
func (p *Pool) UnixConfig(user, password, database string) pgtest.ClientConfig {
	return pgtest.ClientConfig{
		Network: "unix", Addr: filepath.Join(p.Dir, "run", ".s.PGSQL."+strconv.Itoa(p.Port)),
		User: user, Password: password, Database: database,
	}
}

// withParam returns a configuration with one more start-up parameter.
func withParam(cfg pgtest.ClientConfig, name, value string) pgtest.ClientConfig {
	params := map[string]string{name: value}
	for k, v := range cfg.Params {
		params[k] = v
	}
	cfg.Params = params
	return cfg
}

// wantRefused connects and returns the reason of the refusal.
func (p *Pool) wantRefused(cfg pgtest.ClientConfig) error {
	p.t.Helper()
	c, err := p.try(cfg)
	if err == nil {
		c.Close()
		p.t.Fatal("the client was let in")
	}
	return err
}

// wantCode fails the test unless err carries a SQLSTATE and a text.
func wantCode(t testing.TB, err error, code, text string) {
	t.Helper()
	if pgtest.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %s %q", err, code, text)
	}
}

// waitWaiting waits until n clients wait for a backend.
func (p *Pool) waitWaiting(n int) {
	p.t.Helper()
	pgtest.WaitUntil(p.t, generous, fmt.Sprintf("%d clients to wait", n), func() bool { return p.waiting() == n },
		func() string { return fmt.Sprint(p.waiting()) }, p.Log)
}

// peakMemory returns the high-water mark of a process's resident memory, bytes.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("process %d has no VmHWM", pid)
	return 0
}

// waiting returns how many clients whose password is known here wait for a
// backend; others wait before their login and aren't listed.
func (p *Pool) waiting() int {
	p.t.Helper()
	list, _ := p.JSON("status", "details")["Connections"].([]any)
	n := 0
	for _, e := range list {
		if c, _ := e.(map[string]any); c["Server"] == nil {
			n++
		}
	}
	return n
}

// tool is a program of PostgreSQL that connects to the pool as postgres.
func (p *Pool) tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, pgtest.Binary(name), args...)
	cmd.Env = []string{
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(p.Port), "PGUSER=postgres", "PGDATABASE=postgres",
		"HOME=" + p.Dir, "PATH=" + os.Getenv("PATH"), "PGCONNECT_TIMEOUT=20",
	}
	return cmd
}

// psql runs one command in psql.
func (p *Pool) psql(ctx context.Context, sql string) *exec.Cmd {
	return p.tool(ctx, "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// succeed runs a program and returns what it wrote; a failure ends the test.
func succeed(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}
