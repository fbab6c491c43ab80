package failover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A crowd is clients of two drivers that log in once: half of them have settings of their own and are idle, the
// others write rows all the time, every second one in a transaction block. They know nothing of failovers: after an
// error a client rolls back and goes on, and connects again only if its driver says that the connection is lost.
type crowd []drivers

// drivers are the clients of one driver.
type drivers interface {
	// look has each idle client ask for its settings, and returns all clients.
	look() []member
	// sleep has each idle client begin a statement that doesn't end, and cancel cancels it.
	sleep()
	cancel()
	// end ends the busy clients, and disconnects all.
	end()
}

// member is a client, as it is at the moment.
type member struct {
	Name    string
	Idle    bool
	Written int // transactions that were acknowledged
	Lost    int // connections
	// Told are the errors of its transactions, statements and logins.
	Told []string
	// Proof is what an idle client has got for its settings, Want what it has set.
	Proof, Want string
	Cancelled   bool
}

// pace is how long a busy client waits between two transactions: enough are under way at any moment, and the
// machine isn't full.
const pace = 20 * time.Millisecond

// gather starts n clients of each driver.
func gather(t testing.TB, p *pool.Pool, n int, own settings) crowd {
	t.Helper()
	return crowd{startPgx(t, p, n, own), startPsycopg2(t, p, n, own)}
}

// settings are what an idle client sets, and what proof returns then. Each has its number for {i}.
type settings struct {
	SQL  []string
	Want string
}

// proof is a row of settings, and whether the server is a standby.
const proof = "concat_ws(' ', current_setting('application_name'), current_setting('TimeZone'), current_setting('work_mem'), current_setting('app.tenant', true)," +
	" pg_is_in_recovery()::text)"

// settingsIn are settings that belong to the client in a pipeline.
func settingsIn(pipeline string) settings {
	tracked := []string{"SET application_name = 'idle {i}'", "SET TimeZone = 'Asia/Tokyo'", "SELECT count(*) FROM written"}
	if pipeline == "transaction" {
		return settings{tracked, "idle {i} Asia/Tokyo 4MB false"}
	}
	return settings{
		append(tracked, "BEGIN", "SET work_mem = '10{i}MB'", "COMMIT", "SET app.tenant = 'tenant {i}'"),
		"idle {i} Asia/Tokyo 10{i}MB tenant {i} false",
	}
}

func numbered(text string, i int) string { return strings.ReplaceAll(text, "{i}", strconv.Itoa(i)) }

func (c crowd) look() (all []member) {
	for _, d := range c {
		all = append(all, d.look()...)
	}
	return all
}

// each waits until each busy client has written a row since a look.
func (c crowd) each(t testing.TB, since []member, more func() string) []member {
	t.Helper()
	var now []member
	behind := func() (names []string) {
		now = c.look()
		for i, m := range now {
			if !m.Idle && m.Written <= since[i].Written+1 { // one of them may have been under way before
				names = append(names, fmt.Sprintf("%s: %q", m.Name, m.Told))
			}
		}
		return names
	}
	pgtest.WaitUntil(t, pool.Generous, "each busy client to be served", func() bool { return len(behind()) == 0 },
		func() string { return strings.Join(behind(), "\n") }, more)
	return now
}

// pgxClients are the clients of pgx.
type pgxClients struct {
	t    testing.TB
	url  string
	list []*pgxClient
	stop chan struct{}
	busy sync.WaitGroup
	idle sync.WaitGroup // statements that are to be cancelled
}

type pgxClient struct {
	conn *pgx.Conn
	// answer is what an idle client gives its prepared statement.
	answer string
	// mu guards what a busy client counts.
	mu sync.Mutex
	member
}

func startPgx(t testing.TB, p *pool.Pool, n int, own settings) *pgxClients {
	t.Helper()
	x := &pgxClients{
		t: t, stop: make(chan struct{}),
		url: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.Port),
	}
	for i := range n {
		c := &pgxClient{member: member{Name: fmt.Sprintf("pgx %d", i), Idle: i < n/2}}
		x.list = append(x.list, c)
		var err error
		c.conn, err = pgx.Connect(pool.Within(t), x.url)
		pool.Must(t, err)
		if c.Idle {
			c.settle(t, i, own)
		} else {
			x.busy.Go(func() { x.write(c, i) })
		}
	}
	return x
}

