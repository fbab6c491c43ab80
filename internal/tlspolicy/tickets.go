package tlspolicy

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Tickets has the values that the keys of session tickets are derived from. The supervisor
// generates Seed at its start and gives it to every worker, so that a client can resume
// its session in any worker. Without Seed there are no tickets.
type Tickets struct {
	Seed Secret           // 32 random bytes
	Use  string           // "clients", "metrics", ...: a ticket is good for one use
	Now  func() time.Time // nil: time.Now
}

// key returns the key of a day (in days since 1970, UTC). It depends on the day, on the
// use, on the digest of the material, and on the certificate that is shown, because
// channel binding uses the hash of this certificate in a resumed session, too.
func (t Tickets) key(day int64, digest, leaf [sha256.Size]byte) [32]byte {
	info := fmt.Sprintf("pgagroal-go session ticket\x00%s\x00%d\x00%s%s", t.Use, day, digest[:], leaf[:])
	b, err := hkdf.Key(sha256.New, t.Seed, nil, info, 32)
	if err != nil {
		panic(err) // only for a length that is too great for SHA-256
	}
	return [32]byte(b)
}

// rotation sets the ticket keys of a Config when the day changes.
type rotation struct {
	tickets      Tickets
	digest, leaf [sha256.Size]byte
	config       *tls.Config
	mu           sync.Mutex // handshakes run in several goroutines
	day          int64      // the day whose keys config has; guarded by mu
}

// turn sets the keys of today if config hasn't got them yet. Every handshake calls it. The
// tickets of yesterday remain good.
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
