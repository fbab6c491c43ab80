package pgtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ClientConfig says where a Client connects and as whom.
type ClientConfig struct {
	Network  string // "tcp" when empty; "unix" with the socket's path as Addr
	Addr     string // host:port
	User     string
	Password string            // used only when the server asks
	Database string            // the user's name when empty, as the server decides
	Params   map[string]string // further start-up parameters
	TLS      *tls.Config       // nil: no SSLRequest
	Bind     bool              // requires channel binding, as libpq's channel_binding=require
	Asked    func(string)      // called with each method that the server asks for; may be nil
}

// Client is one connection that speaks the protocol and nothing more: no retry,
// no cache, no type mapping. One goroutine at a time, except Cancel.
type Client struct {
	Params map[string]string // what the server reported, kept current
	PID    uint32            // of BackendKeyData
	Secret []byte            // of BackendKeyData
	Status byte              // of the last ReadyForQuery: 'I', 'T' or 'E'

	cfg   ClientConfig
	conn  net.Conn
	fe    *pgproto3.Frontend
	bound bool // the login is bound to the TLS connection
}

// Result is the outcome of one round trip to ReadyForQuery.
type Result struct {
	Columns []string   // of the last statement that returned rows
	Rows    [][]string // of all statements, as text; NULL reads as ""
	Tags    []string   // one for each completed statement
}

// ServerError is an ErrorResponse.
type ServerError struct {
	Severity string // not localised
	Code     string // SQLSTATE
	Message  string
	Detail   string
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Severity, e.Code, e.Message)
}

// Code returns the SQLSTATE with which the server has caused err, "" if the server
// isn't the cause.
func Code(err error) string {
	if e, ok := errors.AsType[*ServerError](err); ok {
		return e.Code
	}
	return ""
}

// Connect dials and logs in. A login that the server refuses is a ServerError.
func Connect(ctx context.Context, cfg ClientConfig) (*Client, error) {
	conn, err := dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &Client{cfg: cfg, conn: conn, Params: map[string]string{}}
	err = c.bounded(ctx, func() error {
		if err := c.encrypt(); err != nil {
			return err
		}
		c.fe = pgproto3.NewFrontend(c.conn, c.conn)
		return c.login()
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func dial(ctx context.Context, cfg ClientConfig) (net.Conn, error) {
	network := cfg.Network
	if network == "" {
		network = "tcp"
	}
	var d net.Dialer
	return d.DialContext(ctx, network, cfg.Addr)
}

// encrypt asks for TLS if the configuration has it.
func (c *Client) encrypt() error {
	if c.cfg.TLS == nil {
		return nil
	}
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err != nil {
		return fmt.Errorf("encode SSLRequest: %w", err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c.conn, answer); err != nil {
		return fmt.Errorf("read answer to SSLRequest: %w", err)
	}
	if answer[0] != 'S' {
		return fmt.Errorf("server answers %q to SSLRequest", answer)
	}
	c.conn = tls.Client(c.conn, c.cfg.TLS)
	return nil
}

func (c *Client) login() error {
	params := map[string]string{"user": c.cfg.User}
	if c.cfg.Database != "" {
		params["database"] = c.cfg.Database
	}
	maps.Copy(params, c.cfg.Params)
	c.fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params})
	if err := c.fe.Flush(); err != nil {
		return err
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	_, err := c.readResult()
	return err
}

// Conn returns the connection itself, for tests that send what no client would send.
// The Client doesn't see bytes that the caller reads from it.
func (c *Client) Conn() net.Conn { return c.conn }

// Query runs sql in the simple protocol. After an error the result contains what came
// before it.
func (c *Client) Query(ctx context.Context, sql string) (*Result, error) {
	return c.RoundTrip(ctx, &pgproto3.Query{String: sql})
}

// Exec runs sql in the extended protocol with text arguments, as an unnamed
// statement: Parse, Bind, Describe, Execute, Sync in one flush.
func (c *Client) Exec(ctx context.Context, sql string, args ...string) (*Result, error) {
	return c.RoundTrip(ctx, append([]pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}}, bindExecute("", args)...)...)
}

// Prepare makes a named statement.
func (c *Client) Prepare(ctx context.Context, name, sql string) error {
	_, err := c.RoundTrip(ctx, &pgproto3.Parse{Name: name, Query: sql}, &pgproto3.Sync{})
	return err
}

// ExecPrepared runs a named statement with text arguments.
func (c *Client) ExecPrepared(ctx context.Context, name string, args ...string) (*Result, error) {
	return c.RoundTrip(ctx, bindExecute(name, args)...)
}

func bindExecute(name string, args []string) []pgproto3.FrontendMessage {
	bind := &pgproto3.Bind{PreparedStatement: name}
	for _, a := range args {
		bind.Parameters = append(bind.Parameters, []byte(a))
	}
	return []pgproto3.FrontendMessage{bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}}
}

