package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
)

// Limits for what a server may send: far more than a correct server does.
const (
	maxMessage  = 64 << 10 // bytes of one message
	maxMessages = 1000     // before ReadyForQuery
	maxRows     = 64       // kept of one answer
)

// session is one connection of a probe, for one goroutine. It ends with close.
type session struct {
	conn      net.Conn
	in        *bufio.Reader
	release   func() // ends the goroutine that watches the context
	answered  bool   // the server has sent at least one byte
	freshTLS  bool   // nothing was received over TLS so far, so the server may still refuse the handshake
	loggingIn bool   // until the first ReadyForQuery
	left      time.Duration
	opts      auth.LoginOptions // as TLS allows
	version   string            // server_version, as the server reports it at login
}

// open connects, and starts TLS if the target wants it. After an error there is nothing to close; the session is nil
// if there was no connection.
func (p *prober) open() (*session, error) {
	dialer := net.Dialer{KeepAlive: -1} // a probe is too short for it
	conn, err := dialer.DialContext(p.ctx, p.target.Network, p.target.Address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &session{conn: conn, loggingIn: true, left: remaining(p.ctx)}
	s.in = bufio.NewReader(conn)
	s.release = watch(p.ctx, conn)
	if p.target.TLS != nil && p.target.Network != "unix" {
		if err := s.encrypt(p.target.TLS); err != nil {
			s.close()
			return s, err
		}
	}
	s.opts.Allowed = auth.NewMethods(p.target.Methods)
	return s, nil
}

// watch makes every read and write on conn fail once ctx ends. The returned function ends the watch, and waits for it
// if ctx has just ended.
func watch(ctx context.Context, conn net.Conn) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// close sends Terminate and closes, without waiting for an answer. A server that waits for a password would log a
// Terminate as an error; the mere end of the connection it doesn't log.
func (s *session) close() {
	s.release()
	if !s.loggingIn {
		_ = s.conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = s.conn.Write(pgwire.AppendTerminate(nil))
	}
	_ = s.conn.Close()
}

// Read and Write let package auth talk over the session.
func (s *session) Read(b []byte) (int, error) {
	n, err := s.in.Read(b)
	if n > 0 {
		s.answered, s.freshTLS = true, false
	}
	return n, err
}

func (s *session) Write(b []byte) (int, error) { return s.conn.Write(b) }

// put sends b and ignores the error. A server that refuses the login sends an error and
// closes without reading, so the next read gives the better reason.
func (s *session) put(b []byte) { _, _ = s.conn.Write(b) }

// encrypt begins TLS, or does nothing if the server has none and that is accepted.
func (s *session) encrypt(t *tlsdial.Server) error {
	wired, err := t.Start(s.conn)
	refused, _ := errors.AsType[*tlsdial.RefusedError](err)
	s.answered = err == nil || refused != nil || errors.Is(err, tlsdial.ErrNoTLS)
	if err != nil {
		return err
	}
	s.opts = t.Login(wired)
	if wired != nil {
		s.freshTLS = true // with TLS 1.3 the server refuses our certificate only after the handshake
		s.conn, s.in = wired, bufio.NewReader(wired)
	}
	return nil
}

// startUp sends the start-up packet; more are further parameters, as name, value, name, value.
//
// statement_timeout makes the server end a query before the probe gives up, so that no query
// outlives its probe.
func (s *session) startUp(l Login, more ...string) error {
	limit := strconv.FormatInt(max(1, (s.left*3/4).Milliseconds()), 10)
	params := []pgwire.Param{
		{Name: "user", Value: l.User},
		{Name: "database", Value: l.Database},
		{Name: "application_name", Value: applicationName},
		{Name: "statement_timeout", Value: limit},
		{Name: "default_transaction_read_only", Value: "on"},
		{Name: "search_path", Value: "pg_catalog"},
		{Name: "client_encoding", Value: "UTF8"},
	}
	for i := 0; i+1 < len(more); i += 2 {
		params = append(params, pgwire.Param{Name: more[i], Value: more[i+1]})
	}
	msg, err := pgwire.AppendStartup(nil, params)
	if err != nil {
		return &localError{err}
	}
	s.put(msg)
	return nil
}

// derived are the keys of logins, so that only the first probe of a server derives any.
var derived = auth.NewClientKeys(16)

// authenticate logs in, up to ReadyForQuery.
func (s *session) authenticate(l Login) error {
	if _, err := auth.Login(s, auth.Plain{User: l.User, Secret: l.Password, Cache: derived}, s.opts); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if _, err := s.answer(); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	s.loggingIn = false
	return nil
}

// read reads one message.
func (s *session) read() (typ byte, body []byte, err error) {
	return pgwire.ReadMessage(s, maxMessage)
}

// ask sends simple queries in one write; each gets its own answer.
func (s *session) ask(queries ...string) {
	var b []byte
	for _, q := range queries {
		b = pgwire.AppendQuery(b, q)
	}
	s.put(b)
}

// answer reads up to ReadyForQuery and returns the rows, NULL as an empty text.
//
// An *auth.ServerError is the server's error; if it is inside a *lostError, the server has closed the connection
// after it.
func (s *session) answer() (rows [][]string, err error) {
	var said *auth.ServerError
	for range maxMessages {
		typ, body, err := s.read()
		if err != nil {
			if said != nil { // the server's error is a better reason than the end of the connection
				return nil, &lostError{said}
			}
			return nil, &lostError{fmt.Errorf("read: %w", err)}
		}
		switch typ {
		case 'Z':
			if said != nil {
				return nil, said
			}
			return rows, nil
		case 'E':
			said = serverError(body)
			if said.Fields.Fatal() {
				return nil, &lostError{said}
			}
		case 'D':
			if rows, err = appendRow(rows, body); err != nil {
				return nil, &lostError{err}
			}
		case 'S':
			var p pgproto3.ParameterStatus
			if p.Decode(body) == nil && p.Name == "server_version" {
				s.version = p.Value
			}
		case 'T', 'C', 'I', 'N', 'K', 'A', 'v', '1', '2':
		default:
			return nil, &lostError{fmt.Errorf("unexpected message type %d", typ)}
		}
	}
	return nil, &lostError{errors.New("server sends messages without end")}
}

// lostError ends a session: no further answer can be read.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func serverError(body []byte) *auth.ServerError {
	return &auth.ServerError{Fields: pgwire.ParseError(body), Body: body}
}

func appendRow(rows [][]string, body []byte) ([][]string, error) {
	if len(rows) == maxRows {
		return rows, nil
	}
	var row pgproto3.DataRow
	if err := row.Decode(body); err != nil {
		return rows, fmt.Errorf("decode row: %w", err)
	}
	texts := make([]string, len(row.Values))
	for i, v := range row.Values {
		texts[i] = string(v)
	}
	return append(rows, texts), nil
}
