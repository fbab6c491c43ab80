package tlsmem

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

var (
	// ErrWouldBlock means that Read needs more ciphertext first.
	ErrWouldBlock = errors.New("tls: no complete record is buffered")
	// ErrNoCloseNotify means that the peer ended the connection between two records
	// without a close_notify. Only PostgreSQL's protocol shows whether data is missing.
	ErrNoCloseNotify = errors.New("tls: the connection ended without close_notify")
	// ErrTruncated means that the connection ended inside a record.
	ErrTruncated = errors.New("tls: the connection ended inside a record")
	// ErrFull means that the peer sent more than may wait during a handshake, or while
	// the caller doesn't read.
	ErrFull = errors.New("tls: more input than the buffer may hold")
)

// emptyError is the error that crypto/tls gets when there is no input. It says that it is
// temporary, because crypto/tls treats any other error as final.
type emptyError struct{}

func (emptyError) Error() string   { return "tls: no input" }
func (emptyError) Timeout() bool   { return true }
func (emptyError) Temporary() bool { return true }

var errEmpty error = emptyError{}

// Cause says how a TLS connection came to its end.
type Cause uint8

// Causes, in the order of CauseOf's table.
const (
	CauseNone          Cause = iota
	CauseClosed              // the peer sent close_notify
	CauseNoCloseNotify       // the connection ended between two records
	CauseTruncated           // the connection ended inside a record
	CauseNotTLS              // the peer doesn't speak TLS
	CauseCertificate         // this side refused the peer's certificate
	CauseAlert               // the peer sent an alert
	CauseRefused             // this side sent an alert
	CauseAborted             // this side called Abort
	CauseOther
)

var causeNames = [...]string{
	CauseNone: "none", CauseClosed: "closed", CauseNoCloseNotify: "no_close_notify", CauseTruncated: "truncated",
	CauseNotTLS: "not_tls", CauseCertificate: "certificate", CauseAlert: "alert_received", CauseRefused: "alert_sent",
	CauseAborted: "aborted", CauseOther: "other",
}

// String returns a word that suits the label of a metric.
func (c Cause) String() string { return causeNames[c] }

// CauseOf names an error of Handshake, Receive, Read or Write.
func CauseOf(err error) Cause {
	var (
		op       *net.OpError
		header   tls.RecordHeaderError
		unproven *tls.CertificateVerificationError
	)
	switch {
	case err == nil:
		return CauseNone
	case errors.Is(err, net.ErrClosed):
		return CauseAborted
	case errors.Is(err, ErrTruncated):
		return CauseTruncated
	case errors.Is(err, ErrNoCloseNotify):
		return CauseNoCloseNotify
	case errors.Is(err, io.EOF):
		return CauseClosed
	case errors.As(err, &header):
		return CauseNotTLS
	case errors.As(err, &unproven), isRefusal(err):
		return CauseCertificate
	case errors.As(err, &op) && op.Op == "remote error":
		return CauseAlert
	case errors.As(err, &op) && op.Op == "local error":
		return CauseRefused
	}
	return CauseOther
}

// isRefusal reports whether VerifyConnection of a Config refused the certificate.
func isRefusal(err error) bool {
	var r interface{ RefusesCertificate() bool }
	return errors.As(err, &r) && r.RefusesCertificate()
}
