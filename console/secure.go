package console

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// recordHandshake is the first byte of every TLS connection.
const recordHandshake = 0x16

// secure is TLS on a port. A client that speaks HTTP without it is sent to https.
type secure struct {
	config *tls.Config
}

func newSecure(t ipc.ServerTLS) (*secure, error) {
	m := tlspolicy.Material{Pairs: []tlspolicy.Pair{{Chain: []byte(t.Certificate), Key: tlspolicy.Secret(t.Key.Reveal())}}, CA: []byte(t.CA)}
	if t.CA == "" {
		m.CA = nil
	}
	c, err := m.Listen(tlspolicy.Options{Protocols: []string{"http/1.1"}, ClientCert: true}, tlspolicy.Tickets{})
	if err != nil {
		return nil, fmt.Errorf("TLS of the metrics: %w", err)
	}
	return &secure{c}, nil
}

// over returns a listener whose connections have TLS. Each connection gets a goroutine until
// its first byte has come, so that a silent client keeps nobody waiting.
func (s *secure) over(l net.Listener, limit time.Duration) net.Listener {
	x := &sniffed{Listener: l, secure: s, limit: limit, ready: make(chan net.Conn), closed: make(chan struct{})}
	go x.accept()
	return x
}

// sniffed is a listener that looks at the first byte of each connection.
type sniffed struct {
	net.Listener
	secure *secure
	limit  time.Duration
	ready  chan net.Conn
	closed chan struct{}
	once   sync.Once
	failed error // set before closed is closed
}

func (x *sniffed) accept() {
	for {
		c, err := x.Listener.Accept()
		if err != nil {
			x.end(err)
			return
		}
		go x.look(c)
	}
}

func (x *sniffed) end(err error) {
	x.once.Do(func() {
		x.failed = err
		close(x.closed)
	})
}

// Accept returns the next connection that speaks TLS.
func (x *sniffed) Accept() (net.Conn, error) {
	select {
	case c := <-x.ready:
		return c, nil
	case <-x.closed:
		return nil, x.failed
	}
}

// Close closes the listener.
func (x *sniffed) Close() error {
	x.end(net.ErrClosed)
	return x.Listener.Close()
}

// look waits for the first byte of a connection.
func (x *sniffed) look(c net.Conn) {
	if err := c.SetReadDeadline(time.Now().Add(x.limit)); err != nil {
		c.Close()
		return
	}
	p := &peeked{Conn: c, r: bufio.NewReaderSize(c, maxHeader)}
	first, err := p.r.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	if first[0] != recordHandshake {
		redirect(p)
		return
	}
	select {
	case x.ready <- tls.Server(p, x.secure.config):
	case <-x.closed:
		c.Close()
	}
}

// peeked is a connection of which some bytes were read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

// Read returns the bytes that were read already first.
func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// redirect answers a request without TLS, and closes the connection.
func redirect(p *peeked) {
	defer p.Close()
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(p.r, maxHeader)))
	if err != nil {
		return
	}
	if errors.Join(p.SetWriteDeadline(time.Now().Add(writeLimit))) != nil {
		return
	}
	host := r.Host
	if host == "" {
		host = p.LocalAddr().String()
	}
	to := "https://" + host + r.URL.RequestURI()
	fmt.Fprintf(p, "HTTP/1.1 301 Moved Permanently\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", to)
}
