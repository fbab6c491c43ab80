package pgtest

import (
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// FakePID is the process id in the BackendKeyData of Login.
const FakePID = 4711

// Mute leaves the connection open and neither reads nor writes until Close.
func Mute() Step {
	return func(p *Peer) error {
		<-p.fake.ended
		return nil
	}
}

// Swallow reads everything and answers nothing until the client ends.
func Swallow() Step {
	return func(p *Peer) error {
		_, err := io.Copy(io.Discard, p.conn)
		return err
	}
}

// Reset closes the connection with RST. As the first step it is a reset on connect.
func Reset() Step {
	return func(p *Peer) error { return p.conn.reset() }
}

// CloseWrite sends FIN, and the script goes on to read.
func CloseWrite() Step {
	return func(p *Peer) error { return p.conn.tcp.CloseWrite() }
}

// Startup reads up to the start-up message and refuses TLS and GSS encryption.
func Startup() Step {
	return func(p *Peer) error {
		for {
			msg, err := p.backend.ReceiveStartupMessage()
			if err != nil {
				return err
			}
			switch m := msg.(type) {
			case *pgproto3.StartupMessage:
				p.fake.addStartup(m.Parameters)
				return nil
			case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
				if _, err := p.conn.Write([]byte("N")); err != nil {
					return err
				}
			default:
				return unexpected("got %T instead of a start-up message", msg)
			}
		}
	}
}

// Login lets the client in without a password and reports the given parameters,
// as name, value, name, value.
func Login(params ...string) Step {
	msgs := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}
	for i := 0; i+1 < len(params); i += 2 {
		msgs = append(msgs, &pgproto3.ParameterStatus{Name: params[i], Value: params[i+1]})
	}
	return Send(append(msgs, &pgproto3.BackendKeyData{ProcessID: FakePID, SecretKey: []byte("key.")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})...)
}

// AskPassword asks for a cleartext password and reads the answer, whatever it is.
func AskPassword() Step {
	return func(p *Peer) error {
		if err := p.send(&pgproto3.AuthenticationCleartextPassword{}); err != nil {
			return err
		}
		if err := p.backend.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
			return err
		}
		_, err := p.receive("PasswordMessage")
		return err
	}
}

// Send sends messages in one write.
func Send(msgs ...pgproto3.BackendMessage) Step {
	return func(p *Peer) error { return p.send(msgs...) }
}

// SendBytes sends bytes as they are.
func SendBytes(b []byte) Step {
	return func(p *Peer) error {
		_, err := p.conn.Write(b)
		return err
	}
}

// SendPart sends only the first n bytes of a message. The end of the script after
// it is a close in the middle of a message.
func SendPart(n int, msg pgproto3.BackendMessage) Step {
	return func(p *Peer) error {
		all, err := msg.Encode(nil)
		if err != nil {
			return fmt.Errorf("encode %T: %w", msg, err)
		}
		_, err = p.conn.Write(all[:min(n, len(all))])
		return err
	}
}

// Fatal sends a FATAL with a SQLSTATE; the server then closes, so it ends a script.
func Fatal(code, message string) Step { return sendError("FATAL", code, message) }

// Error sends an ERROR with a SQLSTATE and ReadyForQuery.
func Error(code, message string) Step {
	return func(p *Peer) error {
		if err := sendError("ERROR", code, message)(p); err != nil {
			return err
		}
		return p.send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func sendError(severity, code, message string) Step {
	return Send(&pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: message})
}

// Expect reads one message for each name and checks its type, by the name of package
// pgproto3: "Query", "Parse", "Sync".
func Expect(names ...string) Step {
	return func(p *Peer) error {
		for _, name := range names {
			if _, err := p.receive(name); err != nil {
				return err
			}
		}
		return nil
	}
}

// Answer serves simple queries until the client ends. Each answer is one row with one
// column, which the table has for the query's text. A query that isn't in the table
// fails the script.
func Answer(table map[string]string) Step {
	return func(p *Peer) error {
		for {
			msg, err := p.backend.Receive()
			if err != nil {
				return err
			}
			switch m := msg.(type) {
			case *pgproto3.Terminate:
				return nil
			case *pgproto3.Query:
				value, ok := table[m.String]
				if !ok {
					return unexpected("query %q isn't in the table", m.String)
				}
				if err := p.send(row(value)...); err != nil {
					return err
				}
			default:
				return unexpected("got %T instead of a simple query", msg)
			}
		}
	}
}

// row is the answer to a query that returns one text.
func row(value string) []pgproto3.BackendMessage {
	const oidText = 25
	field := pgproto3.FieldDescription{Name: []byte("value"), DataTypeOID: oidText, DataTypeSize: -1, TypeModifier: -1}
	return []pgproto3.BackendMessage{
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{field}},
		&pgproto3.DataRow{Values: [][]byte{[]byte(value)}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	}
}

func (p *Peer) send(msgs ...pgproto3.BackendMessage) error {
	for _, m := range msgs {
		p.backend.Send(m)
	}
	return p.backend.Flush()
}

func (p *Peer) receive(name string) (pgproto3.FrontendMessage, error) {
	msg, err := p.backend.Receive()
	if err != nil {
		return nil, err
	}
	if got := strings.TrimPrefix(fmt.Sprintf("%T", msg), "*pgproto3."); got != name {
		return nil, unexpected("got %s instead of %s", got, name)
	}
	return msg, nil
}
