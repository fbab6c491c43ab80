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

// MethodError says that a server asks for a method that this package doesn't support, or that isn't allowed.
type MethodError struct {
	Name    string
	Allowed Methods // empty if the method isn't supported
}

func (e *MethodError) Error() string {
	if len(e.Allowed) > 0 {
		return "server asks for " + e.Name
	}
	return "server asks for unsupported authentication " + e.Name
}

// ServerError is the ErrorResponse of a server that refused a login.
type ServerError struct {
	Fields pgwire.ErrorFields
	Body   []byte // body of the ErrorResponse, for a client
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("server refused the login: %s %s: %s", e.Fields.Severity, e.Fields.Code, e.Fields.Message)
}

// serverBroke returns the error for a server that breaks the rules of a login.
func serverBroke(format string, args ...any) error {
	return pgwire.RefusalServerLogin.With(fmt.Sprintf(format, args...))
}

// AppendRefusal appends the ErrorResponse that tells a client why its login failed. It passes on a server's own error
// unchanged, but with the given severity. For an error of the connection it appends nothing.
func AppendRefusal(dst []byte, severity, user string, err error) []byte {
	if server, ok := errors.AsType[*ServerError](err); ok {
		return pgwire.AppendServersError(dst, severity, server.Body)
	}
	refused := refusalOf(user, err)
	switch {
	case refused == nil:
		return dst
	case severity == pgwire.SeverityError:
		return refused.AppendError(dst)
	}
	return refused.Append(dst)
}

func refusalOf(user string, err error) *pgwire.Refused {
	if refused, ok := errors.AsType[*pgwire.Refused](err); ok {
		return refused
	}
	if method, ok := errors.AsType[*MethodError](err); ok {
		return pgwire.RefusalMethod.With(user, method.Name)
	}
	switch {
	case errors.Is(err, ErrBadPassword):
		return pgwire.RefusalBadPassword.With(user)
	case errors.Is(err, ErrStale):
		return pgwire.RefusalStale.With(user)
	case errors.Is(err, ErrServerNotProven):
		return pgwire.RefusalUnproven.With(user)
	case errors.Is(err, ErrNotBound):
		return pgwire.RefusalUnbound.With(user)
	case errors.As(err, new(*PasswordRequiredError)):
		return pgwire.RefusalNoPassword.With(user)
	}
	return nil
}
