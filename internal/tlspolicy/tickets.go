package tlspolicy

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Tickets is what keys of session tickets are derived from. The supervisor draws Seed
// at its start and gives it to every worker, so that a client can resume with any of
// them. Tickets without a Seed are off.
type Tickets struct {
	Seed Secret           // 32 random bytes
	Use  string           // "clients", "metrics", ...: a ticket serves one use
	Now  func() time.Time // nil: time.Now
}

// key returns the key of a day (in days since 1970, UTC). It changes with the day, with
// the use, with any of the material and with the certificate that is shown: a resumed
// session hashes that certificate for channel binding.
func (t Tickets) key(day int64, digest, leaf [sha256.Size]byte) [32]byte {
	info := fmt.Sprintf("pgagroal-go session ticket\x00%s\x00%d\x00%s%s", t.Use, day, digest[:], leaf[:])
	b, err := hkdf.Key(sha256.New, t.Seed, nil, info, 32)
	if err != nil {
		panic(err) // only for lengths that SHA-256 can't give
	}
	return [32]byte(b)
}

// rotation sets the keys of one Config when the day changes.
type rotation struct {
	tickets      Tickets
	digest, leaf [sha256.Size]byte
	config       *tls.Config
	mu           sync.Mutex // handshakes run in goroutines
	day          int64      // that config has keys for; guarded by mu
}

// turn is called at each handshake. Tickets of yesterday still resume.
func (r *rotation) turn() {
	if len(r.tickets.Seed) == 0 {
		return
	}
	now := time.Now
	if r.tickets.Now != nil {
		now = r.tickets.Now
	}
	day := now().Unix() / int64(24*time.Hour/time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	if day == r.day {
		return
	}
	r.day = day
	r.config.SetSessionTicketKeys([][32]byte{
		r.tickets.key(day, r.digest, r.leaf), r.tickets.key(day-1, r.digest, r.leaf),
	})
}
