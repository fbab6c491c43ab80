package auth

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

const (
	// maxServerMessage limits one message of a server before the login has succeeded, in bytes.
	maxServerMessage = 64 << 10
	// maxServerMessages limits the number of a server's messages. An exchange needs four, and notices may come between.
	maxServerMessages = 100
)

// LoginOptions are the options of a login. The zero value is the usual login.
type LoginOptions struct {
	ChannelBinding []byte // EndPoint of the server's certificate over TLS; nil without TLS, or not to be used
	RequireBinding bool   // the login fails unless it is bound to the connection
	Allowed        Methods
	// Seal, if it isn't nil, gets the keys of a login by SCRAM.
	Seal *Seal
}

// Login authenticates to the server at the other end of rw, up to and including AuthenticationOk. The caller must have
// sent the StartupMessage, and reads on from ParameterStatus.
//
// Login returns the method that the server requested, also with an error; Trust means that it requested none yet. The
// errors are *ServerError, *PasswordRequiredError if the Credential has no answers, *MethodError, *pgwire.Refused,
// ErrServerNotProven, and those of rw and of the Credential.
func Login(rw io.ReadWriter, c Credential, opts LoginOptions) (Method, error) {
	l := login{rw: rw, credential: c, opts: opts, asked: Trust}
	for range maxServerMessages {
		typ, body, err := pgwire.ReadMessage(rw, maxServerMessage)
		if err != nil {
			return l.asked, fmt.Errorf("read the server's authentication message: %w", err)
		}
		switch typ {
		case 'R':
			if done, err := l.onAuthentication(body); done || err != nil {
				return l.asked, err
			}
		case 'E':
			return l.asked, &ServerError{Fields: pgwire.ParseError(body), Body: body}
		case 'N', 'v':
			// A notice, or a NegotiateProtocolVersion, which changes nothing for a client that asks for 3.0.
		default:
			return l.asked, serverBroke("unexpected message type %d", typ)
		}
	}
	return l.asked, serverBroke("it sends messages without end")
}

// login is one login in progress.
type login struct {
	rw         io.ReadWriter
	credential Credential
	opts       LoginOptions
	asked      Method
	scram      *scramClient
	challenged bool // the server's SCRAM challenge has been answered
	bound      bool // by SCRAM-SHA-256-PLUS
}

// onAuthentication handles one message of type R; done is true after AuthenticationOk.
func (l *login) onAuthentication(body []byte) (done bool, err error) {
	if len(body) < 4 {
		return false, serverBroke("authentication message too short")
	}
	code, data := binary.BigEndian.Uint32(body), body[4:]
	switch code {
	case pgproto3.AuthTypeOk:
		if l.scram != nil && !l.scram.proven {
			// A server that doesn't know the password can send AuthenticationOk, too.
			return false, ErrServerNotProven
		}
		if l.opts.RequireBinding && !l.bound {
			return false, ErrNotBound
		}
		return true, l.opts.Allowed.Check(l.asked)
	case pgproto3.AuthTypeSASLContinue, pgproto3.AuthTypeSASLFinal:
		return false, l.onSASL(code, data)
	}
	if l.asked != Trust {
		return false, serverBroke("it asks for authentication twice")
	}
	if l.opts.RequireBinding && code != pgproto3.AuthTypeSASL {
		return false, ErrNotBound // before the password is shown
	}
	switch code {
	case pgproto3.AuthTypeCleartextPassword:
		return false, l.sendPassword(Password, l.credential.Password)
	case pgproto3.AuthTypeMD5Password:
		if len(data) != 4 {
			return false, serverBroke("md5 salt of the wrong length")
		}
		return false, l.sendPassword(MD5, func() (string, error) {
			secret, err := l.credential.MD5()
			return md5Answer(secret, [4]byte(data)), err
		})
	case pgproto3.AuthTypeSASL:
		return false, l.startSASL(body)
	}
	return false, &MethodError{Name: methodName(code)}
}

func (l *login) sendPassword(m Method, answer func() (string, error)) error {
	l.asked = m
	if err := l.opts.Allowed.Check(m); err != nil {
		return err
	}
	if !l.credential.Known() {
		return &PasswordRequiredError{Method: m}
	}
	text, err := answer()
	if err != nil {
		return err
	}
	return send(l.rw, pgwire.AppendPassword(nil, text))
}

func (l *login) startSASL(body []byte) error {
	var offer pgproto3.AuthenticationSASL
	if err := offer.Decode(body); err != nil {
		return serverBroke("malformed AuthenticationSASL")
	}
	mechanism := mechSCRAM
	if l.opts.ChannelBinding != nil && slices.Contains(offer.AuthMechanisms, mechSCRAMPlus) {
		mechanism = mechSCRAMPlus
	}
	if l.bound = mechanism == mechSCRAMPlus; l.opts.RequireBinding && !l.bound {
		return ErrNotBound
	}
	if !slices.Contains(offer.AuthMechanisms, mechanism) {
		return &MethodError{Name: fmt.Sprintf("SASL %q", offer.AuthMechanisms)}
	}
	l.asked = SCRAM
	if err := l.opts.Allowed.Check(SCRAM); err != nil {
		return err
	}
	if !l.credential.Known() {
		return &PasswordRequiredError{Method: SCRAM}
	}
	l.scram = newScramClient(l.opts.ChannelBinding, l.bound)
	return send(l.rw, pgwire.AppendSASLInitialResponse(nil, mechanism, []byte(l.scram.first())))
}

func (l *login) onSASL(code uint32, data []byte) error {
	final := code == pgproto3.AuthTypeSASLFinal
	if l.scram == nil || final != l.challenged {
		return serverBroke("it sends SASL messages out of order")
	}
	if final {
		if err := l.scram.verify(string(data)); err != nil {
			return err
		}
		if l.opts.Seal != nil {
			*l.opts.Seal = newSeal(l.scram.keys.server[:], l.scram.exchange)
		}
		return nil
	}
	l.challenged = true
	nonce, factors, err := l.scram.challenge(string(data))
	if err != nil {
		return err
	}
	keys, err := l.credential.Keys(factors)
	if err != nil {
		return err
	}
	return send(l.rw, pgwire.AppendSASLResponse(nil, []byte(l.scram.final(string(data), nonce, keys))))
}

func methodName(code uint32) string {
	switch code {
	case 2:
		return "kerberos"
	case 7, 8:
		return "gss"
	case 9:
		return "sspi"
	}
	return "code " + strconv.FormatUint(uint64(code), 10)
}
