package operator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// writers is how many clients of each driver are busy while PostgreSQL is restarted.
const writers = 32

// busy are clients that write all the time, until they are told to stop.
type busy struct {
	wg       sync.WaitGroup
	stop     context.CancelFunc
	stdin    io.Closer
	rows     [writers]int
	problems chan error
	said     bytes.Buffer // by the program in Python
}

// startBusy starts clients of pgx and of psycopg2. Half of the transactions are blocks.
func startBusy(t *testing.T, p *pool.Pool) *busy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &busy{stop: cancel, problems: make(chan error, writers)}
	for i := range writers {
		b.wg.Go(func() {
			if err := b.write(ctx, p, i); err != nil {
				b.problems <- fmt.Errorf("pgx client %d: %w", i, err)
			}
		})
	}
	cmd := exec.Command("/usr/bin/python3", "-c", busyProgram, strconv.Itoa(writers))
	cmd.Env = p.Tool(ctx, "psql").Env
	stdin, err := cmd.StdinPipe()
	pool.Must(t, err)
	b.stdin = stdin
	cmd.Stdout, cmd.Stderr = &b.said, &b.said
	pool.Must(t, cmd.Start())
	b.wg.Go(func() {
		if err := cmd.Wait(); err != nil {
			b.problems <- fmt.Errorf("psycopg2: %w", err)
		}
	})
	t.Cleanup(func() {
		stdin.Close()
		cancel()
		b.wg.Wait()
	})
	return b
}

// busyProgram ends at the end of its input, and prints how many rows its clients have written. At
// the first error it ends with it.
const busyProgram = `
import os, sys, threading, psycopg2
stop, rows = threading.Event(), [0] * int(sys.argv[1])
def write(i):
    try:
        conn = psycopg2.connect("")
        while not stop.is_set():
            conn.autocommit = rows[i] % 2 == 0
            with conn.cursor() as k:
                k.execute("INSERT INTO written VALUES ('psycopg2')")
                if not conn.autocommit:
                    k.execute("SELECT 1")
            conn.commit()
            rows[i] += 1
    except BaseException as e:
        print(f"psycopg2 client {i}:", repr(e), flush=True)
        os._exit(1)
threads = [threading.Thread(target=write, args=(i,)) for i in range(len(rows))]
for t in threads: t.start()
sys.stdin.read()
stop.set()
for t in threads: t.join()
print(sum(rows))
`

// write is one client of pgx. The context only ends the writing between two transactions.
func (b *busy) write(ctx context.Context, p *pool.Pool, i int) error {
	background := context.Background()
	conn, err := pgx.Connect(background, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", p.Port))
	if err != nil {
		return err
	}
	defer conn.Close(background)
	for ctx.Err() == nil {
		if b.rows[i]%2 == 0 {
			_, err = conn.Exec(background, "INSERT INTO written VALUES ($1)", "pgx")
		} else {
			err = pgx.BeginFunc(background, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(background, "INSERT INTO written VALUES ($1)", "pgx")
				return err
			})
		}
		if err != nil {
			return err
		}
		b.rows[i]++
	}
	return nil
}

// end stops the clients and returns how many rows they believe to have written.
func (b *busy) end(t *testing.T) (rows int) {
	t.Helper()
	b.stop()
	b.stdin.Close()
	b.wg.Wait()
	close(b.problems)
	for err := range b.problems {
		t.Error(err)
	}
	said := strings.TrimSpace(b.said.String())
	rows, err := strconv.Atoi(said)
	if err != nil {
		t.Errorf("psycopg2 says: %s", said)
	}
	for _, n := range b.rows {
		rows += n
	}
	return rows
}

