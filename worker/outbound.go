package worker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

var (
	// errFenced says that a set-up was aborted because its server was fenced.
	errFenced = errors.New("the server was fenced")

	errNoAddress = errors.New("the server has no address: its name doesn't resolve")
)

// outbound is a connection to a server that a goroutine uses, to set up a backend or to send
// a cancel request. With it a fence can stop the goroutine.
type outbound struct {
	epoch uint64
	// stop ends the goroutine's context, and with it a dial in progress.
	stop context.CancelFunc
	// mu guards conn and fenced, so that once fence has returned no byte is sent to the
	// server any more.
	mu     sync.Mutex
	conn   net.Conn
	fenced bool
	// at is the address that the connection was made to. It belongs to the goroutine
	// until the goroutine has posted its result to the loop.
	at string
	// pool is that of the backend that is set up, nil for any other connection. flushed says that
	// a flush came meanwhile. Both belong to the loop.
	pool    *pool.Pool
	flushed bool
}

// fence aborts the connection, whatever the goroutine is doing.
func (o *outbound) fence() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fenced = true
	o.stop()
	if o.conn != nil {
		abortConn(o.conn)
	}
}

// dial connects to a server, unless the outbound is fenced. The connection has the deadline
// of ctx.
func (o *outbound) dial(ctx context.Context, addr ipc.ServerInfo) (net.Conn, error) {
	if len(addr.Addresses) == 0 {
		return nil, errNoAddress
	}
	conn, at, err := dialAny(ctx, addr.Network, addr.Addresses)
	o.at = at
	if err != nil {
		if o.isFenced() {
			return nil, errFenced
		}
		return nil, err
	}
	// From now on a close drops the bytes in the kernel's queue, even a close by the kernel
	// after this process was killed. Otherwise a server that doesn't answer could get them
	// later, when another one is the primary. Code whose last bytes must arrive waits for
	// the server to close first.
	if tc, ok := conn.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fenced {
		abortConn(conn)
		return nil, errFenced
	}
	o.conn = conn
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// dialAny tries the addresses in order, as libpq does. Each address gets an equal share of
// the remaining time, so that one that never answers leaves time for the next.
func dialAny(ctx context.Context, network string, addresses []string) (conn net.Conn, at string, err error) {
	var failed []error
	for i, a := range addresses {
		conn, err := dialWithin(ctx, network, a, len(addresses)-i)
		if err == nil {
			return conn, a, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", errors.Join(failed...)
}

// dialWithin dials an address. It may take the remaining time of ctx, divided by shares.
func dialWithin(ctx context.Context, network, address string, shares int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		share, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
		ctx = share
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (o *outbound) isFenced() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fenced
}

// abortConn closes a connection and drops the bytes in its queue.
func abortConn(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	c.Close()
}
