package pool

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Encode returns messages as bytes.
func Encode(t testing.TB, msgs ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var out []byte
	for _, m := range msgs {
		var err error
		if out, err = m.Encode(out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// StartupPacket is the bytes of a StartupMessage.
func StartupPacket(t testing.TB, params map[string]string) []byte {
	t.Helper()
	b, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// DialRaw connects to the pool and sends nothing.
func (p *Pool) DialRaw() net.Conn {
	p.T.Helper()
	conn, err := net.DialTimeout("tcp", p.Config("", "", "").Addr, Generous)
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(Generous)); err != nil {
		p.T.Fatal(err)
	}
	return conn
}

// ReadToEnd reads everything that the pool sends until it closes; a reset counts as a
// close.
func ReadToEnd(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	out, err := io.ReadAll(conn)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("the connection wasn't closed; it said %q", out)
	}
	return out
}

// ErrorIn returns the code and text of an ErrorResponse.
func ErrorIn(t testing.TB, b []byte) (code, text string) {
	t.Helper()
	if len(b) < 5 || b[0] != 'E' || int(binary.BigEndian.Uint32(b[1:]))+1 != len(b) {
		t.Errorf("no single ErrorResponse: %q", b)
		return "", ""
	}
	var e pgproto3.ErrorResponse
	if err := e.Decode(b[5:]); err != nil {
		t.Error(err)
	}
	if e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" {
		t.Errorf("severity %q %q", e.Severity, e.SeverityUnlocalized)
	}
	return e.Code, e.Message
}
