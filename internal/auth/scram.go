package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"
)

// SASL mechanisms, as PostgreSQL names them.
const (
	mechSCRAM     = "SCRAM-SHA-256"
	mechSCRAMPlus = "SCRAM-SHA-256-PLUS"
)

// DefaultIterations is the number of PBKDF2 rounds that PostgreSQL uses by default.
const DefaultIterations = 4096

const saltLen = 16 // as in PostgreSQL

// Verifier has the values against which a client's SCRAM proof is checked. It doesn't contain the password, but is
// still a secret.
type Verifier struct {
	salt       []byte
	iterations int
	storedKey  []byte
	serverKey  []byte
	doomed     bool // every proof fails: the user is unknown or has an empty password
}

// String hides the keys.
func (v Verifier) String() string { return "[verifier]" }

// GoString hides the keys.
func (v Verifier) GoString() string { return v.String() }

// LogValue hides the keys.
func (v Verifier) LogValue() slog.Value { return slog.StringValue(v.String()) }

// NewVerifier derives the verifier of a password, which takes about a millisecond for 4096 iterations.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	client, err := scram.SHA256.NewClientUnprepped("", prepPassword(password), "")
	if err != nil {
		return Verifier{}, errors.New("derive SCRAM verifier")
	}
	factors := scram.KeyFactors{Salt: string(salt), Iters: iterations}
	stored, err := client.GetStoredCredentialsWithError(factors)
	if err != nil {
		return Verifier{}, errors.New("derive SCRAM verifier: salt or iterations out of range")
	}
	return Verifier{salt: salt, iterations: iterations, storedKey: stored.StoredKey, serverKey: stored.ServerKey}, nil
}

// ParseVerifier reads a verifier as PostgreSQL stores it in pg_authid.rolpassword.
func ParseVerifier(s string) (Verifier, error) {
	bad := errors.New("not a SCRAM-SHA-256 verifier")
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != mechSCRAM {
		return Verifier{}, bad
	}
	rounds, salt, ok1 := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(rounds)
	if !ok1 || !ok2 || err != nil || n < 1 {
		return Verifier{}, bad
	}
	v := Verifier{iterations: n}
	for _, field := range []struct {
		to   *[]byte
		from string
	}{{&v.salt, salt}, {&v.storedKey, stored}, {&v.serverKey, server}} {
		if *field.to, err = base64.StdEncoding.DecodeString(field.from); err != nil {
			return Verifier{}, bad
		}
	}
	if len(v.salt) == 0 || len(v.storedKey) != sha256.Size || len(v.serverKey) != sha256.Size {
		return Verifier{}, bad
	}
	return v, nil
}

// Encode returns the verifier as PostgreSQL stores it, for ParseVerifier. For a verifier that fails with every proof it
// returns nothing. The text is as secret as the verifier.
func (v Verifier) Encode() string {
	if v.doomed {
		return ""
	}
	b64 := base64.StdEncoding.EncodeToString
	return mechSCRAM + "$" + strconv.Itoa(v.iterations) + ":" + b64(v.salt) + "$" + b64(v.storedKey) + ":" + b64(v.serverKey)
}

// credentials converts the Verifier for xdg-go/scram.
func (v Verifier) credentials() scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(v.salt), Iters: v.iterations},
		StoredKey:  v.storedKey,
		ServerKey:  v.serverKey,
	}
}

// Verifiers holds a verifier for each user whose password is known, and makes one up for everybody else, so that a
// client can't find out which users exist. A login of an unknown user by SCRAM has the same salt at each attempt, the
// same messages, and the same timing, because nothing is derived for either kind of user.
//
// It is safe for concurrent use.
type Verifiers struct {
	secret []byte
	mu     sync.RWMutex
	users  map[string]Verifier
	// shown has, for each user, a MAC of the cleartext password that was right before, so that the next check is quick.
	shown map[string][]byte
}

