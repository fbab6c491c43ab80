package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// The load is enough to have statements in progress at any moment, and far too small to
// load the machine.
const (
	writers = 8
	readers = 4
	pause   = 10 * time.Millisecond // between two statements of one client, and before it connects again
)

// row is a row that a writer tries to insert exactly once, whatever the outcome.
type row struct{ writer, n int }

// load is the clients and what they saw. The lock guards every field that changes.
type load struct {
	config pgtest.ClientConfig
	done   chan struct{} // closed by stop
	wg     sync.WaitGroup

	mu           sync.Mutex
	acked        []row
	ackTimes     []time.Time
	readTimes    []time.Time
	unknown      int            // rows whose commit was in progress when an error came
	errors       map[string]int // by SQLSTATE, or "connection lost", or "connection refused"
	disconnected map[int]int    // by client
	sessions     int
	onAck        func(time.Time) // called with the lock held
}

func newLoad(c pgtest.ClientConfig) *load {
	return &load{config: c, done: make(chan struct{}), errors: map[string]int{}, disconnected: map[int]int{}, onAck: func(time.Time) {}}
}

// start starts all clients. They work until stop, which lets each finish what it
// has begun, or until the end of ctx.
func (l *load) start(ctx context.Context) {
	for i := range writers + readers {
		l.wg.Go(func() { (&client{load: l, number: i + 1}).run(ctx) })
	}
}

func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.wg.Wait()
}

// acks returns how many rows were acknowledged so far.
func (l *load) acks() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// client is one connection after the other; run's goroutine owns it.
type client struct {
	load   *load
	number int
	n      int
	conn   *pgtest.Client
}

// run behaves like an application with the simplest possible retry loop.
func (c *client) run(ctx context.Context) {
	t := time.NewTicker(pause)
	defer t.Stop()
	defer func() {
		if c.conn != nil {
			_ = c.conn.Close()
		}
	}()
	for {
		if err := c.step(ctx); err != nil && ctx.Err() == nil {
			c.failed(ctx, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.load.done:
			return
		case <-t.C:
		}
	}
}

// step is one statement, or one transaction for every other writer.
func (c *client) step(ctx context.Context) error {
	if c.conn == nil {
		conn, err := pgtest.Connect(ctx, c.load.config)
		if err != nil {
			return err
		}
		c.conn = conn
		c.load.mu.Lock()
		c.load.sessions++
		c.load.mu.Unlock()
	}
	if c.number > writers {
		_, err := c.conn.Exec(ctx, "SELECT max(n) FROM orders WHERE writer = $1", "1")
		if err == nil {
			c.load.mu.Lock()
			c.load.readTimes = append(c.load.readTimes, time.Now())
			c.load.mu.Unlock()
		}
		return err
	}
	c.n++
	if c.number%2 == 0 {
		return c.write(ctx, c.insert)
	}
	return c.write(ctx, c.transact)
}

// write inserts a row and records whether it was acknowledged, or may have been
// committed.
func (c *client) write(ctx context.Context, f func(context.Context) (ending bool, err error)) error {
	ending, err := f(ctx)
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	switch {
	case err == nil:
		now := time.Now()
		c.load.acked = append(c.load.acked, row{c.number, c.n})
		c.load.ackTimes = append(c.load.ackTimes, now)
		c.load.onAck(now)
	case ending && ctx.Err() == nil:
		c.load.unknown++
	}
	return err
}

// insert commits by itself, so an error always leaves the outcome open.
func (c *client) insert(ctx context.Context) (bool, error) {
	_, err := c.conn.Exec(ctx, "INSERT INTO orders VALUES ($1, $2)", strconv.Itoa(c.number), strconv.Itoa(c.n))
	return true, err
}

func (c *client) transact(ctx context.Context) (bool, error) {
	if _, err := c.conn.Query(ctx, "BEGIN"); err != nil {
		return false, err
	}
	if _, err := c.insert(ctx); err != nil {
		return false, err
	}
	res, err := c.conn.Query(ctx, "COMMIT")
	if err == nil && !slices.Equal(res.Tags, []string{"COMMIT"}) {
		return false, fmt.Errorf("COMMIT was answered %v", res.Tags)
	}
	return true, err
}

// failed counts an error and leaves the client ready for its next step: outside of
// a transaction, or without a connection.
func (c *client) failed(ctx context.Context, err error) {
	var answer *pgtest.ServerError
	kind, lost := "connection lost", true
	if errors.As(err, &answer) {
		kind, lost = answer.Code, answer.Severity == "FATAL"
	} else if c.conn == nil {
		kind = "no connection"
	}
	c.load.mu.Lock()
	c.load.errors[kind]++
	if lost && c.conn != nil {
		c.load.disconnected[c.number]++
	}
	c.load.mu.Unlock()
	if c.conn == nil {
		return
	}
	if lost {
		_ = c.conn.Close() // it is broken already
		c.conn = nil
		return
	}
	if c.conn.Status != 'I' {
		if _, err := c.conn.Query(ctx, "ROLLBACK"); err != nil && ctx.Err() == nil {
			c.failed(ctx, err)
		}
	}
}
