package pgtest

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"
)

const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

// ErrNotBound says that the server offers no channel binding, which the client requires.
var ErrNotBound = errors.New("the server offers no channel binding")

// authenticate answers the server's requests until AuthenticationOk.
func (c *Client) authenticate() error {
	for {
		msg, err := c.receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.AuthenticationOk:
			if c.cfg.Bind && !c.bound {
				return ErrNotBound
			}
			return nil
		case *pgproto3.AuthenticationCleartextPassword:
			c.asked("password")
			err = c.sendAuth(&pgproto3.PasswordMessage{Password: c.cfg.Password})
		case *pgproto3.AuthenticationMD5Password:
			c.asked("md5")
			err = c.sendAuth(&pgproto3.PasswordMessage{Password: md5Answer(c.cfg.User, c.cfg.Password, m.Salt)})
		case *pgproto3.AuthenticationSASL:
			err = c.scram(slices.Clone(m.AuthMechanisms))
		case *pgproto3.ErrorResponse:
			return serverError(m)
		case *pgproto3.NoticeResponse, *pgproto3.NegotiateProtocolVersion:
		default:
			return fmt.Errorf("authenticate: unexpected %T", m)
		}
		if err != nil {
			return err
		}
	}
}

func (c *Client) sendAuth(msg pgproto3.FrontendMessage) error {
	c.fe.Send(msg)
	return c.fe.Flush()
}

func md5Answer(user, password string, salt [4]byte) string {
	inner := md5.Sum([]byte(password + user))
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), salt[:]...))
	return "md5" + hex.EncodeToString(outer[:])
}

func (c *Client) asked(method string) {
	if c.cfg.Asked != nil {
		c.cfg.Asked(method)
	}
}

// scram runs SCRAM-SHA-256, bound to the TLS connection if the client requires that, up to the server's proof;
// authenticate reads the AuthenticationOk that follows. The user name is empty, because
// the server takes it from the start-up message.
func (c *Client) scram(mechanisms []string) error {
	c.asked(strings.Join(mechanisms, ","))
	mechanism, conv, err := c.conversation(mechanisms)
	if err != nil {
		return err
	}
	answer, err := conv.Step("")
	if err != nil {
		return fmt.Errorf("start SCRAM: %w", err)
	}
	var out pgproto3.FrontendMessage = &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(answer)}
	for !conv.Done() {
		if err := c.sendAuth(out); err != nil {
			return err
		}
		if answer, err = c.scramStep(conv); err != nil {
			return err
		}
		out = &pgproto3.SASLResponse{Data: []byte(answer)}
	}
	if !conv.Valid() {
		return errors.New("SCRAM: the server doesn't know the password either")
	}
	return nil
}

// conversation chooses one of the mechanisms that the server offers.
func (c *Client) conversation(offer []string) (string, *scram.ClientConversation, error) {
	client, err := scram.SHA256.NewClient("", c.cfg.Password, "")
	if err != nil {
		return "", nil, fmt.Errorf("prepare SCRAM: %w", err)
	}
	encrypted, ok := c.conn.(*tls.Conn)
	switch {
	case !c.cfg.Bind && slices.Contains(offer, scramSHA256):
		return scramSHA256, client.NewConversation(), nil
	case !c.cfg.Bind:
		return "", nil, fmt.Errorf("server offers %v, not %s", offer, scramSHA256)
	case !ok || !slices.Contains(offer, scramSHA256Plus):
		return "", nil, ErrNotBound
	}
	c.bound = true
	sum := sha256.Sum256(encrypted.ConnectionState().PeerCertificates[0].Raw) // tls-server-end-point, if SHA-256 signs it
	binding := scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: sum[:]}
	return scramSHA256Plus, client.NewConversationWithChannelBinding(binding), nil
}

// scramStep reads the server's next challenge and returns the answer to it.
func (c *Client) scramStep(conv *scram.ClientConversation) (string, error) {
	msg, err := c.receive()
	if err != nil {
		return "", err
	}
	var challenge []byte
	switch m := msg.(type) {
	case *pgproto3.AuthenticationSASLContinue:
		challenge = m.Data
	case *pgproto3.AuthenticationSASLFinal:
		challenge = m.Data
	case *pgproto3.ErrorResponse:
		return "", serverError(m)
	default:
		return "", fmt.Errorf("SCRAM: unexpected %T", m)
	}
	answer, err := conv.Step(string(challenge))
	if err != nil {
		return "", fmt.Errorf("SCRAM: %w", err)
	}
	return answer, nil
}