// settle makes the settings, and prepares the statement that asks for them.
func (c *pgxClient) settle(t testing.TB, i int, own settings) {
	t.Helper()
	for _, sql := range own.SQL {
		_, err := c.conn.Exec(pool.Within(t), numbered(sql, i))
		pool.Must(t, err)
	}
	_, err := c.conn.Prepare(pool.Within(t), "mine", "SELECT "+proof+" || ' ' || $1::text")
	pool.Must(t, err)
	c.Want = numbered(own.Want+" {i}", i)
	c.answer = strconv.Itoa(i)
}

func (c *pgxClient) ask(ctx context.Context) {
	c.Proof = ""
	c.note(c.conn.QueryRow(ctx, "mine", c.answer).Scan(&c.Proof))
}

// note counts an error.
func (c *pgxClient) note(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Told = append(c.Told, err.Error())
	if c.conn.IsClosed() {
		c.Lost++
	}
}

func (x *pgxClients) write(c *pgxClient, i int) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := i; ; n++ {
		select {
		case <-x.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
		if c.conn.IsClosed() {
			conn, err := pgx.Connect(ctx, x.url)
			if c.note(err); err == nil {
				c.conn = conn
			}
		} else if err := c.insert(ctx, n%2 == 0); err != nil {
			c.note(err)
		} else {
			c.mu.Lock()
			c.Written++
			c.mu.Unlock()
		}
		cancel()
	}
}

func (c *pgxClient) insert(ctx context.Context, block bool) error {
	const row = "INSERT INTO written VALUES ($1)"
	if !block {
		_, err := c.conn.Exec(ctx, row, c.Name)
		return err
	}
	return pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, row, c.Name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
}

func (x *pgxClients) look() (all []member) {
	for _, c := range x.list {
		if c.Idle {
			c.ask(pool.Within(x.t))
		}
		c.mu.Lock()
		all = append(all, c.member)
		c.mu.Unlock()
	}
	return all
}

func (x *pgxClients) sleep() {
	for _, c := range x.list {
		if c.Idle {
			x.idle.Go(func() {
				_, err := c.conn.Exec(x.t.Context(), "SELECT pg_sleep(600)")
				said, ok := errors.AsType[*pgconn.PgError](err)
				if c.Cancelled = ok && said.Code == "57014"; !c.Cancelled {
					c.note(fmt.Errorf("a statement to be cancelled: %w", err))
				}
			})
		}
	}
}

func (x *pgxClients) cancel() {
	for _, c := range x.list {
		if c.Idle {
			pool.Must(x.t, c.conn.PgConn().CancelRequest(pool.Within(x.t)))
		}
	}
	x.idle.Wait()
}

func (x *pgxClients) end() {
	close(x.stop)
	x.busy.Wait()
	for _, c := range x.list {
		c.conn.Close(context.Background())
	}
}

// psycopg2Clients are those of psycopg2, in a process that gets a line for each method.
type psycopg2Clients struct {
	t   testing.TB
	in  io.WriteCloser
	out *json.Decoder
	// ended waits for the process.
	ended func() error
}

func startPsycopg2(t testing.TB, p *pool.Pool, n int, own settings) *psycopg2Clients {
	t.Helper()
	text, err := json.Marshal(own)
	pool.Must(t, err)
	cmd := p.Tool(t.Context(), "psql")
	cmd.Path, cmd.Args = "/usr/bin/python3", []string{"python3", "-c", crowdProgram, strconv.Itoa(n), string(text), proof, pace.String()}
	in, err := cmd.StdinPipe()
	pool.Must(t, err)
	out, err := cmd.StdoutPipe()
	pool.Must(t, err)
	cmd.Stderr = os.Stderr
	pool.Must(t, cmd.Start())
	x := &psycopg2Clients{t: t, in: in, out: json.NewDecoder(bufio.NewReader(out)), ended: cmd.Wait}
	return x
}

