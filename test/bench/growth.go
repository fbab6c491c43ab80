package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// batchSize is how many queries one client sends at once: so many that following them,
// which is the pooler's work, costs more than moving their bytes, which clients and
// server do as well.
const batchSize = 200

// batchQuery is the only query that the mock server answers itself.
const batchQuery = "SELECT 'batch'"

var (
	oneQuery  = message('Q', batchQuery+"\x00")
	oneAnswer = bytes.Join([][]byte{
		message('T', "\x00\x01?column?\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"),
		message('D', "\x00\x01\x00\x00\x00\x05batch"), message('C', "SELECT 1\x00"), message('Z', "I"),
	}, nil)
	questions = bytes.Repeat(oneQuery, batchSize)
	answers   = bytes.Repeat(oneAnswer, batchSize)
)

func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// crew is a load whose clients and server cost as little as possible: both are
// connections of one event loop that count bytes. PostgreSQL answers everything except
// batches, such as logins and the pooler's probes.
type crew struct {
	loop     *reactor.Loop
	listener net.Listener
	upstream string
	ended    chan struct{}
	batches  atomic.Int64
	lost     atomic.Int64 // connections that ended
	closing  atomic.Bool
}

// newCrew starts the loop and the server. The caller closes the crew.
func newCrew(upstream string) (*crew, error) {
	loop, err := reactor.New("io_uring")
	if err != nil {
		loop, err = reactor.New("epoll")
	}
	if err != nil {
		return nil, fmt.Errorf("make the load's event loop: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the mock server: %w", err)
	}
	c := &crew{loop: loop, listener: l, upstream: upstream, ended: make(chan struct{})}
	go func() { // ends with the loop, which close sees to
		defer close(c.ended)
		loop.Run()
	}()
	go c.accept() // ends with the listener
	return c, nil
}

func (c *crew) port() int { return c.listener.Addr().(*net.TCPAddr).Port }

func (c *crew) close() error {
	c.closing.Store(true)
	err := c.listener.Close()
	c.loop.Stop()
	<-c.ended
	return err
}

func (c *crew) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			if !c.closing.Load() {
				c.lost.Add(1)
			}
			return
		}
		go c.introduce(conn) // ends with the connection or its first batch
	}
}

// introduce lets PostgreSQL answer until the first batch comes.
func (c *crew) introduce(conn net.Conn) {
	defer conn.Close()
	server, err := net.Dial("tcp", c.upstream)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() { // ends with the server's connection
		defer close(back)
		_, _ = io.Copy(conn, server)
		_ = conn.SetReadDeadline(time.Now()) // if the server leaves, the client is closed too
	}()
	b := make([]byte, len(questions))
	n := 0
	for {
		if n, err = conn.Read(b); err != nil || bytes.HasPrefix(b[:n], oneQuery) {
			break
		}
		if _, err = server.Write(b[:n]); err != nil {
			break
		}
	}
	_ = server.Close()
	<-back
	if err == nil && c.add(conn, &mockSession{crew: c}, b[:n]) != nil {
		c.lost.Add(1)
	}
}

// add adds a connection to the loop, with the bytes that were read from it already.
func (c *crew) add(conn net.Conn, h member, first []byte) error {
	fd, err := descriptor(conn)
	if err != nil {
		return err
	}
	c.loop.Post(func() {
		rc, err := c.loop.Add(fd, h)
		if err != nil {
			c.lost.Add(1)
			return
		}
		h.begin(rc, first)
		rc.Resume()
	})
	return nil
}

// member is a connection of the loop.
type member interface {
	reactor.Handler
	begin(c *reactor.Conn, first []byte)
}

// mockSession answers batches.
type mockSession struct {
	crew *crew
	conn *reactor.Conn
	part int // bytes so far of an incomplete query
}

func (s *mockSession) begin(c *reactor.Conn, first []byte) {
	s.conn = c
	s.Received(first)
}

func (s *mockSession) Received(b []byte) {
	s.part += len(b)
	n := s.part / len(oneQuery)
	s.part %= len(oneQuery)
	s.conn.Send(answers[:n*len(oneAnswer)]) // at most one batch is ever queued
}

func (s *mockSession) Flushed() {}

func (s *mockSession) Ended(error) {
	s.crew.end(s.conn)
}

// batchClient always has one batch in progress.
type batchClient struct {
	crew *crew
	conn *reactor.Conn
	got  int
}

func (b *batchClient) begin(c *reactor.Conn, _ []byte) {
	b.conn = c
	c.Send(questions)
}

func (b *batchClient) Received(p []byte) {
	if b.got += len(p); b.got < len(answers) {
		return
	}
	b.got = 0
	b.crew.batches.Add(1)
	b.conn.Send(questions)
}

func (b *batchClient) Flushed() {}

func (b *batchClient) Ended(error) { b.crew.end(b.conn) }

func (c *crew) end(conn *reactor.Conn) {
	if !c.closing.Load() {
		c.lost.Add(1)
	}
	conn.Close()
}

// measureGrowth returns how many queries a second go through workers that have a
// processor each, as far as there are processors, and what they cost.
func measureGrowth(ctx context.Context, r *rig, w workload, p *pooler) (_ map[string]float64, err error) {
	if err := p.pinWorkers(ctx, runtime.NumCPU()); err != nil {
		return nil, err
	}
	for range w.clients {
		c, err := login(ctx, p.addr(), w.user(), nil)
		if err == nil {
			err = errors.Join(r.crew.add(c.conn, &batchClient{crew: r.crew}, nil), c.close())
		}
		if err != nil {
			return nil, fmt.Errorf("log in: %w", err)
		}
	}
	if err := pause(ctx, max(r.warmup, time.Second)); err != nil {
		return nil, err
	}
	var n float64
	var passed, own time.Duration
	spent, err := p.during(func() error {
		batches, start, used := r.crew.batches.Load(), time.Now(), ownTime()
		err := pause(ctx, r.duration)
		n, passed, own = float64(r.crew.batches.Load()-batches)*batchSize, time.Since(start), ownTime()-used
		return err
	})
	if err != nil {
		return nil, err
	}
	if lost := r.crew.lost.Load(); lost > 0 || n == 0 {
		return nil, fmt.Errorf("%.0f queries, and %d connections were lost", n, lost)
	}
	return map[string]float64{tps: n / passed.Seconds(), cpu: spent.Seconds() * 1e6 / n, loadCPU: own.Seconds() * 1e6 / n}, nil
}

// ownTime is the processor time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it fails for a wrong address or number only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pinWorkers gives each worker one of n processors.
func (p *pooler) pinWorkers(ctx context.Context, n int) error {
	u, err := p.usage()
	if err != nil {
		return err
	}
	pinned := 0
	for _, pid := range u.pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			return fmt.Errorf("look for workers: %w", err)
		}
		if !strings.HasPrefix(string(line), "pgagroal: worker") {
			continue
		}
		out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", strconv.Itoa(pinned%n), strconv.Itoa(pid)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("pin a worker: %w: %s", err, strings.TrimSpace(string(out)))
		}
		pinned++
	}
	if want := max(1, p.target.workers); pinned != want {
		return fmt.Errorf("%d workers found instead of %d", pinned, want)
	}
	return nil
}
