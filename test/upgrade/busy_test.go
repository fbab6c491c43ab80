package upgrade

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// ofEach is how many clients of pgbench, and of psycopg2, are busy.
const ofEach = 32

// busy are clients of pgbench and psycopg2 that write all the time, half of them in transaction
// blocks, and keep their connections. Each writes the times of its transactions to a file, in the
// format of pgbench.
type busy struct {
	p       *pool.Pool
	dir     string
	pgbench *exec.Cmd
	python  *exec.Cmd
	stdin   io.Closer // its end ends psycopg2's clients
	ended   chan error
}

// transaction is one line of these files.
type transaction struct {
	client string
	took   time.Duration
	end    time.Time
}

// startBusy starts them. env is added to the environment of libpq.
func startBusy(t testing.TB, p *pool.Pool, env ...string) *busy {
	t.Helper()
	b := &busy{p: p, dir: p.Path("busy"), ended: make(chan error, 2)}
	pool.Must(t, os.Mkdir(b.dir, 0o755))
	const row = "INSERT INTO written VALUES ('pgbench');\n"
	single, block := filepath.Join(b.dir, "single.sql"), filepath.Join(b.dir, "block.sql")
	pool.Must(t, os.WriteFile(single, []byte(row), 0o644))
	pool.Must(t, os.WriteFile(block, []byte("BEGIN;\n"+row+"SELECT 1;\nCOMMIT;\n"), 0o644))
	// A thread for each client, because a thread waits while one of its clients prepares a statement.
	b.pgbench = p.Tool(t.Context(), "pgbench", "-n", "-M", "prepared", "-c", strconv.Itoa(ofEach), "-j", strconv.Itoa(ofEach),
		"-T", "7200", "-f", single, "-f", block, "-l", "--log-prefix", filepath.Join(b.dir, "pgbench"))
	b.python = p.Tool(t.Context(), "psql")
	b.python.Path, b.python.Args = "/usr/bin/python3", []string{"python3", "-c", busyProgram, strconv.Itoa(ofEach), b.dir}
	stdin, err := b.python.StdinPipe()
	pool.Must(t, err)
	b.stdin = stdin
	for _, cmd := range []*exec.Cmd{b.pgbench, b.python} {
		said, err := os.Create(filepath.Join(b.dir, filepath.Base(cmd.Path)+".said"))
		pool.Must(t, err)
		cmd.Stderr = said
		cmd.Env = append(cmd.Env, env...)
		err = cmd.Start()
		said.Close()
		pool.Must(t, err)
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	b.all(t, time.Now())
	return b
}

// busyProgram is the clients of psycopg2. At the first error it ends with it.
const busyProgram = `
import os, sys, threading, time, psycopg2
stop, rows = threading.Event(), [0] * int(sys.argv[1])
def write(i):
    try:
        log = open(f"{sys.argv[2]}/psycopg2.{i}", "w", buffering=1)
        conn = psycopg2.connect("")
        conn.autocommit = True
        with conn.cursor() as k:
            while not stop.is_set():
                began = time.time()
                block = rows[i] % 2 == 1
                if block:
                    k.execute("BEGIN")
                k.execute("INSERT INTO written VALUES ('psycopg2')")
                if block:
                    k.execute("SELECT 1")
                    k.execute("COMMIT")
                rows[i] += 1
                end = time.time()
                print(f"psycopg2-{i}", rows[i], int((end - began) * 1e6), 0, int(end), int(end % 1 * 1e6), file=log)
    except BaseException as e:
        print(f"psycopg2 client {i}:", repr(e), file=sys.stderr, flush=True)
        os._exit(1)
threads = [threading.Thread(target=write, args=(i,)) for i in range(len(rows))]
for t in threads: t.start()
sys.stdin.read()
stop.set()
for t in threads: t.join()
`

// said returns what the clients complain about.
func (b *busy) said(t testing.TB) string {
	t.Helper()
	var all []byte
	for _, cmd := range []*exec.Cmd{b.pgbench, b.python} {
		text, err := os.ReadFile(filepath.Join(b.dir, filepath.Base(cmd.Path)+".said"))
		pool.Must(t, err)
		all = append(all, text...)
	}
	return string(all)
}

// files returns the file of each client.
func (b *busy) files(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "p*[0-9]"))
	pool.Must(t, err)
	return files
}

