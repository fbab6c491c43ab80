package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"sync"

	"github.com/pgagroal-go/pgagroal/internal/pbkdf"
)

const (
	// maxIterations limits how long a server can make this process compute: about a second of one core.
	maxIterations = 2_000_000
	// maxSalts is how many salts of one user are kept. A role has one salt per server, but a hostile server may send a
	// new one each time.
	maxSalts = 16
	// MaxSalt is the greatest accepted length of a server's salt, in bytes. PostgreSQL's salts have 16.
	MaxSalt = 256
)

// Factors are the values that SCRAM keys depend on, together with the password. The server chooses them.
type Factors struct {
	Salt       string // raw bytes
	Iterations int
}

// check returns an error for factors outside the limits.
func (f Factors) check() error {
	switch {
	case f.Iterations < 1 || f.Iterations > maxIterations:
		return serverBroke("it asks for a number of SCRAM iterations outside 1 to %d", maxIterations)
	case len(f.Salt) == 0 || len(f.Salt) > MaxSalt:
		return serverBroke("it sends a SCRAM salt outside 1 to %d bytes", MaxSalt)
	}
	return nil
}

// Keys are what a SCRAM client needs instead of the password (RFC 5802). They don't contain the password, but are
// secret, because they are enough to log in wherever the factors are the same.
type Keys struct{ client, server [sha256.Size]byte }

// KeysSize is the length of encoded Keys, in bytes.
const KeysSize = 2 * sha256.Size

// Encode returns the keys as bytes, for DecodeKeys. The bytes are as secret as the keys.
func (k Keys) Encode() []byte { return append(k.client[:], k.server[:]...) }

// DecodeKeys is the reverse of Encode. ok is false if b has the wrong length.
func DecodeKeys(b []byte) (k Keys, ok bool) {
	if len(b) != KeysSize {
		return k, false
	}
	copy(k.client[:], b)
	copy(k.server[:], b[sha256.Size:])
	return k, true
}

// String hides the keys.
func (k Keys) String() string { return "[keys]" }

// GoString hides the keys.
func (k Keys) GoString() string { return k.String() }

// DeriveKeys derives the keys of a password, which takes about a millisecond for 4096 iterations.
func DeriveKeys(password string, f Factors) (Keys, error) {
	if err := f.check(); err != nil {
		return Keys{}, err
	}
	salted, err := pbkdf.Key(prepPassword(password), []byte(f.Salt), f.Iterations, sha256.Size)
	if err != nil {
		return Keys{}, serverBroke("SCRAM keys could not be derived")
	}
	return Keys{client: [sha256.Size]byte(mac(salted, "Client Key")), server: [sha256.Size]byte(mac(salted, "Server Key"))}, nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// ClientKeys caches derived keys by user, password and factors, so that only the first login of a user pays for their
// derivation. It keeps the most recently used users. It is safe for concurrent use.
type ClientKeys struct {
	mu      sync.Mutex
	max     int
	entries map[clientID]*list.Element // values: *clientEntry
	recent  list.List                  // most recently used first
}

type clientID struct{ user, password string }

type clientEntry struct {
	id   clientID
	mu   sync.Mutex
	keys map[Factors]Keys
}

// NewClientKeys returns an empty cache for max users, at least one.
func NewClientKeys(max int) *ClientKeys {
	return &ClientKeys{max: max, entries: make(map[clientID]*list.Element)}
}

// String hides the content.
func (k *ClientKeys) String() string { return "[client keys]" }

// GoString hides the content.
func (k *ClientKeys) GoString() string { return k.String() }

// Derive returns the keys of a user's password. Callers that need the same new keys at the same time share one
// derivation. A nil cache derives the keys each time.
func (k *ClientKeys) Derive(user, password string, f Factors) (Keys, error) {
	if k == nil {
		return DeriveKeys(password, f)
	}
	e := k.entry(clientID{user, password})
	e.mu.Lock()
	defer e.mu.Unlock()
	if keys, ok := e.keys[f]; ok {
		return keys, nil
	}
	keys, err := DeriveKeys(password, f)
	if err != nil {
		return Keys{}, err
	}
	if len(e.keys) >= maxSalts {
		clear(e.keys)
	}
	e.keys[f] = keys
	return keys, nil
}

// entry returns the entry of a user, or a new one. It drops entries beyond max.
func (k *ClientKeys) entry(id clientID) *clientEntry {
	k.mu.Lock()
	defer k.mu.Unlock()
	if el, ok := k.entries[id]; ok {
		k.recent.MoveToFront(el)
		return el.Value.(*clientEntry)
	}
	e := &clientEntry{id: id, keys: make(map[Factors]Keys)}
	k.entries[id] = k.recent.PushFront(e)
	for k.recent.Len() > max(k.max, 1) {
		last := k.recent.Back()
		delete(k.entries, last.Value.(*clientEntry).id)
		k.recent.Remove(last)
	}
	return e
}
