package failover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// Clients with real drivers write blocks of two rows while their primary dies.

// blockClients is how many clients there are of each driver.
const blockClients = 32

// blockReport is the outcome of each block of one client.
type blockReport struct {
	Client  int
	Acked   []int       // blocks whose COMMIT succeeded
	Failed  [][2]string // blocks that didn't, with the SQLSTATE
	Lost    string      // how the connection ended, when it did
	LastAck time.Time   `json:"-"`
	Pause   float64     // longest between two blocks, in seconds
}

// blocksBy runs clients until the end of stop and returns what they were told.
type blocksBy func(t *testing.T, p *pool.Pool, least *atomic.Int64, stop <-chan struct{}) []blockReport

func TestClientsOfTwoDriversOutliveTheirPrimaryWithOneErrorAtMost(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, SyncStandbys: "n2", Extra: map[string]string{"synchronous_commit": "remote_apply"}})
	pool.AskNode(t, c.Primary(), "CREATE TABLE blocks (client int, n int, half int)")
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"pipeline": "transaction", "max_connections": "24", "fence_timeout": "5s"}})
	s.Opened("n1")
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	var all []blockReport
	var mu sync.Mutex
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	drivers := []blocksBy{blocksOfPgx, blocksOfPsycopg2}
	least := make([]atomic.Int64, len(drivers))
	for i, by := range drivers {
		running.Go(func() {
			told := by(t, s.Pool, &least[i], stop)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, told...)
		})
	}
	everyClientWrites := func(more int64) {
		t.Helper()
		var from [2]int64
		for i := range least {
			from[i] = least[i].Load()
		}
		pgtest.WaitUntil(t, 2*pool.Generous, "every client to write", func() bool {
			return least[0].Load() >= from[0]+more && least[1].Load() >= from[1]+more
		}, s.Pool.Log)
	}
	everyClientWrites(3)
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	everyClientWrites(3)
	end()
	running.Wait()
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1], c.Nodes[2]))
	if len(all) != 2*blockClients {
		t.Fatalf("%d clients told their story, want %d", len(all), 2*blockClients)
	}
	checkClients(t, all)
	checkBlocks(t, pool.AskNode(t, c.Nodes[1], "SELECT client, n, count(*), count(DISTINCT half) FROM blocks GROUP BY 1, 2"), all)
	pause := slices.MaxFunc(all, func(a, b blockReport) int { return int(1000 * (a.Pause - b.Pause)) }).Pause
	t.Logf("longest pause of a client %.2f s; phases of the failover %v", pause, s.Told("failover")["durations"])
}

// checkClients checks that every client kept its connection and got at most one error,
// and that at least one client got an error, because otherwise the failover hit no
// block.
func checkClients(t *testing.T, all []blockReport) {
	t.Helper()
	codes := map[string]int{}
	for _, r := range all {
		if r.Lost != "" {
			t.Errorf("client %d lost its connection: %s", r.Client, r.Lost)
		}
		if len(r.Failed) > 1 {
			t.Errorf("client %d got %d errors: %v", r.Client, len(r.Failed), r.Failed)
		}
		for _, f := range r.Failed {
			codes[f[1]]++
			if f[1] != "08006" && f[1] != "08007" {
				t.Errorf("client %d got %s in block %s", r.Client, f[1], f[0])
			}
		}
	}
	if len(codes) == 0 {
		t.Error("no client was told of anything")
	}
	t.Logf("errors: %v", codes)
}

// checkBlocks compares the stored blocks, given as lines of client, block, rows and
// halves, with the answers that the clients got.
func checkBlocks(t *testing.T, there string, all []blockReport) {
	t.Helper()
	told := map[string]string{}
	for _, r := range all {
		for _, n := range r.Acked {
			told[fmt.Sprintf("%d|%d", r.Client, n)] = "acknowledged"
		}
		for _, f := range r.Failed {
			told[fmt.Sprintf("%d|%s", r.Client, f[0])] = f[1]
		}
	}
	found := map[string]bool{}
	for line := range strings.Lines(there) {
		f := strings.Split(strings.TrimSpace(line), "|")
		id := f[0] + "|" + f[1]
		found[id] = true
		if f[2] != "2" || f[3] != "2" {
			t.Errorf("block %s has %s rows, %s of them different, want both once", id, f[2], f[3])
		}
		if what := told[id]; what != "acknowledged" && what != "08007" {
			t.Errorf("block %s is there; its client was told %q", id, what)
		}
	}
	for id, what := range told {
		if what == "acknowledged" && !found[id] {
			t.Errorf("block %s was acknowledged and is lost", id)
		}
	}
	if len(found) < 6*2*blockClients {
		t.Errorf("only %d blocks are there", len(found))
	}
}

