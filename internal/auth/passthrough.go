package auth

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// PassThrough passes the login exchange between the server and a client whose password pgagroal doesn't know. It ends
// with the server's AuthenticationOk, which it doesn't pass on. The results are those of Login. The client hears of no
// method that isn't allowed.
//
// Channel binding can't be passed through, because the client would bind to pgagroal's certificate and the server to
// its own. So PassThrough removes the PLUS mechanism from the server's offer. A client that requires channel binding
// then gives the login up. A client that only could bind says so in its answer, and a server that offered PLUS takes that
// for an attack, so PassThrough refuses such a client and says what helps.
func PassThrough(client, server io.ReadWriter, allowed Methods) (Method, error) {
	asked := Trust
	for range maxServerMessages {
		typ, body, err := pgwire.ReadMessage(server, maxServerMessage)
		if err != nil {
			return asked, fmt.Errorf("read the server's authentication message: %w", err)
		}
		switch typ {
		case 'E':
			return asked, &ServerError{Fields: pgwire.ParseError(body), Body: body}
		case 'N', 'v':
			continue
		case 'R':
		default:
			return asked, serverBroke("unexpected message type %d", typ)
		}
		if len(body) < 4 {
			return asked, serverBroke("authentication message too short")
		}
		code := binary.BigEndian.Uint32(body)
		if code == pgproto3.AuthTypeOk {
			return asked, allowed.Check(asked)
		}
		if asked = askedBy(code, asked); asked != Trust {
			if err := allowed.Check(asked); err != nil {
				return asked, err
			}
		}
		if err = passOn(client, server, code, body); err != nil {
			return asked, err
		}
	}
	return asked, serverBroke("it sends messages without end")
}

// askedBy returns the method that a request of the server begins, or else the one before.
func askedBy(code uint32, before Method) Method {
	switch code {
	case pgproto3.AuthTypeCleartextPassword:
		return Password
	case pgproto3.AuthTypeMD5Password:
		return MD5
	case pgproto3.AuthTypeSASL:
		return SCRAM
	}
	return before
}

// passOn passes a request of the server to the client and, if the client has to answer, the answer to the server.
func passOn(client, server io.ReadWriter, code uint32, body []byte) error {
	msg := pgwire.AppendMessage(nil, 'R', body)
	plus := false
	switch code {
	case pgproto3.AuthTypeCleartextPassword, pgproto3.AuthTypeMD5Password:
	case pgproto3.AuthTypeSASL:
		var offer pgproto3.AuthenticationSASL
		if err := offer.Decode(body); err != nil || !slices.Contains(offer.AuthMechanisms, mechSCRAM) {
			return &MethodError{Name: fmt.Sprintf("SASL %q", offer.AuthMechanisms)}
		}
		plus = slices.Contains(offer.AuthMechanisms, mechSCRAMPlus)
		msg = pgwire.AppendAuthenticationSASL(nil, mechSCRAM)
	case pgproto3.AuthTypeSASLContinue:
	case pgproto3.AuthTypeSASLFinal:
		return send(client, msg) // the client doesn't answer this
	default:
		return &MethodError{Name: methodName(code)}
	}
	if err := send(client, msg); err != nil {
		return err
	}
	most := maxAnswer
	if code == pgproto3.AuthTypeCleartextPassword {
		most = maxCleartext
	}
	answer, err := readAnswer(client, most)
	if err != nil {
		return err
	}
	if first, err := parseInitial(answer, false); plus && err == nil && strings.HasPrefix(first, "y") {
		return pgwire.RefusalBindingPassed.With()
	}
	return send(server, pgwire.AppendMessage(nil, 'p', answer))
}
