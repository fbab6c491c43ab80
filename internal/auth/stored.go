package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Stored is what a server stores of a role's password: a SCRAM verifier, or an MD5 hash. It is a secret. The zero value
// is that of a role without a password.
type Stored struct {
	verifier Verifier
	md5      string // as MD5Secret returns it
}

// errNotStored doesn't show the text, which may be a password.
var errNotStored = errors.New("neither a SCRAM-SHA-256 verifier nor an MD5 hash")

// ParseStored reads a password as PostgreSQL stores it in pg_authid.rolpassword.
func ParseStored(text string) (Stored, error) {
	if sum, ok := strings.CutPrefix(text, "md5"); ok {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != 16 {
			return Stored{}, errNotStored
		}
		return Stored{md5: strings.ToLower(sum)}, nil
	}
	v, err := ParseVerifier(text)
	if err != nil || v.factors().check() != nil {
		return Stored{}, errNotStored
	}
	return Stored{verifier: v}, nil
}

// String hides the content.
func (s Stored) String() string { return "[stored password]" }

// GoString hides the content.
func (s Stored) GoString() string { return s.String() }

// Hashed reports whether the password is stored as an MD5 hash.
func (s Stored) Hashed() bool { return s.md5 != "" }

// Is reports whether two roles have the same stored password.
func (s Stored) Is(other Stored) bool {
	return s.md5 == other.md5 && s.verifier.Encode() == other.verifier.Encode()
}

// Look is what anybody learns of a stored password who tries to log in: how the password is asked for. Users that don't
// exist need one, too, or they could be told from the others. The zero value is that of pgagroal's own users.
type Look struct {
	hashed                bool
	iterations, saltBytes int
}

// Look returns the look of a stored password. last is that of another one: an MD5 hash says nothing of SCRAM.
func (s Stored) Look(last Look) Look {
	if s.Hashed() {
		last.hashed = true
		return last
	}
	return Look{false, s.verifier.iterations, len(s.verifier.salt)}
}

// Hashed reports whether a password of that look is asked for by md5.
func (l Look) Hashed() bool { return l.hashed }

// Proof is what a client has proven to know: the Credential for logins to the servers that store the password as it was
// when the client proved it. It contains no password. It never changes, so goroutines can share it. The zero value is the
// proof of nothing: each answer fails with ErrStale.
type Proof struct {
	factors Factors
	keys    Keys
	md5     string
}

// ErrStale says that a server asks for another password than the one that the client has proven.
var ErrStale = errors.New("the server asks for another password than the one that was proven")

// String hides the content.
func (p Proof) String() string { return "[proof]" }

// GoString hides the content.
func (p Proof) GoString() string { return p.String() }

// Known implements Credential.
func (p *Proof) Known() bool { return true }

// Keys implements Credential.
func (p *Proof) Keys(f Factors) (Keys, error) {
	if p.factors != f {
		return Keys{}, ErrStale
	}
	return p.keys, nil
}

// MD5 implements Credential.
func (p *Proof) MD5() (string, error) {
	if p.md5 == "" {
		return "", ErrStale
	}
	return p.md5, nil
}

// Password implements Credential. The client may not have shown its password, and it isn't kept.
func (p *Proof) Password() (string, error) { return "", &PasswordRequiredError{Method: Password} }

// Check returns the proof that a cleartext password is the stored one, or nil if it isn't. For a verifier that takes a
// derivation of keys.
func (s Stored) Check(user, password string) *Proof {
	if s.md5 != "" {
		if !hmac.Equal([]byte(MD5Secret(user, password)), []byte(s.md5)) {
			return nil
		}
		return &Proof{md5: s.md5}
	}
	return s.verifier.check(password)
}

// Check is Stored.Check. If nothing is stored, it takes the time of a stored password with that look.
func (vs *Verifiers) Check(user, password string, s Stored, look Look) *Proof {
	switch {
	case s.md5 != "" || s.verifier.storedKey != nil:
		return s.Check(user, password)
	case look.hashed:
		_ = MD5Secret(user, password)
		return nil
	}
	return vs.mockLike(user, look).check(password)
}

func (v Verifier) check(password string) *Proof {
	keys, err := DeriveKeys(password, v.factors())
	if err != nil || v.doomed || !v.made(keys) {
		return nil
	}
	return &Proof{factors: v.factors(), keys: keys}
}

func (v Verifier) factors() Factors { return Factors{Salt: string(v.salt), Iterations: v.iterations} }

// made reports whether the verifier is that of these keys.
func (v Verifier) made(k Keys) bool {
	stored := sha256.Sum256(k.client[:])
	return hmac.Equal(stored[:], v.storedKey)
}

// Verifier returns what a SCRAM proof of user is checked against. Without a verifier, which is so for an MD5 hash, too,
// every proof fails, and the client sees the given look.
func (vs *Verifiers) Verifier(user string, s Stored, look Look) Verifier {
	mock := vs.mockLike(user, look) // in any case, so that all cases take the same time
	if s.verifier.storedKey == nil {
		return mock
	}
	return s.verifier
}

// mockLike is mock with another look.
func (vs *Verifiers) mockLike(user string, look Look) Verifier {
	v := vs.mock(user)
	if look.iterations > 0 {
		v.iterations = look.iterations
	}
	for n := 1; len(v.salt) < look.saltBytes; n++ {
		v.salt = append(v.salt, vs.mac("salt", fmt.Sprint(user, "\x00", n))...)
	}
	if look.saltBytes > 0 {
		v.salt = v.salt[:look.saltBytes]
	}
	return v
}

// Mark returns a value that is the same only for the same password of the same user. It is useless to another process.
func (vs *Verifiers) Mark(user, password string) []byte {
	return vs.mac("password", user+"\x00"+password)
}

// ProveSCRAM is ServeSCRAM, and returns the client's proof. A client that knows the password can't keep its keys from
// whoever has the verifier: they follow from what it sends.
func ProveSCRAM(rw io.ReadWriter, v Verifier, channelBinding []byte) (*Proof, error) {
	x, err := exchangeSCRAM(rw, v, channelBinding)
	if err != nil {
		return nil, err
	}
	keys, ok := x.keys(v)
	if !ok {
		return nil, ErrBadPassword
	}
	return &Proof{factors: v.factors(), keys: keys}, nil
}

// ServeMD5 authenticates the client by md5 and returns its proof. The caller sends AuthenticationOk.
func ServeMD5(rw io.ReadWriter, s Stored) (*Proof, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	if err := send(rw, pgwire.AppendAuthenticationMD5(nil, salt)); err != nil {
		return nil, err
	}
	body, err := readAnswer(rw, maxAnswer)
	if err != nil {
		return nil, err
	}
	if !s.Hashed() || !hmac.Equal(body, append([]byte(md5Answer(s.md5, salt)), 0)) {
		return nil, ErrBadPassword
	}
	return &Proof{md5: s.md5}, nil
}