// blocksOfPgx are clients of pgx in its default mode, with prepared statements.
func blocksOfPgx(t *testing.T, p *pool.Pool, least *atomic.Int64, stop <-chan struct{}) []blockReport {
	ctx, cancel := context.WithTimeout(t.Context(), 6*pool.Generous)
	defer cancel()
	reports := make([]blockReport, blockClients)
	counts := make([]atomic.Int64, blockClients)
	var clients sync.WaitGroup
	for i := range reports {
		r := &reports[i]
		r.Client = i
		clients.Go(func() {
			conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", p.Port))
			if err != nil {
				r.Lost = err.Error()
				return
			}
			defer func() { _ = conn.Close(ctx) }()
			for n := 0; r.Lost == "" && !closed(stop); n++ {
				r.note(n, blockOfPgx(ctx, conn, i, n))
				if conn.IsClosed() {
					r.Lost = fmt.Sprintf("in block %d", n)
				}
				counts[i].Store(int64(len(r.Acked)))
			}
		})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for !closed(stop) {
			low := counts[0].Load()
			for i := range counts {
				low = min(low, counts[i].Load())
			}
			least.Store(low)
			select {
			case <-stop:
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	clients.Wait()
	<-watched
	return reports
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// note records the outcome of a block.
func (r *blockReport) note(n int, err error) {
	if err != nil {
		code := pool.SQLState(err)
		if code == "" {
			code = err.Error()
		}
		r.Failed = append(r.Failed, [2]string{fmt.Sprint(n), code})
		return
	}
	now := time.Now()
	if !r.LastAck.IsZero() {
		r.Pause = max(r.Pause, now.Sub(r.LastAck).Seconds())
	}
	r.LastAck = now
	r.Acked = append(r.Acked, n)
}

func blockOfPgx(ctx context.Context, conn *pgx.Conn, client, n int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	for half := range 2 {
		if half == 1 && client%2 == 1 {
			think(ctx)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO blocks VALUES ($1, $2, $3)", client, n, half); err != nil {
			if end := tx.Rollback(ctx); end != nil {
				return errors.Join(errors.New("the ROLLBACK failed"), end)
			}
			return err
		}
	}
	return tx.Commit(ctx)
}

// think is the pause in the middle of every other block, so that some blocks are open
// when the primary dies.
func think(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Millisecond):
	}
}

// blocksOfPsycopg2 are threads of one Python process. It says on each line how many
// blocks the slowest of them has written, and at the end of its input what each was
// told.
func blocksOfPsycopg2(t *testing.T, p *pool.Pool, least *atomic.Int64, stop <-chan struct{}) (reports []blockReport) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*pool.Generous)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", blocksScript, fmt.Sprint(blockClients), fmt.Sprint(blockClients))
	cmd.Env = p.Tool(ctx, "psql").Env
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Error(err)
		return nil
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Errorf("%v; .ci/setup test installs what is missing", err)
		return nil
	}
	go func() {
		<-stop
		_ = in.Close()
	}()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		var low int64
		if _, err := fmt.Sscan(line, &low); err == nil {
			least.Store(low)
		} else if err := json.Unmarshal([]byte(line), &reports); err != nil {
			t.Errorf("the clients of psycopg2 say %q", line)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the clients of psycopg2: %v", err)
	}
	return reports
}

const blocksScript = `
import json, sys, threading, time, psycopg2
first, count = int(sys.argv[1]), int(sys.argv[2])
stop = threading.Event()
reports = [dict(Client=first + i, Acked=[], Failed=[], Lost="", Pause=0.0) for i in range(count)]
def client(r):
    try:
        conn = psycopg2.connect("")
    except psycopg2.Error as e:
        r["Lost"] = "connect: %s" % e
        return
    n, last = 0, None
    while not stop.is_set():
        try:
            with conn.cursor() as k:
                for half in range(2):
                    if half and r["Client"] % 2:
                        time.sleep(0.03)
                    k.execute("INSERT INTO blocks VALUES (%s, %s, %s)", (r["Client"], n, half))
            conn.commit()
            r["Acked"].append(n)
            now = time.monotonic()
            if last is not None:
                r["Pause"] = max(r["Pause"], now - last)
            last = now
        except psycopg2.Error as e:
            r["Failed"].append((str(n), e.pgcode or str(e)))
            try:
                conn.rollback()
            except psycopg2.Error as e:
                r["Lost"] = "ROLLBACK in block %d: %s" % (n, e)
        if conn.closed:
            r["Lost"] = r["Lost"] or "in block %d" % n
        if r["Lost"]:
            return
        n += 1
    conn.close()
threads = [threading.Thread(target=client, args=(r,)) for r in reports]
for t in threads:
    t.start()
def tell():
    while not stop.is_set():
        print(min(len(r["Acked"]) for r in reports), flush=True)
        stop.wait(0.05)
teller = threading.Thread(target=tell)
teller.start()
sys.stdin.read()
stop.set()
for t in threads + [teller]:
    t.join()
print(json.dumps(reports), flush=True)
`
