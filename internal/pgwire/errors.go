package pgwire

import (
	"bytes"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// SQLSTATE codes that pgagroal sends or acts upon, from appendix A of PostgreSQL's documentation.
const (
	CodeTooManyConnections    = "53300"
	CodeAdminShutdown         = "57P01"
	CodeCrashShutdown         = "57P02"
	CodeCannotConnectNow      = "57P03"
	CodeConnectionFailure     = "08006"
	CodeOutcomeUnknown        = "08007" // transaction_resolution_unknown
	CodeProtocolViolation     = "08P01"
	CodeInvalidAuthorization  = "28000"
	CodeInvalidPassword       = "28P01"
	CodeUndefinedDatabase     = "3D000"
	CodeFeatureNotSupported   = "0A000"
	CodeActiveTransaction     = "25001" // active_sql_transaction
	CodeReadOnlyTransaction   = "25006"
	CodeFailedTransaction     = "25P02"
	CodeIdleInTransaction     = "25P03"
	CodeIdleSession           = "57P05"
	CodeQueryCanceled         = "57014"
	CodeUndefinedStatement    = "26000"
	CodeInvalidParameterValue = "22023"
	CodeProgramLimitExceeded  = "54000"
)

// Severities as in field V, which servers don't translate.
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityPanic   = "PANIC"
	SeverityWarning = "WARNING"
	SeverityNotice  = "NOTICE"
)

// ErrorOption adds a field to an error or a notice that is being built.
type ErrorOption func(*pgproto3.ErrorResponse)

// Detail adds field D.
func Detail(text string) ErrorOption {
	return func(e *pgproto3.ErrorResponse) { e.Detail = text }
}

// Hint adds field H.
func Hint(text string) ErrorOption {
	return func(e *pgproto3.ErrorResponse) { e.Hint = text }
}

// Routine adds field R. Some clients look for auth_failed there, which PostgreSQL sends when a login fails.
func Routine(name string) ErrorOption {
	return func(e *pgproto3.ErrorResponse) { e.Routine = name }
}

// AppendError appends an ErrorResponse with the fields S, V, C and M and those of opts.
//
// Zero bytes, which would end a field early, are dropped from every text.
func AppendError(dst []byte, severity, code, msg string, opts ...ErrorOption) []byte {
	e := errorResponse(severity, code, msg, opts)
	return must(e.Encode(dst))
}

// AppendNotice appends a NoticeResponse, built like the error of AppendError.
func AppendNotice(dst []byte, severity, code, msg string, opts ...ErrorOption) []byte {
	n := pgproto3.NoticeResponse(errorResponse(severity, code, msg, opts))
	return must(n.Encode(dst))
}

func errorResponse(severity, code, msg string, opts []ErrorOption) pgproto3.ErrorResponse {
	e := pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: msg}
	for _, opt := range opts {
		opt(&e)
	}
	for _, field := range []*string{&e.Severity, &e.SeverityUnlocalized, &e.Code, &e.Message, &e.Detail, &e.Hint, &e.Routine} {
		*field = strings.ReplaceAll(*field, "\x00", "")
	}
	return e
}

// maxErrorText bounds each text that ParseError returns, in bytes, because a server can send texts of any length.
const maxErrorText = 1024

// ErrorFields has the fields of an ErrorResponse or NoticeResponse that pgagroal uses.
type ErrorFields struct {
	Severity string // field V, or S from servers before 9.6
	Code     string // SQLSTATE, empty unless it is five upper-case letters or digits
	Message  string // in the server's language, so no decision may depend on it
	Detail   string
	Hint     string
	Routine  string // function of the server that raised the error; not translated
}

// Class returns the first two characters of the SQLSTATE, or nothing.
func (f ErrorFields) Class() string {
	if len(f.Code) < 2 {
		return ""
	}
	return f.Code[:2]
}

// PostmasterDied reports whether the server's session ended because its postmaster died. A session that an
// administrator ends has the same SQLSTATE, 57P01, but only the death of the postmaster is reported by the functions
// secure_read and secure_write.
func (f ErrorFields) PostmasterDied() bool {
	return f.Code == CodeAdminShutdown && (f.Routine == "secure_read" || f.Routine == "secure_write")
}

// Fatal reports whether the server closes the connection after this error.
func (f ErrorFields) Fatal() bool { return f.Severity == SeverityFatal || f.Severity == SeverityPanic }

// ParseError reads the body of an ErrorResponse or NoticeResponse.
//
// The body may be cut off anywhere, as an Event's is, which pgproto3 can't parse. Each text is cut to 1024 bytes.
func ParseError(body []byte) ErrorFields {
	var f ErrorFields
	var localized string
	for len(body) > 0 && body[0] != 0 {
		typ := body[0]
		value, rest, _ := bytes.Cut(body[1:], []byte{0})
		body = rest
		text := string(value[:min(len(value), maxErrorText)])
		switch typ {
		case 'S':
			localized = text
		case 'V':
			f.Severity = text
		case 'C':
			f.Code = sqlState(text)
		case 'M':
			f.Message = text
		case 'D':
			f.Detail = text
		case 'H':
			f.Hint = text
		case 'R':
			f.Routine = text
		}
	}
	if f.Severity == "" {
		f.Severity = localized
	}
	return f
}

// sqlState returns code if it has the form of an SQLSTATE, otherwise nothing.
func sqlState(code string) string {
	if len(code) != 5 {
		return ""
	}
	for _, c := range []byte(code) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return code
}
