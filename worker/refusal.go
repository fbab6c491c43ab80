package worker

import (
	"errors"
	"io"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// refusal is the error for a client that is refused. The client gets the answer; why is for
// the log.
type refusal struct {
	answer *pgwire.Refused
	why    string
}

func (r *refusal) Error() string { return r.why }

func (r *refusal) Unwrap() error { return r.answer }

// unconnected returns the answer to a client whose backend couldn't be opened, for a reason
// that it isn't told.
func unconnected(err error) *pgwire.Refused {
	if errors.Is(err, logline.ErrPanic) {
		return pgwire.RefusalInternal.With()
	}
	return pgwire.RefusalNoConnection.With()
}

// loginError is a failed authentication, by this worker or by the server.
type loginError struct {
	l   *login
	err error
}

func (e *loginError) Error() string { return e.err.Error() }

func (e *loginError) Unwrap() error { return e.err }

// end tells the client why it is refused, and closes its connection. Like PostgreSQL, it
// answers nothing to a first packet with a wrong length, because such a peer is hardly a
// PostgreSQL client.
func (s *setup) end(err error) {
	handshake := errors.As(err, new(*handshakeError))
	if errors.Is(err, logline.ErrPanic) && !handshake {
		err = &refusal{pgwire.RefusalInternal.With(), err.Error()}
	}
	quiet := err == nil || errors.Is(err, io.EOF) && !handshake
	if !quiet {
		s.log.Info("client refused", "address", s.c.addr, "reason", err)
	}
	if quiet || handshake {
		s.conn.Close()
	} else {
		lingerClose(s.conn, answerTo(err))
	}
	s.w.loop.Post(func() { s.w.gone(s.c) })
}

func answerTo(err error) []byte {
	var user string
	if le, ok := errors.AsType[*loginError](err); ok {
		user = le.l.user
	}
	return auth.AppendRefusal(nil, pgwire.SeverityFatal, user, err)
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
