package auth

import (
	"crypto/sha256"
	"crypto/subtle"
)

// EqualPasswords compares in a time that depends neither on the contents nor on whether the lengths are equal.
func EqualPasswords(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
