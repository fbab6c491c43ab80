package tlsdial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Server has the TLS settings for one server. It never changes, so goroutines can share it.
type Server struct {
	prefer bool // use clear text if the server has no TLS
	direct bool // TLS begins without a request
	config *tls.Config
	// binding is disabled, prefer or require.
	binding string
}

// New returns the Server for the settings in the supervisor's message.
func New(t *ipc.ServerTLS) (*Server, error) {
	mode, err := tlspolicy.ParseMode(t.Mode)
	if err != nil {
		return nil, err
	}
	m := tlspolicy.Material{CA: []byte(t.CA), CRL: []byte(t.CRL)}
	if t.CA == "" {
		m.CA = nil
	}
	if t.CRL == "" {
		m.CRL = nil
	}
	if t.Certificate != "" {
		m.Pairs = []tlspolicy.Pair{{Chain: []byte(t.Certificate), Key: tlspolicy.Secret(t.Key.Reveal())}}
	}
	config, err := m.Dial(mode, t.Host, Options(t.Options))
	if err != nil {
		return nil, err
	}
	return &Server{prefer: mode == tlspolicy.Prefer, direct: t.Direct, config: config, binding: t.Binding}, nil
}

// Options converts the options in the supervisor's messages.
func Options(o ipc.TLSOptions) tlspolicy.Options {
	opts := tlspolicy.Options{MinVersion: o.MinVersion, Ciphers: o.Ciphers}
	for _, c := range o.Curves {
		opts.Curves = append(opts.Curves, tls.CurveID(c))
	}
	return opts
}

// With returns a Server that always uses TLS, with this Config.
func With(config *tls.Config) *Server { return &Server{config: config} }

// Login returns the options of a login over the connection w, which is nil for clear text. s
// is nil for a server without TLS settings.
func (s *Server) Login(w *tlsmem.Wired) auth.LoginOptions {
	var o auth.LoginOptions
	if s == nil {
		return o
	}
	o.RequireBinding = s.binding == "require"
	if w != nil && s.binding != "disabled" {
		o.ChannelBinding = w.Facts().EndPoint
	}
	return o
}

// ErrNoTLS means that the server has no TLS, and that clear text isn't allowed.
var ErrNoTLS = errors.New("server does not support SSL, but SSL was required")

// RefusedError says that the handshake failed, or that the server's answer to the request was
// invalid. The server answers, so the error doesn't mean that it is dead.
type RefusedError struct {
	Err error
	// Handshake says that the server had agreed to TLS, as only PostgreSQL does.
	Handshake bool
}

func (e *RefusedError) Error() string {
	if e.Handshake {
		return "TLS handshake: " + e.Err.Error()
	}
	return e.Err.Error()
}
func (e *RefusedError) Unwrap() error { return e.Err }

// Start begins TLS on conn, which must have a deadline. It returns nil if the server has no TLS
// and the mode accepts that; then conn is used in clear text.
//
// Errors are ErrNoTLS, *RefusedError, and those of conn.
func (s *Server) Start(conn net.Conn) (*tlsmem.Wired, error) {
	if !s.direct {
		if agreed, err := s.request(conn); err != nil || !agreed {
			return nil, err
		}
	}
	w, err := tlsmem.Dial(conn, s.config)
	if err != nil {
		if ofConn(err) {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return nil, &RefusedError{err, true}
	}
	if s.direct {
		if err := tlspolicy.CheckDirect(w.Facts().Protocol); err != nil {
			return nil, &RefusedError{err, true}
		}
	}
	return w, nil
}

// request asks for TLS. It reads only the one byte of the answer. If an attacker has put
// further bytes there in clear text, the handshake fails on them.
func (s *Server) request(conn net.Conn) (agreed bool, err error) {
	if _, err := conn.Write(pgwire.AppendSSLRequest(nil)); err != nil {
		return false, fmt.Errorf("ask for TLS: %w", err)
	}
	var reply [1]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return false, fmt.Errorf("ask for TLS: %w", err)
	}
	switch {
	case reply[0] == 'S':
		return true, nil
	case reply[0] != 'N':
		return false, &RefusedError{fmt.Errorf("received invalid response to SSL negotiation: %q", reply[0]), false}
	case s.prefer:
		return false, nil
	}
	return false, ErrNoTLS
}

// ofConn reports whether an error is one of the connection rather than of TLS.
func ofConn(err error) bool {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return true
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, tlsmem.ErrNoCloseNotify) || errors.Is(err, tlsmem.ErrTruncated)
}