func TestPostgreSQLIsRestartedBehindPausedClients(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	n1 := c.Nodes[0]
	pool.AskNode(t, n1, "CREATE TABLE written (by text)")
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{
		"pipeline": "transaction", "max_connections": "12", "failover_restart_grace": "0", "health_check": "on", "health_check_period": "1s",
	}})
	s.Opened("n1")
	b := startBusy(t, s.Pool)
	written := func(more int) {
		t.Helper()
		n, err := strconv.Atoi(pool.AskNode(t, n1, "SELECT count(*) FROM written"))
		pool.Must(t, err)
		pgtest.WaitUntil(t, pool.Generous, "clients to write", func() bool {
			return pool.AskNode(t, n1, fmt.Sprintf("SELECT count(*) >= %d FROM written", n+more)) == "t"
		}, s.Pool.Log)
	}
	written(10 * writers)
	pool.Says(t, s.Pool.JSON("pause"), "Next", "no connection is left: clients wait until pgagroal-cli resume")
	if n := pool.AskNode(t, n1, pool.CountPooled); n != "0" {
		t.Errorf("%s connections are left", n)
	}
	s.Alarmed("the clients of all databases are paused by command")
	if _, errs, code := s.Pool.CLI("ping", "--write"); code != 3 || !strings.Contains(errs, "are paused") {
		t.Errorf("ping --write: exit code %d, %s", code, errs)
	}
	pool.Must(t, n1.Stop(pool.Within(t), pgtest.Fast))
	s.Held("clients are paused, and n1 can't be used")
	waiting := s.LogIn()
	pool.Must(t, n1.Start(pool.Within(t)))
	pool.Says(t, s.Pool.JSON("resume"), "Next", "clients go on")
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n1" {
		t.Errorf("the client that came meanwhile is on %s", got)
	}
	written(10 * writers)
	if want, got := fmt.Sprint(b.end(t)), pool.AskNode(t, n1, "SELECT count(*) FROM written"); got != want {
		t.Errorf("%s rows are there, clients have written %s", got, want)
	}
	s.NothingRan()
	if got := s.Epoch(); got != 1 {
		t.Errorf("epoch is %d, want 1", got)
	}
	s.Opened("n1")
	pgtest.WaitUntil(t, pool.Generous, "the alarm to be over", func() bool { return !s.HasAlarm("are paused") }, s.Pool.Log)
}

func TestAPauseIsTakenBackWhenWorkGoesOnAndMayBeOfOneDatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n1 := c.Nodes[0]
	pool.AskNode(t, n1, "CREATE DATABASE shop")
	p := pool.TxPool(t, c, 5, map[string]string{"failover": "off"})
	shop, other := p.ConnectAs(p.Config("postgres", "", "shop")), p.Connect()
	pool.MustQuery(t, shop, "BEGIN")
	pool.MustQuery(t, shop, "SELECT 1")
	_, errs, code := p.CLI("pause", "shop", "-T", "1")
	if code != 1 || !strings.Contains(errs, "clients go on") || !strings.Contains(errs, "1 connections are in use: postgres@shop from 127.0.0.1") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	pool.MustQuery(t, shop, "COMMIT")
	pool.MustQuery(t, shop, "SELECT 1")
	p.JSON("pause", "shop")
	pool.MustQuery(t, other, "SELECT 1")
	pool.AskNode(t, n1, "ALTER DATABASE shop RENAME TO store")
	pool.AskNode(t, n1, "ALTER DATABASE store RENAME TO shop") // refused while anybody is connected
	pool.Must(t, shop.Send(t.Context(), &pgproto3.Query{String: "SELECT 7"}))
	p.WaitWaiting(1)
	for what, args := range map[string][]string{
		"no such server": {"pause", "server", "n9"}, "n1 is a server": {"pause", "n1"},
	} {
		if _, errs, code := p.CLI(args...); code != 1 || !strings.Contains(errs, what) {
			t.Errorf("%v: exit code %d, %s", args, code, errs)
		}
	}
	p.JSON("pause", "server", "n1")
	if _, errs, code := p.CLI("resume", "shop"); code != 0 {
		t.Errorf("resume of one of two pauses: %s", errs)
	}
	p.JSON("resume")
	res, err := shop.ReadResult(pool.Within(t))
	if got := pool.Cell(t, res, err); got != "7" {
		t.Errorf("the client that waited reads %s", got)
	}
	pool.Says(t, p.JSON("resume"), "Next", "nothing was paused")
}