// RoundTrip sends msgs and reads to the next ReadyForQuery. Its error is the first
// ErrorResponse before that.
func (c *Client) RoundTrip(ctx context.Context, msgs ...pgproto3.FrontendMessage) (*Result, error) {
	if err := c.Send(ctx, msgs...); err != nil {
		return nil, err
	}
	return c.ReadResult(ctx)
}

// Send writes msgs in one flush and waits for no answer.
func (c *Client) Send(ctx context.Context, msgs ...pgproto3.FrontendMessage) error {
	err := c.bounded(ctx, func() error {
		for _, m := range msgs {
			c.fe.Send(m)
		}
		return c.fe.Flush()
	})
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Receive reads one message, which is valid until the next call. Notices and errors are
// ordinary messages here.
func (c *Client) Receive(ctx context.Context) (msg pgproto3.BackendMessage, err error) {
	err = c.bounded(ctx, func() error {
		msg, err = c.receive()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return msg, nil
}

// ReadResult reads to the next ReadyForQuery.
func (c *Client) ReadResult(ctx context.Context) (res *Result, err error) {
	err = c.bounded(ctx, func() error {
		res, err = c.readResult()
		return err
	})
	if err != nil {
		return res, fmt.Errorf("read result: %w", err)
	}
	return res, nil
}

// receive reads one message and records parameters, keys and status.
func (c *Client) receive() (pgproto3.BackendMessage, error) {
	msg, err := c.fe.Receive()
	if err != nil {
		return nil, err
	}
	switch m := msg.(type) {
	case *pgproto3.ParameterStatus:
		c.Params[m.Name] = m.Value
	case *pgproto3.BackendKeyData:
		c.PID, c.Secret = m.ProcessID, m.SecretKey
	case *pgproto3.ReadyForQuery:
		c.Status = m.TxStatus
	}
	return msg, nil
}

func (c *Client) readResult() (*Result, error) {
	res, first := &Result{}, error(nil)
	for {
		msg, err := c.receive()
		if err != nil {
			// After a FATAL the connection ends without ReadyForQuery. The server's
			// error says more than that end.
			if first != nil {
				return res, first
			}
			return res, err
		}
		switch m := msg.(type) {
		case *pgproto3.ErrorResponse:
			if first == nil {
				first = serverError(m)
			}
		case *pgproto3.ReadyForQuery:
			return res, first
		default:
			res.add(msg)
		}
	}
}

func (r *Result) add(msg pgproto3.BackendMessage) {
	switch m := msg.(type) {
	case *pgproto3.RowDescription:
		r.Columns = nil
		for _, f := range m.Fields {
			r.Columns = append(r.Columns, string(f.Name))
		}
	case *pgproto3.DataRow:
		row := make([]string, len(m.Values))
		for i, v := range m.Values {
			row[i] = string(v)
		}
		r.Rows = append(r.Rows, row)
	case *pgproto3.CommandComplete:
		r.Tags = append(r.Tags, string(m.CommandTag))
	}
}

func serverError(m *pgproto3.ErrorResponse) *ServerError {
	e := &ServerError{Severity: m.SeverityUnlocalized, Code: m.Code, Message: m.Message, Detail: m.Detail}
	if e.Severity == "" {
		e.Severity = m.Severity
	}
	return e
}
