package pgwire

import (
	"bytes"
	"encoding/binary"
)

// SQLSTATE codes that pgagroal sends or acts upon, from appendix A of PostgreSQL's documentation.
const (
	CodeTooManyConnections    = "53300"
	CodeNotInState            = "55000" // object_not_in_prerequisite_state
	CodeAdminShutdown         = "57P01"
	CodeCrashShutdown         = "57P02"
	CodeCannotConnectNow      = "57P03"
	CodeNoConnection          = "08001" // sqlclient_unable_to_establish_sqlconnection
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
	CodeInternalError         = "XX000"
)

// Severities as in field V, which servers don't translate.
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityPanic   = "PANIC"
	SeverityWarning = "WARNING"
)

// AppendServersError appends the ErrorResponse of a server, whose body is given. It passes it on unchanged unless the
// severity is wrong for the client, whose connection may stay though the server closed its own, or end though the
// server's stays. Then it replaces the severity alone.
func AppendServersError(dst []byte, severity string, body []byte) []byte {
	if ParseError(body).Fatal() == (severity == SeverityFatal) {
		return AppendMessage(dst, 'E', body)
	}
	start := len(dst)
	dst = append(dst, 'E', 0, 0, 0, 0)
	for len(body) > 0 && body[0] != 0 {
		typ := body[0]
		value, rest, _ := bytes.Cut(body[1:], []byte{0})
		body = rest
		if typ == 'S' || typ == 'V' {
			value = []byte(severity)
		}
		dst = append(append(append(dst, typ), value...), 0)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
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