// NewVerifiers returns an empty store. Processes with the same secret (32 random bytes) use the same salts. Then clients
// can keep the keys that they derived, and can't tell which process answers. If secret is nil, the store makes its own.
func NewVerifiers(secret []byte) *Verifiers {
	if secret == nil {
		secret = make([]byte, sha256.Size)
		_, _ = rand.Read(secret) // never fails
	}
	return &Verifiers{secret: secret, users: make(map[string]Verifier), shown: make(map[string][]byte)}
}

// String hides the content.
func (vs *Verifiers) String() string { return "[verifiers]" }

// GoString hides the content.
func (vs *Verifiers) GoString() string { return vs.String() }

// Derive returns the verifier of a user's password, which takes a millisecond or two. A user with an empty password
// can't log in, as in PostgreSQL.
func (vs *Verifiers) Derive(user, password string) (Verifier, error) {
	if password == "" {
		return vs.mock(user), nil
	}
	return NewVerifier(password, vs.salt(user), DefaultIterations)
}

// Replace replaces the whole content of the store.
func (vs *Verifiers) Replace(users map[string]Verifier) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	vs.users, vs.shown = maps.Clone(users), make(map[string][]byte)
}

// Shown reports whether Matches has accepted this cleartext password before. It derives nothing.
func (vs *Verifiers) Shown(user, password string) bool {
	vs.mu.RLock()
	_, known := vs.users[user]
	shown := vs.shown[user]
	vs.mu.RUnlock()
	return known && hmac.Equal(shown, vs.mac("password", user+"\x00"+password))
}

// Matches reports whether a cleartext password is that of user. A wrong password costs a derivation each time, the
// right one only the first time.
func (vs *Verifiers) Matches(user, password string) bool {
	if vs.Shown(user, password) {
		return true
	}
	vs.mu.RLock()
	v, known := vs.users[user]
	vs.mu.RUnlock()
	if !known {
		v = vs.mock(user)
	}
	got, err := NewVerifier(password, v.salt, v.iterations)
	if err != nil || v.doomed || !hmac.Equal(got.storedKey, v.storedKey) {
		return false
	}
	vs.remember(user, password, v)
	return true
}

// remember stores that password was right for the verifier v, unless Replace has given user another one meanwhile.
func (vs *Verifiers) remember(user, password string, v Verifier) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if now, known := vs.users[user]; known && now.Encode() == v.Encode() {
		vs.shown[user] = vs.mac("password", user+"\x00"+password)
	}
}

// Lookup returns the verifier of user, or one that fails with every proof.
func (vs *Verifiers) Lookup(user string) Verifier {
	vs.mu.RLock()
	known, ok := vs.users[user]
	vs.mu.RUnlock()
	mock := vs.mock(user) // also for a known user, so that both cases take the same time
	if ok {
		return known
	}
	return mock
}

func (vs *Verifiers) mock(user string) Verifier {
	return Verifier{
		salt:       vs.salt(user),
		iterations: DefaultIterations,
		storedKey:  vs.mac("stored", user),
		serverKey:  vs.mac("server", user),
		doomed:     true,
	}
}

func (vs *Verifiers) salt(user string) []byte { return vs.mac("salt", user)[:saltLen] }

func (vs *Verifiers) mac(purpose, text string) []byte {
	m := hmac.New(sha256.New, vs.secret)
	m.Write([]byte(purpose + "\x00" + text))
	return m.Sum(nil)
}

// prepPassword applies SASLprep. If that fails it uses the password unchanged, as PostgreSQL does.
func prepPassword(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}

// EndPoint returns the channel binding tls-server-end-point (RFC 5929) of a server's certificate: a hash of it. It
// returns nil for a certificate whose signature names no hash function (Ed25519); then there is no channel binding.
//
// It is for logins to servers. For clients tlsmem.EndPoint leaves out RSA-PSS, which old releases of libpq can't bind to.
func EndPoint(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		sum := sha256.Sum256(cert.Raw)
		return sum[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(cert.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(cert.Raw)
		return sum[:]
	}
	return nil
}

// binding converts channel binding data for xdg-go/scram.
func binding(data []byte) scram.ChannelBinding {
	return scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: data}
}
