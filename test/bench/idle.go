package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// settleCPU is the pause between the last query of idle clients and the measurement of
// CPU time, in which the pooler may tidy up.
const settleCPU = 2 * time.Second

// clientLimit bounds a login or a query of one client.
const clientLimit = 30 * time.Second

// errAsked says that the server has asked for a password.
var errAsked = errors.New("a password is asked for")

// idler is a client that costs this process almost nothing, so that ten thousand of
// them fit on the machine.
type idler struct{ conn net.Conn }

// login connects without a password, and encrypted if there is a config.
func login(ctx context.Context, addr, user string, config *tls.Config) (*idler, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &idler{conn: conn}
	if config != nil {
		c.conn, err = encrypt(conn, config)
	}
	if err == nil {
		err = c.ask(ctx, startup(user))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// dial connects. The client's time limit begins.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: clientLimit}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(limitOf(ctx)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// limitOf returns when a login or a query that begins now must have ended.
func limitOf(ctx context.Context) time.Time {
	deadline := time.Now().Add(clientLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	return deadline
}

func startup(user string) []byte {
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	body = append(body, "user\x00"+user+"\x00database\x00"+database+"\x00\x00"...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

// query runs a query and throws its result away.
func (c *idler) query(ctx context.Context, sql string) error {
	return c.ask(ctx, message('Q', sql+"\x00"))
}

// ask sends a request and reads up to ReadyForQuery.
func (c *idler) ask(ctx context.Context, request []byte) error {
	if err := c.conn.SetDeadline(limitOf(ctx)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	return c.awaitReady()
}

// awaitReady reads up to ReadyForQuery.
func (c *idler) awaitReady() error {
	for {
		var head [5]byte
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return err
		}
		body := make([]byte, max(4, binary.BigEndian.Uint32(head[1:]))-4)
		if _, err := io.ReadFull(c.conn, body); err != nil {
			return err
		}
		switch {
		case head[0] == 'Z':
			return nil
		case head[0] == 'E':
			return fmt.Errorf("the answer is an error: %q", body)
		case head[0] == 'R' && len(body) >= 4 && binary.BigEndian.Uint32(body) != 0:
			return errAsked
		}
	}
}

func (c *idler) close() error { return c.conn.Close() }

// crowd is many idle clients.
type crowd []*idler

// bigQuery is a query of 16 KiB, with an answer of 16 KiB.
var bigQuery = "SELECT repeat('x', 16384) /* " + strings.Repeat("x", 16384) + " */"

// gather connects n clients, each of which runs one query.
func gather(ctx context.Context, addr string, n int, w workload) (crowd, error) {
	query, config := "SELECT 1", (*tls.Config)(nil)
	if w.tls != noLeg {
		query, config = bigQuery, clientTLS(tls.VersionTLS13, false)
	}
	const hands = 32 // that many log in at once
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := make(crowd, n)
	var wg sync.WaitGroup
	for hand := range hands {
		wg.Go(func() {
			for i := hand; i < n && ctx.Err() == nil; i += hands {
				var err error
				if all[i], err = login(ctx, addr, account, config); err == nil {
					err = all[i].query(ctx, query)
				}
				if err != nil {
					cancel(fmt.Errorf("idle client %d: %w", i+1, err))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, all.close())
	}
	return all, nil
}

func (all crowd) close() error {
	var errs []error
	for _, c := range all {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// pause waits for a fixed time, because time is what is measured.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// measureIdleCPU returns the CPU time that idle clients cost.
func measureIdleCPU(ctx context.Context, r *rig, w workload, p *pooler) (_ map[string]float64, err error) {
	all, err := gather(ctx, p.addr(), w.clients, w)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	if err := pause(ctx, settleCPU); err != nil {
		return nil, err
	}
	var start time.Time
	spent, err := p.during(func() error {
		start = time.Now()
		return pause(ctx, r.window)
	})
	if err != nil {
		return nil, err
	}
	return map[string]float64{idleCPU: spent.Seconds() * 1e3 / time.Since(start).Seconds()}, nil
}

// measureMemory returns how much memory a pooler uses without clients, and how much
// each of very many idle clients adds.
func measureMemory(ctx context.Context, r *rig, w workload, p *pooler) (_ map[string]float64, err error) {
	if err := pause(ctx, settleCPU); err != nil {
		return nil, err
	}
	fixed, err := p.memory()
	if err != nil {
		return nil, err
	}
	n := r.idleClients(w)
	all, err := gather(ctx, p.addr(), n, w)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.close()) }()
	if err := pause(ctx, r.settle); err != nil {
		return nil, err
	}
	full, err := p.memory()
	if err != nil {
		return nil, err
	}
	return map[string]float64{memoryFixed: fixed / (1 << 20), memoryEach: (full - fixed) / 1024 / float64(n)}, nil
}

// idleClients returns how many of a case's clients, or of -idle, fit under the limit of
// open files, in this process and in a pooler that also has connections to the server and
// files.
func (r *rig) idleClients(w workload) int {
	n := r.clients
	if w.clients > 0 {
		n = w.clients
	}
	return max(1, min(n, int(min(r.files, 1<<20))-1000))
}

func (p *pooler) memory() (float64, error) {
	u, err := p.usage()
	if err != nil {
		return 0, err
	}
	return pss(u.pids)
}
