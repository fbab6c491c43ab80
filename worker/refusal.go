package worker

import (
	"errors"
	"io"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// refusal is the error for a client that is refused. The client gets message and hint;
// why is for the log.
type refusal struct {
	code, message, why string
	hint               string // may be empty
}

func (r *refusal) Error() string { return r.why }

// refused returns the error that clients get for most refusals, as from C pgagroal.
func refused(why string) error {
	return &refusal{code: pgwire.CodeTooManyConnections, message: "connection refused", why: why}
}

// loginError is a failed authentication, by this worker or by the server.
type loginError struct {
	l   *login
	err error
}

func (e *loginError) Error() string { return e.err.Error() }

func (e *loginError) Unwrap() error { return e.err }

// end tells the client why it is refused, and closes its connection.
func (s *setup) end(err error) {
	if errors.Is(err, logline.ErrPanic) && !errors.As(err, new(*handshakeError)) {
		err = refused(err.Error())
	}
	var msg []byte
	var r *refusal
	var le *loginError
	switch {
	case errors.As(err, new(*handshakeError)):
		s.log.Info("client refused", "address", s.c.addr, "reason", err)
		fallthrough
	case err == nil || errors.Is(err, io.EOF):
		s.conn.Close()
		s.w.loop.Post(func() { s.w.gone(s.c) })
		return
	case errors.As(err, &r):
		msg = pgwire.AppendError(nil, pgwire.SeverityFatal, r.code, r.message, pgwire.Hint(r.hint))
	case errors.As(err, &le):
		msg = auth.AppendRefusal(nil, le.l.user, le.err)
	default:
		msg = startupRefusal(err)
	}
	s.log.Info("client refused", "address", s.c.addr, "reason", err)
	lingerClose(s.conn, msg)
	s.w.loop.Post(func() { s.w.gone(s.c) })
}

// startupRefusal returns the answer to a start-up packet that can't be read. Like
// PostgreSQL, it answers nothing if the length is wrong, because such a peer is hardly a
// PostgreSQL client.
func startupRefusal(err error) []byte {
	var se *pgwire.StartupError
	var ve *pgwire.VersionError
	switch {
	case errors.As(err, &se):
		return pgwire.AppendError(nil, pgwire.SeverityFatal, se.Code, se.Message, pgwire.Hint(se.Hint))
	case errors.As(err, &ve):
		return pgwire.AppendError(nil, pgwire.SeverityFatal, pgwire.CodeFeatureNotSupported, ve.Error())
	}
	return nil
}

// lingerClose sends a last message and closes the connection. To close it with unread
// bytes would send a reset, which can overtake the message. So lingerClose reads them
// first, within limits.
func lingerClose(conn socket, msg []byte) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(msg); err != nil {
		return
	}
	if err := conn.CloseWrite(); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, 64<<10)
}

// handshakeError says that a TLS handshake has failed. The client has got an alert, and
// can't read anything else.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string {
	return "could not accept SSL connection: " + e.err.Error()
}

func (e *handshakeError) Unwrap() error { return e.err }

// errEncrypt refuses a client whose connection isn't encrypted but must be.
var errEncrypt = &refusal{
	code: pgwire.CodeInvalidAuthorization, message: "the connection must be encrypted",
	hint: "Connect with sslmode=require or better.", why: "not encrypted, and tls = require",
}

// errLongStartup refuses names and parameters that are longer than a key of the supervisor
// may be.
var errLongStartup = &refusal{
	code: pgwire.CodeProgramLimitExceeded, message: "startup parameters are too long", why: "startup parameters are too long",
}

// errReplication refuses replication connections: they can't be shared, and can't move to
// another server.
var errReplication = &refusal{
	code:    pgwire.CodeFeatureNotSupported,
	message: "replication connections are not supported by the connection pool",
	hint:    "Connect to the server itself.",
	why:     "replication connection",
}
