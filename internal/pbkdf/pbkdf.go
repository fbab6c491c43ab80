// Package pbkdf derives keys from passwords: PBKDF2 with HMAC-SHA-256, which SCRAM and the master key use.
//
// It is one call of the standard library, in a package of its own because of the tests: the race detector makes it 20 times
// slower, and it has nothing that could race. So programs are tested with a race detector that leaves out this package, HMAC and
// SHA-256. It doesn't leave out all of crypto: the linker then takes generic code of package sync from there, which the
// detector doesn't see, and it reports races in every sync.Map. The call has to be here, because the library's function is
// generic: its code belongs to the package that calls it.
package pbkdf

import (
	"crypto/pbkdf2"
	"crypto/sha256"
)

// Key returns a key of size bytes. It takes a quarter of a microsecond for each round and each 32 bytes of the key. The
// error says which limit of FIPS 140 the arguments have missed, if that mode is on.
func Key(password string, salt []byte, rounds, size int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, salt, rounds, size)
}