// tell has the process do something, and returns all clients.
func (x *psycopg2Clients) tell(what string) (all []member) {
	x.t.Helper()
	if _, err := fmt.Fprintln(x.in, what); err != nil {
		x.t.Fatalf("psycopg2, %s: %v", what, err)
	}
	if err := x.out.Decode(&all); err != nil {
		x.t.Fatalf("psycopg2, %s: %v", what, err)
	}
	return all
}

func (x *psycopg2Clients) look() []member { return x.tell("look") }

func (x *psycopg2Clients) sleep() { x.tell("sleep") }

func (x *psycopg2Clients) cancel() { x.tell("cancel") }

func (x *psycopg2Clients) end() {
	x.in.Close()
	pool.Must(x.t, x.ended())
}

const crowdProgram = `
import json, sys, threading, psycopg2
from psycopg2.extensions import QueryCanceledError
count, own, proof, pace = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], float(sys.argv[4].removesuffix("ms")) / 1000
stop = threading.Event()
class Client:
    def __init__(self, i):
        self.conn, self.sleeper = None, None
        self.m = dict(Name=f"psycopg2 {i}", Idle=i < count // 2, Written=0, Lost=0, Told=[], Proof="", Want="", Cancelled=False)
        self.connect()
        if self.m["Idle"]:
            for sql in own["SQL"]:
                self.run(sql.replace("{i}", str(i)))
            self.m["Want"] = own["Want"].replace("{i}", str(i))
        else:
            self.thread = threading.Thread(target=self.write, args=(i,))
            self.thread.start()
    def connect(self):
        self.conn = psycopg2.connect("")
        self.conn.autocommit = True
    def run(self, *sql):
        self.sql = sql[0]
        with self.conn.cursor() as k:
            k.execute(*sql)
            return k.fetchall() if k.description else k.statusmessage
    def note(self, e):
        self.m["Told"].append(f"{self.sql}: {type(e).__name__} {getattr(e, 'pgcode', None)}: {e}".strip())
        if self.conn.closed:
            self.m["Lost"] += 1
    def ask(self):
        self.m["Proof"] = ""
        try:
            self.m["Proof"] = self.run("SELECT " + proof)[0][0]
        except psycopg2.Error as e:
            self.note(e)
    def write(self, n):
        while not stop.wait(pace):
            n += 1
            try:
                if self.conn.closed:
                    self.connect()
                self.insert(n % 2 == 0)
                self.m["Written"] += 1
            except psycopg2.Error as e:
                self.note(e)
                self.rollback()
    def insert(self, block):
        if block:
            self.run("BEGIN")
        self.run("INSERT INTO written VALUES (%s)", (self.m["Name"],))
        if block:
            self.run("SELECT 1")
            if self.run("COMMIT") != "COMMIT":
                raise psycopg2.Error("COMMIT rolled back")
    def rollback(self):
        try:
            if not self.conn.closed:
                self.run("ROLLBACK")
        except psycopg2.Error as e:
            self.note(e)
    def sleep(self):
        try:
            self.run("SELECT pg_sleep(600)")
        except QueryCanceledError:
            self.m["Cancelled"] = True
        except psycopg2.Error as e:
            self.note(e)
clients = [Client(i) for i in range(count)]
idle = [c for c in clients if c.m["Idle"]]
while line := sys.stdin.readline().strip():
    for c in idle:
        if line == "look":
            c.ask()
        elif line == "sleep":
            c.sleeper = threading.Thread(target=c.sleep)
            c.sleeper.start()
        elif line == "cancel":
            c.conn.cancel()
    if line == "cancel":
        for c in idle:
            c.sleeper.join()
    print(json.dumps([c.m for c in clients]), flush=True)
stop.set()
for c in clients:
    if not c.m["Idle"]:
        c.thread.join()
    c.conn.close()
`
