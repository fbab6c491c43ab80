package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// killedRounds is how often all clients are killed in a pipeline with the full test:
// PGAGROAL_TEST_ROUNDS, or 50 times.
func killedRounds(t testing.TB) int {
	t.Helper()
	text := os.Getenv("PGAGROAL_TEST_ROUNDS")
	if text == "" {
		return 50
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("PGAGROAL_TEST_ROUNDS is %q", text)
	}
	return n
}

// Again and again twenty clients are killed in the middle of their results, and twenty
// new ones connect right after: no client ever sees a row, a message or a setting of
// another. The session and performance pipelines share their code.
func TestNewClientsSeeNothingOfKilledOnes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pipeline, loop string
		part           int // divides the number of rounds
	}{
		{"session", "io_uring", 1},
		{"session", "epoll", 5},
		{"performance", "epoll", 1},
		{"transaction", "io_uring", 1},
		{"transaction", "epoll", 5},
	} {
		t.Run(test.pipeline+" "+test.loop, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{})
			p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
				"pipeline": test.pipeline, "ev_backend": test.loop, "max_connections": "20", "log_level": "info", "log_connections": "off",
			}})
			for round := range max(killedRounds(t)/test.part, 2) {
				killAll(t, p, round)
				var clients sync.WaitGroup
				for i := range 20 {
					clients.Go(func() {
						if err := seesItselfOnly(p, fmt.Sprintf("new %d.%d", round, i), i); err != nil {
							t.Errorf("round %d: %v", round, err)
						}
					})
				}
				clients.Wait()
				if t.Failed() {
					return
				}
			}
		})
	}
}

// victim is a psql that changes settings and is then in the middle of a result.
type victim struct {
	name string
	cmd  *exec.Cmd
	out  *bufio.Reader
}

// killAll starts 20 victims, waits until each has received a row, kills them and checks
// what each has received.
func killAll(t *testing.T, p *pool.Pool, round int) {
	t.Helper()
	victims := make([]*victim, 20)
	defer func() {
		for _, v := range victims {
			if v != nil {
				_ = v.cmd.Process.Kill()
				_ = v.cmd.Wait()
			}
		}
	}()
	for i := range victims {
		v, err := startVictim(t.Context(), p, fmt.Sprintf("victim %d.%d", round, i), i)
		if err != nil {
			t.Fatal(err)
		}
		victims[i] = v
	}
	for _, v := range victims {
		if line, err := v.out.ReadString('\n'); err != nil || !strings.HasPrefix(line, v.name+" row ") {
			t.Fatalf("%s: %q, %v", v.name, line, err)
		}
	}
	for _, v := range victims {
		if err := v.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range victims {
		if err := v.onlyOwnRows(); err != nil {
			t.Error(err)
		}
	}
}

// startVictim starts a victim. Half of the victims use the Unix socket, whose buffers
// are small; a quarter reads through a cursor, in a transaction.
func startVictim(ctx context.Context, p *pool.Pool, name string, i int) (*victim, error) {
	rows := fmt.Sprintf("SELECT '%s row ' || g || repeat('x', 200) FROM generate_series(1, %d) g", name, 10_000+i%5*50_000)
	args := []string{"-X", "-q", "-A", "-t", "-c", "SET work_mem TO '7MB'; SET DateStyle TO 'German'; LISTEN leak", "-c"}
	switch i % 4 {
	case 0:
		args = append(args, rows, "-v", "FETCH_COUNT=100")
	default:
		args = append(args, "COPY ("+rows+") TO STDOUT")
	}
	cmd := p.Tool(ctx, "psql", args...)
	if i%2 == 0 {
		cmd.Env = append(cmd.Env, "PGHOST="+p.Path("run"))
	}
	cmd.Env = append(cmd.Env, "PGAPPNAME="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &victim{name: name, cmd: cmd, out: bufio.NewReader(out)}, nil
}

// onlyOwnRows checks the rows that a killed victim has written to its pipe. The last
// line may be cut.
func (v *victim) onlyOwnRows() error {
	rest, err := io.ReadAll(v.out)
	if err != nil {
		return err
	}
	lines := strings.Split(string(rest), "\n")
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, v.name+" row ") {
			return fmt.Errorf("%s got %.100q", v.name, line)
		}
	}
	return nil
}

// seesItselfOnly connects and checks everything that it receives, message by message.
func seesItselfOnly(p *pool.Pool, name string, i int) error {
	cfg := p.Config("postgres", "", "postgres")
	if i%2 == 1 {
		cfg = p.UnixConfig("postgres", "", "postgres")
	}
	cl, err := p.Try(pool.WithParam(cfg, "application_name", name))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer cl.Close()
	if cl.Status != 'I' || cl.Params["DateStyle"] != "ISO, MDY" || cl.Params["application_name"] != name {
		return fmt.Errorf("%s is let in with %c %v", name, cl.Status, cl.Params)
	}
	settings := "SELECT '" + name + "', current_setting('work_mem'), current_setting('DateStyle'), current_setting('application_name'), " +
		"(SELECT count(*) FROM pg_listening_channels())"
	for _, ask := range [][2]string{
		{settings, "T [" + name + " 4MB ISO, MDY " + name + " 0] SELECT 1 I"},
		{"NOTIFY leak, '" + name + "'", "NOTIFY I"},
		{"SELECT '" + name + " row ' || g FROM generate_series(1, 3) g", "T [" + name + " row 1] [" + name + " row 2] [" + name + " row 3] SELECT 3 I"},
	} {
		got, err := toldAll(cl, ask[0])
		if err != nil || got != ask[1] {
			return fmt.Errorf("%s asks %s: got %.200q, %w", name, ask[0], got, err)
		}
	}
	return nil
}

// toldAll runs one query and returns every message of the answer.
func toldAll(cl *pgtest.Client, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	if err := cl.Send(ctx, &pgproto3.Query{String: sql}); err != nil {
		return "", err
	}
	var all []string
	for {
		msg, err := cl.Receive(ctx)
		if err != nil {
			return strings.Join(all, " "), err
		}
		switch m := msg.(type) {
		case *pgproto3.RowDescription:
			all = append(all, "T")
		case *pgproto3.DataRow:
			var row []string
			for _, v := range m.Values {
				row = append(row, string(v))
			}
			all = append(all, fmt.Sprint(row))
		case *pgproto3.CommandComplete:
			all = append(all, string(m.CommandTag))
		case *pgproto3.ReadyForQuery:
			return strings.Join(append(all, string(m.TxStatus)), " "), nil
		default:
			all = append(all, fmt.Sprintf("%#v", m))
		}
	}
}
