package auth

import (
	"errors"
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

var (
	// ErrBadPassword says that a client didn't prove the right password, or that its user is unknown.
	ErrBadPassword = errors.New("password authentication failed")
	// ErrServerNotProven says that a server accepted a SCRAM proof but didn't prove that it knows the password.
	ErrServerNotProven = errors.New("server failed to prove that it knows the password")
	// ErrNotBound says that a server lets in without channel binding, though that is required.
	ErrNotBound = errors.New("channel binding is required, and the server doesn't offer it")
)

// PasswordRequiredError says that a server asks for a password and none is known.
type PasswordRequiredError struct{ Method Method }

func (e *PasswordRequiredError) Error() string {
	return fmt.Sprintf("server asks for a password (%s), none is known", e.Method)
}

// MethodError says that a server asks for a method that this package doesn't support.
type MethodError struct{ Name string }

func (e *MethodError) Error() string { return "server asks for unsupported authentication " + e.Name }

// ServerError is the ErrorResponse of a server that refused a login.
type ServerError struct {
	Fields pgwire.ErrorFields
	Body   []byte // body of the ErrorResponse, for a client
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("server refused the login: %s %s: %s", e.Fields.Severity, e.Fields.Code, e.Fields.Message)
}

// ProtocolError says that the peer broke the rules of an exchange.
type ProtocolError struct {
	Code    string // SQLSTATE
	Message string // may be sent to the client
}

func (e *ProtocolError) Error() string { return e.Message }

func protocolError(msg string) error {
	return &ProtocolError{Code: pgwire.CodeProtocolViolation, Message: msg}
}

// AppendRefusal appends the ErrorResponse that tells a client why its login failed. It passes on a server's own error
// unchanged. For an error of the connection it appends nothing.
func AppendRefusal(dst []byte, user string, err error) []byte {
	var server *ServerError
	var protocol *ProtocolError
	var method *MethodError
	var required *PasswordRequiredError
	switch {
	case errors.Is(err, ErrBadPassword):
		msg := fmt.Sprintf("password authentication failed for user \"%s\"", user)
		return pgwire.AppendError(dst, pgwire.SeverityFatal, pgwire.CodeInvalidPassword, msg, pgwire.Routine("auth_failed"))
	case errors.As(err, &server):
		return pgwire.AppendMessage(dst, 'E', server.Body)
	case errors.As(err, &protocol):
		return pgwire.AppendError(dst, pgwire.SeverityFatal, protocol.Code, protocol.Message)
	case errors.As(err, &method), errors.As(err, &required), errors.Is(err, ErrServerNotProven):
		msg := fmt.Sprintf("unsupported security model for user \"%s\"", user)
		return pgwire.AppendError(dst, pgwire.SeverityFatal, pgwire.CodeInvalidAuthorization, msg)
	}
	return dst
}
