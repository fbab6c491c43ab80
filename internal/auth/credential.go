package auth

import (
	"crypto/md5"
	"encoding/hex"
)

// Credential is what a login to a server can answer with: a password, or only what a server needs instead of it. Its
// methods may take as long as the login may.
type Credential interface {
	// Known reports whether there is anything to answer with.
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
	Cache        *ClientKeys // nil derives keys each time
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

// MD5Secret is what an answer to md5 needs of a password: a hash as PostgreSQL stores it, without its prefix. Whoever
// has it can log in, and a weak password is soon found from it.
func MD5Secret(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return hex.EncodeToString(sum[:])
}

// md5Answer is the answer to a server that requests md5. Only old servers do; clients are never asked for it.
func md5Answer(secret string, salt [4]byte) string {
	outer := md5.Sum(append([]byte(secret), salt[:]...))
	return "md5" + hex.EncodeToString(outer[:])
}
