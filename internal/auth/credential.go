package auth

import (
	"crypto/md5"
	"encoding/hex"
)

// Credential gives the answers for a login to a server: from the password, or from values that a server accepts
// instead of it. Its methods may wait as long as the login may.
type Credential interface {
	// Known reports whether there are any answers.
	Known() bool
	// Keys answers a server that asks for SCRAM.
	Keys(Factors) (Keys, error)
	// MD5 answers a server that asks for md5, with MD5Secret.
	MD5() (string, error)
	// Password answers a server that asks for the password itself.
	Password() (string, error)
}

// Plain is the Credential of a known password.
type Plain struct {
	User, Secret string
	Cache        *ClientKeys // may be nil: see ClientKeys.Derive
}

// String hides the password.
func (p Plain) String() string { return p.User }

// GoString hides the password.
func (p Plain) GoString() string { return p.String() }

// Known implements Credential.
func (p Plain) Known() bool { return p.Secret != "" }

// Keys implements Credential.
func (p Plain) Keys(f Factors) (Keys, error) { return p.Cache.Derive(p.User, p.Secret, f) }

// MD5 implements Credential.
func (p Plain) MD5() (string, error) { return MD5Secret(p.User, p.Secret), nil }

// Password implements Credential.
func (p Plain) Password() (string, error) { return p.Secret, nil }

// MD5Secret returns the hash that an answer to md5 needs instead of the password: the hash that PostgreSQL stores,
// without its prefix. It is a secret: it is enough to log in, and a weak password is easily found from it.
func MD5Secret(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return hex.EncodeToString(sum[:])
}

// md5Answer returns the answer to a server that requests md5. Servers request it for roles whose password is stored as
// an MD5 hash; pgagroal itself requests it from clients by ServeMD5.
func md5Answer(secret string, salt [4]byte) string {
	outer := md5.Sum(append([]byte(secret), salt[:]...))
	return "md5" + hex.EncodeToString(outer[:])
}
