package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/xdg-go/scram"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

const (
	// maxAnswer limits the body of a client's answer, in bytes, and thus the length of a client's nonce.
	maxAnswer = 16 << 10
	// maxCleartext is maxAnswer for a cleartext password, which may be a token. It is PostgreSQL's limit: a length of
	// 65535, which includes itself.
	maxCleartext = 65535 - 4
)

// ServeSCRAM authenticates the client at the other end of rw by SCRAM-SHA-256, up to and including
// AuthenticationSASLFinal.
//
// The caller sends AuthenticationOk, or an ErrorResponse (see AppendRefusal), because it may still refuse a client that
// has authenticated itself. channelBinding is the EndPoint of pgagroal's certificate, nil without TLS. With it the client
// may choose SCRAM-SHA-256-PLUS. A wrong password and an unknown user's verifier give ErrBadPassword.
func ServeSCRAM(rw io.ReadWriter, v Verifier, channelBinding []byte) error {
	_, err := exchangeSCRAM(rw, v, channelBinding)
	return err
}

// exchange are the messages of a SCRAM exchange that has succeeded.
type exchange struct{ clientFirst, serverFirst, clientFinal string }

// keys returns the keys that the client has used. Its proof is the client key, hidden by a signature that whoever has the
// verifier can make.
func (x exchange) keys(v Verifier) (k Keys, ok bool) {
	parts := strings.SplitN(x.clientFirst, ",", 3) // a gs2 header of two fields, and the bare message
	unproven, proof, found := strings.Cut(x.clientFinal, ",p=")
	key, err := base64.StdEncoding.DecodeString(proof)
	if len(parts) < 3 || !found || err != nil || len(key) != sha256.Size {
		return k, false
	}
	for i, b := range mac(v.storedKey, parts[2]+","+x.serverFirst+","+unproven) {
		key[i] ^= b
	}
	copy(k.client[:], key)
	copy(k.server[:], v.serverKey)
	return k, v.made(k)
}

// exchangeSCRAM is ServeSCRAM, and returns the messages.
func exchangeSCRAM(rw io.ReadWriter, v Verifier, channelBinding []byte) (x exchange, err error) {
	offer := []string{mechSCRAM}
	if channelBinding != nil {
		offer = []string{mechSCRAMPlus, mechSCRAM}
	}
	if err := send(rw, pgwire.AppendAuthenticationSASL(nil, offer...)); err != nil {
		return x, err
	}
	body, err := readAnswer(rw, maxAnswer)
	if err != nil {
		return x, err
	}
	first, err := parseInitial(body, channelBinding != nil)
	if err != nil {
		return x, err
	}
	conv, err := conversation(v, channelBinding)
	if err != nil {
		return x, err
	}
	challenge, err := conv.Step(first)
	if err != nil {
		return x, firstError(challenge)
	}
	if conv.AuthzID() != "" {
		return x, pgwire.RefusalIdentity.With()
	}
	if err := send(rw, pgwire.AppendAuthenticationSASLContinue(nil, []byte(challenge))); err != nil {
		return x, err
	}
	if body, err = readAnswer(rw, maxAnswer); err != nil {
		return x, err
	}
	final, err := conv.Step(string(body))
	switch {
	case err != nil && final != scram.ErrInvalidProof:
		// The error of xdg-go/scram quotes the client's message. PostgreSQL doesn't.
		return x, pgwire.RefusalMalformedSCRAM.With()
	case err != nil || v.doomed:
		return x, ErrBadPassword
	}
	return exchange{first, challenge, string(body)}, send(rw, pgwire.AppendAuthenticationSASLFinal(nil, []byte(final)))
}

// conversation returns a conversation that checks against v, which belongs to the user of the start-up packet. It
// ignores the user name in the client's message, as PostgreSQL does.
func conversation(v Verifier, channelBinding []byte) (*scram.ServerConversation, error) {
	lookup := func(string) (scram.StoredCredentials, error) { return v.credentials(), nil }
	server, err := scram.SHA256.NewServer(lookup)
	if err != nil {
		return nil, fmt.Errorf("set up SCRAM server: %w", err)
	}
	if channelBinding != nil {
		return server.NewConversationWithChannelBinding(binding(channelBinding)), nil
	}
	return server.NewConversation(), nil
}

// parseInitial reads a SASLInitialResponse. It checks that mechanism and gs2 header agree about channel binding,
// because xdg-go/scram doesn't see the mechanism, and it checks the inner length, because pgproto3 doesn't.
func parseInitial(body []byte, plus bool) (string, error) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) != int64(len(rest)-4) {
		return "", pgwire.RefusalMalformedInitial.With()
	}
	mechanism, first := string(name), string(rest[4:])
	if mechanism != mechSCRAM && !(plus && mechanism == mechSCRAMPlus) {
		return "", pgwire.RefusalMechanism.With()
	}
	if bound := strings.HasPrefix(first, "p="); bound != (mechanism == mechSCRAMPlus) {
		return "", pgwire.RefusalBindingMix.With()
	}
	return first, nil
}

// firstError translates a SCRAM error value for a refused client-first message.
func firstError(value string) error {
	if value == scram.ErrServerDoesSupportChannelBinding {
		return pgwire.RefusalBindingDowngrade.With()
	}
	return pgwire.RefusalMalformedSCRAM.With()
}

// ServePassword asks the client for its password in cleartext and calls matches to check it. It refuses an empty
// password. The caller sends AuthenticationOk.
func ServePassword(rw io.ReadWriter, matches func(password string) bool) error {
	if err := send(rw, pgwire.AppendAuthenticationCleartext(nil)); err != nil {
		return err
	}
	body, err := readAnswer(rw, maxCleartext)
	if err != nil {
		return err
	}
	got, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) != 0 {
		return pgwire.RefusalPasswordSize.With()
	}
	if !matches(string(got)) || len(got) == 0 {
		return ErrBadPassword
	}
	return nil
}

// readAnswer reads the body of a client's PasswordMessage, SASLInitialResponse or SASLResponse, which all have type p. The
// body has most bytes at most.
func readAnswer(r io.Reader, most int) ([]byte, error) {
	typ, body, err := pgwire.ReadMessage(r, most)
	long := errors.As(err, new(*pgwire.LengthError))
	switch {
	case err != nil && !long:
		return nil, fmt.Errorf("read the client's authentication message: %w", err)
	case typ != 'p':
		return nil, pgwire.RefusalNotPassword.With(typ)
	case long:
		return nil, pgwire.RefusalAnswerLength.With()
	}
	return body, nil
}

func send(w io.Writer, msg []byte) error {
	if _, err := w.Write(msg); err != nil {
		return fmt.Errorf("send an authentication message: %w", err)
	}
	return nil
}