// transactions returns the transactions that have ended so far; pgbench writes them in pieces.
func (b *busy) transactions(t testing.TB) (list []transaction) {
	t.Helper()
	for _, f := range b.files(t) {
		text, err := os.ReadFile(f)
		pool.Must(t, err)
		for line := range strings.Lines(string(text)) {
			if strings.HasSuffix(line, "\n") {
				list = append(list, parse(t, line))
			}
		}
	}
	return list
}

func parse(t testing.TB, line string) (x transaction) {
	t.Helper()
	f := strings.Fields(line) // client, number, microseconds, script, and the time in seconds and microseconds
	if len(f) != 6 {
		t.Fatalf("a client writes %q", line)
	}
	var n [3]int64
	for i, text := range []string{f[2], f[4], f[5]} {
		var err error
		n[i], err = strconv.ParseInt(text, 10, 64)
		pool.Must(t, err)
	}
	return transaction{f[0], time.Duration(n[0]) * time.Microsecond, time.Unix(n[1], n[2]*1000)}
}

// last returns the last transaction in the file of a client.
func last(t testing.TB, file string) (x transaction) {
	t.Helper()
	f, err := os.Open(file)
	pool.Must(t, err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	pool.Must(t, err)
	const few = 512 // bytes, a few lines
	text := make([]byte, min(size, few))
	_, err = f.ReadAt(text, size-int64(len(text)))
	pool.Must(t, err)
	if lines := strings.Split(string(text), "\n"); len(lines) > 2 { // what is behind the last end isn't a line yet
		x = parse(t, lines[len(lines)-2])
	}
	return x
}

// all waits until each client has ended a transaction that began after a time.
func (b *busy) all(t testing.TB, after time.Time) {
	t.Helper()
	seen := func() (n int) {
		for _, f := range b.files(t) {
			if x := last(t, f); x.end.Add(-x.took).After(after) {
				n++
			}
		}
		return n
	}
	pgtest.WaitUntil(t, 2*pool.Generous, "each client to be served", func() bool { return seen() == 2*ofEach },
		func() string { return fmt.Sprintf("%d are served\n%s", seen(), b.said(t)) }, b.p.Log)
}

// end ends the clients, checks that none has had an error, and that everything is there that was
// acknowledged. It returns all transactions.
func (b *busy) end(t testing.TB, n *pgtest.Node) []transaction {
	t.Helper()
	b.all(t, time.Now())
	b.stdin.Close()
	if err := b.python.Wait(); err != nil {
		t.Errorf("psycopg2: %v", err)
	}
	pool.Must(t, b.pgbench.Process.Signal(os.Interrupt)) // which it doesn't catch: it has no other end
	if err := b.pgbench.Wait(); b.pgbench.ProcessState.Exited() {
		t.Errorf("pgbench has ended before: %v", err)
	}
	if said := b.said(t); said != "" {
		t.Errorf("the clients say %s", said)
	}
	list := b.transactions(t)
	by := map[bool]int{}
	for _, x := range list {
		by[strings.HasPrefix(x.client, "psycopg2")]++
	}
	pool.WaitNode(t, n, "SELECT count(*) FROM written WHERE by = 'psycopg2'", strconv.Itoa(by[true]))
	pool.WaitNode(t, n, fmt.Sprintf("SELECT count(*) >= %d FROM written WHERE by = 'pgbench'", by[false]), "t") // its last lines are lost
	return list
}

// span is from the order of an upgrade until the old workers had ended.
type span struct{ begin, end time.Time }

// longest returns the longest transaction that was open in a span, and the longest other one.
func longest(list []transaction, spans []span) (inside, outside transaction) {
	for _, x := range list {
		to := &outside
		if slices.ContainsFunc(spans, func(s span) bool { return x.end.After(s.begin) && x.end.Add(-x.took).Before(s.end) }) {
			to = &inside
		}
		if x.took > to.took {
			*to = x
		}
	}
	return inside, outside
}
