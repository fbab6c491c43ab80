package login

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// cutWire is a connection that loses everything after a number of bytes, while its owner believes that it is sent.
type cutWire struct {
	net.Conn
	left int
}

func (c *cutWire) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	if _, err := c.Conn.Write(b[:n]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// closedInTime reads until the pool closes the connection.
func closedInTime(t testing.TB, conn net.Conn, what string) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s isn't closed", what)
	}
	conn.Close()
}

// openFiles counts the descriptors of a process.
func openFiles(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	pool.Must(t, err)
	return len(list)
}

// Whatever a client does to a handshake, it is closed in time, leaves nothing, and delays nobody.
func TestHostileTLSClientsCostOnlyThemselves(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t) // it counts the descriptors of a worker
	c := asking(t, "scram-sha-256")
	p, roots := encrypted(t, c, "allow", known, map[string]string{"authentication_timeout": "6s", "workers": "1", "log_connections": "off"})
	cfg := p.Config("alice", "right", "postgres")
	cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	busy := p.ConnectAs(cfg)
	pool.MustQuery(t, busy, "SELECT 1")
	worker := p.Workers()[0]
	files, memory := openFiles(t, worker), pool.PeakMemory(t, worker)

	for name, hostile := range map[string]func(testing.TB, *pool.Pool){
		"each byte of a handshake": stalls, "records that are none": nonsense, "changes of keys": changesOfKeys,
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, busy, func() {
				hostile(t, p)
				cl := p.ConnectAs(cfg)
				pool.MustQuery(t, cl, "SELECT 1")
				cl.Close()
			})
			pgtest.WaitUntil(t, pool.Generous, "all descriptors but one of another backend are closed", func() bool { return openFiles(t, worker) <= files+1 })
		})
	}
	if grown := pool.PeakMemory(t, worker) - memory; grown > 150<<20 {
		t.Errorf("the worker has grown by %d MiB", grown>>20)
	}
}

// beside has a client send queries all the time until f returns.
func beside(t testing.TB, busy *pgtest.Client, f func()) {
	ctx, stop := context.WithTimeout(context.Background(), pool.Generous)
	served := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := busy.Query(context.Background(), "SELECT 1"); err != nil {
				served <- err
				return
			}
		}
		served <- nil
	}()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("the busy client: %v", err)
		}
	}()
	f()
}

// stalls lets a handshake stall after each of its bytes, all at the same time.
func stalls(t testing.TB, p *pool.Pool) {
	const most = 420 // more bytes than both flights of this client have
	var all sync.WaitGroup
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for at := 0; at < most; at += 1 + at/200 {
			conn := asked(t, p)
			all.Go(func() {
				client := tls.Client(&cutWire{conn, at}, &tls.Config{
					InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CurvePreferences: []tls.CurveID{tls.X25519},
				})
				_ = client.Handshake() // in most cases it waits for an answer
				closedInTime(t, conn, fmt.Sprintf("a handshake of %d bytes", at))
			})
		}
	}
	all.Wait()
}

// nonsense sends bytes that are no part of a handshake.
func nonsense(t testing.TB, p *pool.Pool) {
	for name, bytes := range map[string]string{
		"alert": "\x15\x03\x03\x00\x02\x02\x28", "warning": "\x15\x03\x03\x00\x02\x01\x5a", "start-up packet": string(whole(v3, "user\x00alice\x00\x00")),
		"application data": "\x17\x03\x03\x00\x05hello", "empty records": strings.Repeat("\x16\x03\x03\x00\x00", 1000),
		"record too long": "\x16\x03\x03\xff\xff" + strings.Repeat("x", 70_000), "SSL 2": "\x80\x2e\x01\x00\x02" + strings.Repeat("\x00", 41),
		"ClientHello too long": "\x16\x03\x03\x40\x00\x01\xff\xff\xff" + strings.Repeat("x", 16380),
	} {
		conn := asked(t, p)
		_, _ = conn.Write([]byte(bytes)) // may be closed meanwhile
		closedInTime(t, conn, name)
	}
	half := asked(t, p) // the end comes inside a record
	_, err := half.Write([]byte("\x16\x03\x01\x02\x00\x01\x00"))
	pool.Must(t, err)
	pool.Must(t, half.(*net.TCPConn).CloseWrite())
	closedInTime(t, half, "half a record")
	for name, after := range map[string]string{"garbage": "garbage that nobody has encrypted", "alert": "\x15\x03\x03\x00\x02\x02\x28"} {
		raw := asked(t, p)
		pool.Must(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).Handshake())
		_, err := raw.Write([]byte(after))
		pool.Must(t, err)
		closedInTime(t, raw, name+" after a handshake")
	}
}

