package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Clients of a scene: enough that statements are in progress at any moment, and far too
// few to load the machine.
const (
	writers = 6
	pause   = 20 * time.Millisecond // pause between two transactions of one client
	// The last client waits before each COMMIT, so that at each failover a transaction
	// is open that would be committed after the promotion.
	thought = time.Second
)

// Load is clients that write all the time, with the answers that they get. The lock
// guards their shared data.
type Load struct {
	config pgtest.ClientConfig
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu           sync.Mutex
	acked        []ack
	disconnected int
	errors       map[string]int // by SQLSTATE
}

// ack is a row whose commit was acknowledged to a client.
type ack struct {
	id string // writer and number
	at time.Time
}

// StartLoad starts the clients. Half of them write with single statements, half in
// transaction blocks.
func StartLoad(config pgtest.ClientConfig) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{config: config, stop: cancel, errors: map[string]int{}}
	for i := range writers {
		l.wg.Go(func() { l.client(ctx, i) })
	}
	return l
}

// End stops the clients. Each finishes what it is doing, within a time limit.
func (l *Load) End() {
	l.stop()
	l.wg.Wait()
}

// client writes one row at a time, on one connection as long as that lasts.
func (l *Load) client(ctx context.Context, id int) {
	var c *pgtest.Client
	t := time.NewTicker(pause)
	defer t.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if c == nil {
			if c, _ = pgtest.Connect(ctx, l.config); c == nil {
				<-t.C
				continue
			}
		}
		row := fmt.Sprintf("%d-%d", id, n)
		think := time.Duration(0)
		if id == writers-1 {
			think = thought
		}
		err := l.insert(ctx, c, row, id%2 == 1, think)
		if ctx.Err() != nil {
			break
		}
		if l.note(row, err) {
			_ = c.Close()
			c = nil
		} else if c.Status != 'I' {
			if _, err := c.Query(ctx, "ROLLBACK"); l.note("", err) && ctx.Err() == nil {
				_ = c.Close()
				c = nil
			}
		}
		<-t.C
	}
	if c != nil {
		_ = c.Close()
	}
}

// insert writes a row, with block in a transaction block that waits for think before
// its COMMIT. After an error the row may or may not be written.
func (l *Load) insert(ctx context.Context, c *pgtest.Client, row string, block bool, think time.Duration) error {
	sql := "INSERT INTO t(id) VALUES ('" + row + "')"
	if !block {
		_, err := c.Query(ctx, sql)
		return err
	}
	for _, q := range []string{"BEGIN", sql, "COMMIT"} {
		if q == "COMMIT" && think > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(think):
			}
		}
		res, err := c.Query(ctx, q)
		if err != nil {
			return err
		}
		if !slices.Equal(res.Tags, []string{q}) && q != sql {
			return fmt.Errorf("%s was answered %v", q, res.Tags)
		}
	}
	return nil
}

// note records what has happened to a row, and reports whether the connection is lost.
func (l *Load) note(row string, err error) (lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		if row != "" {
			l.acked = append(l.acked, ack{row, time.Now()})
		}
		return false
	}
	kind := "lost connection" // whatever the system calls it
	lost = true
	if said, ok := errors.AsType[*pgtest.ServerError](err); ok {
		kind, lost = said.Code, said.Severity == "FATAL"
	}
	l.errors[kind]++
	if lost {
		l.disconnected++
	}
	return lost
}

// Count returns how many rows were acknowledged so far.
func (l *Load) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// Seen is what the clients of a load have seen.
type Seen struct {
	Acked        map[string]bool
	Disconnected int
	Errors       string
	Pause        time.Duration // longest between two acknowledgements to anybody
}

// Seen returns what the clients of a load have seen until now.
func (l *Load) Seen() Seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Seen{Acked: map[string]bool{}, Disconnected: l.disconnected}
	for i, a := range l.acked {
		s.Acked[a.id] = true
		if i > 0 {
			s.Pause = max(s.Pause, a.at.Sub(l.acked[i-1].at))
		}
	}
	for _, code := range slices.Sorted(maps.Keys(l.errors)) {
		s.Errors += " " + strconv.Itoa(l.errors[code]) + "x " + code
	}
	return s
}
