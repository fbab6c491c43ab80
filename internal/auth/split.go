package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// A login whose two halves are in two processes: one reads the client's bytes and takes them apart (RelaySCRAM), the
// other has the verifiers and decides (Verifier.Challenge and Verifier.Judge). The first one learns nothing that would
// let it log in itself, and from the exchange come keys that only the client and the second one have: see Seal.

// maxClientNonce is the greatest length of a client's nonce, in bytes. That of libpq has 24.
const maxClientNonce = 256

// Challenge is what a client's proof depends on.
type Challenge struct {
	Nonce      string // the client's, followed by the server's
	Salt       []byte
	Iterations int
}

// ClientProof is what a client answers to a Challenge.
type ClientProof struct {
	// Binding is the gs2 header, followed by the channel binding data.
	Binding string
	Proof   []byte
}

// Judge is the process that decides.
type Judge interface {
	// Challenge answers the nonce of a client.
	Challenge(nonce string) (Challenge, error)
	// Judge returns what proves to the client that the judge knows the password, too.
	Judge(p ClientProof) (signature []byte, err error)
}

// RelaySCRAM is ServeSCRAM for a process without verifiers.
func RelaySCRAM(rw io.ReadWriter, channelBinding []byte, j Judge) error {
	offer := []string{mechSCRAM}
	if channelBinding != nil {
		offer = []string{mechSCRAMPlus, mechSCRAM}
	}
	if err := send(rw, pgwire.AppendAuthenticationSASL(nil, offer...)); err != nil {
		return err
	}
	body, err := readAnswer(rw, maxAnswer)
	if err != nil {
		return err
	}
	first, err := parseInitial(body, channelBinding != nil)
	if err != nil {
		return err
	}
	header, nonce, err := splitFirst(first, channelBinding != nil)
	if err != nil {
		return err
	}
	c, err := j.Challenge(nonce)
	if err != nil {
		return err
	}
	if err := send(rw, pgwire.AppendAuthenticationSASLContinue(nil, []byte(c.text()))); err != nil {
		return err
	}
	if body, err = readAnswer(rw, maxAnswer); err != nil {
		return err
	}
	p, err := splitFinal(string(body), c.Nonce, header+string(boundTo(header, channelBinding)))
	if err != nil {
		return err
	}
	signature, err := j.Judge(p)
	if err != nil {
		return err
	}
	return send(rw, pgwire.AppendAuthenticationSASLFinal(nil, []byte("v="+base64.StdEncoding.EncodeToString(signature))))
}

const boundHeader = "p=tls-server-end-point,,"

func boundTo(header string, channelBinding []byte) []byte {
	if header == boundHeader {
		return channelBinding
	}
	return nil
}

// splitFirst takes a client's first message apart. The user name in it is ignored, as PostgreSQL does.
func splitFirst(first string, plus bool) (header, nonce string, err error) {
	malformed := pgwire.RefusalMalformedSCRAM.With()
	parts := strings.Split(first, ",")
	if len(parts) != 4 || !strings.HasPrefix(parts[2], "n=") || !strings.HasPrefix(parts[3], "r=") {
		return "", "", malformed
	}
	if parts[1] != "" {
		return "", "", pgwire.RefusalIdentity.With()
	}
	header, nonce = parts[0]+",,", parts[3][2:]
	switch {
	case parts[2] != "n=" || !goodNonce(nonce):
		return "", "", malformed
	case header == "y,," && plus:
		return "", "", pgwire.RefusalBindingDowngrade.With()
	case header != "n,," && header != "y,," && header != boundHeader:
		return "", "", malformed
	}
	return header, nonce, nil
}