// changesOfKeys lets OpenSSL ask for a renegotiation, and for new keys without end.
func changesOfKeys(t testing.TB, p *pool.Pool) {
	for version, x := range map[string]struct {
		key, done, words string // done is what openssl says after each
		times            int
	}{
		"-tls1_2": {"R\n", "RENEGOTIATING", "unexpected handshake message", 1}, "-tls1_3": {"K\n", "KEYUPDATE", "too many non-advancing records", 1000},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), pool.Generous)
		defer cancel()
		cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", p.Config("", "", "").Addr, "-starttls", "postgres", version)
		stdin, err := cmd.StdinPipe() // stays open, because its end would end openssl
		pool.Must(t, err)
		stdout, err := cmd.StdoutPipe()
		pool.Must(t, err)
		cmd.Stderr = cmd.Stdout
		pool.Must(t, cmd.Start())
		said := bufio.NewScanner(stdout)
		waitFor := func(text string) bool {
			for said.Scan() {
				if strings.Contains(said.Text(), text) {
					return true
				}
			}
			return false
		}
		if !waitFor("---") {
			t.Fatalf("openssl %s doesn't connect", version)
		}
		for range x.times {
			if _, err := io.WriteString(stdin, x.key); err != nil || !waitFor(x.done) {
				break
			}
		}
		for said.Scan() {
		}
		_ = cmd.Wait() // fails: the connection was closed
		if ctx.Err() != nil {
			t.Errorf("openssl %s isn't closed", version)
		}
		p.WaitLog(x.words)
	}
}

// A client that doesn't read what it has asked for costs little, and disturbs nobody.
func TestTLSClientThatNeverReadsCostsLittle(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for _, loop := range []string{"epoll", "io_uring"} {
		t.Run(loop, func(t *testing.T) {
			p, roots := encrypted(t, c, "allow", known, map[string]string{"workers": "1", "ev_backend": loop})
			cfg := p.Config("alice", "right", "postgres")
			cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "localhost"}
			other, deaf := p.ConnectAs(cfg), p.ConnectAs(cfg)
			worker := p.Workers()[0]
			pool.MustQuery(t, other, "SELECT repeat('x', 1000000)")
			before := pool.PeakMemory(t, worker)
			query := "SELECT repeat('x', 1000) FROM generate_series(1, 500000)"
			pool.SendRaw(t, deaf, append([]byte{'Q', 0, 0, 0, byte(5 + len(query))}, query+"\x00"...))
			pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND usename = 'alice'", "1")
			for range 100 {
				pool.MustQuery(t, other, "SELECT repeat('y', 10000)")
			}
			if grown := pool.PeakMemory(t, worker) - before; grown > 50<<20 {
				t.Errorf("the worker has grown by %d MiB", grown>>20)
			}
			pool.Must(t, deaf.Conn().SetReadDeadline(time.Now().Add(pool.Generous)))
			if n, err := io.CopyN(io.Discard, deaf.Conn(), 500_000_000); err != nil {
				t.Errorf("after all it reads %d bytes, and then %v", n, err)
			}
		})
	}
}
