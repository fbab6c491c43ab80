package health

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Codes of a verdict without a SQLSTATE.
const (
	codeNoLogin   = "nologin"    // the server asks for a credential that we don't have
	codeTLS       = "tls"        // the server has no TLS, or the handshake failed
	codeProtocol  = "protocol"   // the peer isn't a PostgreSQL server, or it is broken
	codeUnproven  = "unproven"   // the server accepted our proof but didn't prove that it knows the password itself
	codeSlow      = "slow"       // the server began to answer, but didn't finish in time
	codeNoState   = "nosqlstate" // an error without SQLSTATE
	codeCancelled = "cancelled"  // the caller cancelled the probe
	codeLocal     = "local"      // our own system refused the connection
)

// localError is a fault on our side, such as a user name that doesn't fit into a packet.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// judge says what an error means; s is nil when there was no connection.
//
// An error message of the server comes first, then the kernel's error for the connection, then the rest. A
// connection that breaks counts as refused even if the server had answered before: a session ends without an error
// message only if the server process died or something cut the connection.
func (p *prober) judge(s *session, err error) verdict {
	if said, ok := errors.AsType[*auth.ServerError](err); ok {
		v := judgeCode(said)
		v.next = v.outcome == ipc.SawAlive && s.loggingIn && badLogin(v.code)
		return v
	}
	if code := refusedByUs(err); code != "" {
		return verdict{outcome: ipc.SawAlive, code: code, words: words(code, err), next: code == codeNoLogin}
	}
	if outcome := outcomeOf(err, s != nil); outcome != 0 {
		if runOutOfTime(outcome) && errors.Is(p.ctx.Err(), context.Canceled) {
			return verdict{outcome: ipc.SawNothing, code: codeCancelled}
		}
		if outcome == ipc.SawSilent && s.answered {
			return verdict{outcome: outcome, code: codeSlow}
		}
		return verdict{outcome: outcome}
	}
	if s != nil && s.answered {
		code := s.answeredCode(err)
		return verdict{outcome: ipc.SawAlive, code: code, words: words(code, err)}
	}
	return verdict{outcome: ipc.SawNothing, code: codeLocal}
}

// words returns the text of an error of TLS, or of a method that isn't allowed. Other codes say enough.
func words(code string, err error) string {
	if m, ok := errors.AsType[*auth.MethodError](err); ok && len(m.Allowed) > 0 {
		return m.Error()
	}
	if code != codeTLS {
		return ""
	}
	return err.Error()
}

// judgeCode reads the outcome from a SQLSTATE.
func judgeCode(err *auth.ServerError) verdict {
	code := err.Fields.Code
	if err.Fields.PostmasterDied() {
		return verdict{outcome: ipc.SawRefused, code: code}
	}
	switch code {
	case pgwire.CodeCannotConnectNow:
		return verdict{outcome: ipc.SawStarting, code: code}
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown:
		return verdict{outcome: ipc.SawShutdown, code: code}
	case "":
		return verdict{outcome: ipc.SawAlive, code: codeNoState}
	}
	return verdict{outcome: ipc.SawAlive, code: code}
}

// badLogin reports whether a SQLSTATE concerns the user or the database, so that another login may
// succeed.
func badLogin(code string) bool {
	const insufficientPrivilege = "42501" // to connect to this database
	return strings.HasPrefix(code, "28") || code == pgwire.CodeUndefinedDatabase || code == insufficientPrivilege
}

// refusedByUs returns the code for a login that we gave up although the server answers, or "" for other
// errors.
func refusedByUs(err error) string {
	if _, ok := errors.AsType[*auth.PasswordRequiredError](err); ok {
		return codeNoLogin
	}
	if _, ok := errors.AsType[*auth.MethodError](err); ok {
		return codeNoLogin
	}
	switch {
	case errors.Is(err, auth.ErrServerNotProven):
		return codeUnproven
	case errors.Is(err, tlsdial.ErrNoTLS), errors.Is(err, auth.ErrNotBound):
		return codeTLS
	}
	return ""
}

// outcomeOf returns the outcome that an error of the kernel means, or 0 if err isn't
// one.
func outcomeOf(err error, connected bool) ipc.Outcome {
	if _, ok := errors.AsType[*localError](err); ok {
		return ipc.SawNothing
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return ipc.SawNothing
	}
	if isAny(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN) {
		return ipc.SawUnreachable
	}
	if isAny(err, os.ErrDeadlineExceeded, context.DeadlineExceeded, context.Canceled, syscall.ETIMEDOUT) || timedOut(err) {
		if connected {
			return ipc.SawSilent
		}
		return ipc.SawTimeout
	}
	broken := isAny(err, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF)
	if broken || (!connected && isAny(err, syscall.ENOENT, syscall.ENOTDIR)) { // no socket of that name
		return ipc.SawRefused
	}
	return 0
}

// timedOut is also true for EAGAIN, the error for a Unix socket whose queue is full;
// TCP would wait instead.
func timedOut(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// answeredCode returns the code for a server that answered, but wrongly.
func (s *session) answeredCode(err error) string {
	if refused, ok := errors.AsType[*tlsdial.RefusedError](err); ok && refused.Handshake || s.freshTLS {
		return codeTLS
	}
	return codeProtocol
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