func goodNonce(nonce string) bool {
	return nonce != "" && len(nonce) <= maxClientNonce &&
		!strings.ContainsFunc(nonce, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' })
}

// splitFinal takes a client's last message apart, and checks all of it but the proof.
func splitFinal(final, nonce, binding string) (ClientProof, error) {
	malformed := pgwire.RefusalMalformedSCRAM.With()
	parts := strings.Split(final, ",")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "c=") || parts[1] != "r="+nonce || !strings.HasPrefix(parts[2], "p=") {
		return ClientProof{}, malformed
	}
	got, err := base64.StdEncoding.DecodeString(parts[0][2:])
	proof, bad := base64.StdEncoding.DecodeString(parts[2][2:])
	if err != nil || bad != nil || string(got) != binding || len(proof) != sha256.Size {
		return ClientProof{}, malformed
	}
	return ClientProof{Binding: binding, Proof: proof}, nil
}

// text is the server's first message.
func (c Challenge) text() string {
	return "r=" + c.Nonce + ",s=" + base64.StdEncoding.EncodeToString(c.Salt) + ",i=" + strconv.Itoa(c.Iterations)
}

// Challenge answers the nonce of a client that wants to prove that it knows the verifier's password. ok is false for a
// nonce that no client sends.
func (v Verifier) Challenge(clientNonce string) (c Challenge, ok bool) {
	return Challenge{Nonce: clientNonce + rand.Text(), Salt: v.salt, Iterations: v.iterations}, goodNonce(clientNonce)
}

// Judge checks the answer to a Challenge of v, which began with clientNonce. endPoints are those of pgagroal's own
// certificates: a client that has bound its login to another certificate has talked to somebody in between.
func (v Verifier) Judge(clientNonce string, c Challenge, p ClientProof, endPoints [][]byte) (signature []byte, seal Seal, err error) {
	if len(p.Proof) != sha256.Size || !mayBind(p.Binding, endPoints) {
		return nil, Seal{}, ErrBadPassword
	}
	message := "n=,r=" + clientNonce + "," + c.text() + ",c=" + base64.StdEncoding.EncodeToString([]byte(p.Binding)) + ",r=" + c.Nonce
	key := mac(v.storedKey, message)
	for i := range key {
		key[i] ^= p.Proof[i]
	}
	if stored := sha256.Sum256(key); !hmac.Equal(stored[:], v.storedKey) || v.doomed {
		return nil, Seal{}, ErrBadPassword
	}
	return mac(v.serverKey, message), newSeal(v.serverKey, message), nil
}

func mayBind(binding string, endPoints [][]byte) bool {
	if binding == "n,," {
		return true
	}
	data, bound := strings.CutPrefix(binding, boundHeader)
	if !bound {
		return binding == "y,," && len(endPoints) == 0
	}
	for _, e := range endPoints {
		if data == string(e) {
			return true
		}
	}
	return false
}

// Seal shows that a message comes from one of the two ends of a SCRAM exchange, and is the one that was sent. Whoever is
// in between can't make one, because the keys follow from the password, and can't use one twice, because they follow
// from the nonces, too.
type Seal struct{ request, reply [sha256.Size]byte }

// SealSize is the length of a seal in bytes.
const SealSize = sha256.Size

// newSeal derives the keys. What is authenticated in SCRAM itself begins with n=, so no signature of it is a key.
func newSeal(serverKey []byte, message string) (s Seal) {
	copy(s.request[:], mac(serverKey, "pgagroal request,"+message))
	copy(s.reply[:], mac(serverKey, "pgagroal reply,"+message))
	return s
}

// String hides the keys.
func (s Seal) String() string { return "[seal]" }

// GoString hides the keys.
func (s Seal) GoString() string { return s.String() }

// Request returns the seal of the client's only request.
func (s Seal) Request(text []byte) []byte { return mac(s.request[:], string(text)) }

// Reply returns the seal of a piece of the reply. The pieces are numbered, so that none can be left out.
func (s Seal) Reply(number int, last bool, piece []byte) []byte {
	head := binary.BigEndian.AppendUint64(nil, uint64(number)<<1)
	if last {
		head[len(head)-1] |= 1
	}
	return mac(s.reply[:], string(head)+string(piece))
}
