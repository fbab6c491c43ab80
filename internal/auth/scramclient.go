package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// scramClient is the client's side of one SCRAM-SHA-256 exchange (RFC 5802, 7677). xdg-go/scram has one, too, but that
// needs the password itself, which a worker doesn't have.
type scramClient struct {
	header   string // gs2 header
	binding  []byte // channel binding data, which the header announces
	nonce    string
	keys     Keys
	exchange string // client-first-bare, server-first and client-final without its proof
	proven   bool
}

// newScramClient begins an exchange. endPoint is the EndPoint of the server's certificate, nil without TLS. plus says
// that the server offers the PLUS mechanism, so that the channel can be bound.
func newScramClient(endPoint []byte, plus bool) *scramClient {
	c := &scramClient{header: "n,,", nonce: rand.Text()}
	switch {
	case plus:
		c.header, c.binding = "p=tls-server-end-point,,", endPoint
	case endPoint != nil:
		c.header = "y,,"
	}
	return c
}

// first returns the first message. Its user name is empty, as libpq's is, because PostgreSQL ignores it.
func (c *scramClient) first() string { return c.header + c.bare() }

func (c *scramClient) bare() string { return "n=,r=" + c.nonce }

// challenge reads nonce and factors from the server's first message.
func (c *scramClient) challenge(serverFirst string) (nonce string, f Factors, err error) {
	malformed := serverBroke("malformed SCRAM message")
	fields := strings.SplitN(serverFirst, ",", 4)
	if len(fields) < 3 || !strings.HasPrefix(fields[0], "r=") || !strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return "", f, malformed
	}
	nonce = fields[0][2:]
	if !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) {
		return "", f, malformed
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil {
		return "", f, malformed
	}
	f.Salt = string(salt)
	if f.Iterations, err = strconv.Atoi(fields[2][2:]); err != nil {
		f.Iterations = 0 // check refuses it
	}
	return nonce, f, f.check()
}

// final returns the message with the proof.
func (c *scramClient) final(serverFirst, nonce string, keys Keys) string {
	b64 := base64.StdEncoding.EncodeToString
	c.keys = keys
	message := "c=" + b64(append([]byte(c.header), c.binding...)) + ",r=" + nonce
	c.exchange = c.bare() + "," + serverFirst + "," + message
	stored := sha256.Sum256(keys.client[:])
	proof := mac(stored[:], c.exchange)
	for i := range proof {
		proof[i] ^= keys.client[i]
	}
	return message + ",p=" + b64(proof)
}

// verify checks the server's last message, with which the server proves that it knows the password, too.
func (c *scramClient) verify(serverFinal string) error {
	value, _, _ := strings.Cut(serverFinal, ",")
	signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, "v="))
	if !strings.HasPrefix(value, "v=") || err != nil || !hmac.Equal(signature, mac(c.keys.server[:], c.exchange)) {
		return ErrServerNotProven
	}
	c.proven = true
	return nil
}
