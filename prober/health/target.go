package health

import (
	"log/slog"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
)

// Login is a user that a probe may log in as.
type Login struct {
	User     string
	Database string
	Password string `json:"-"` // empty: none is known; never printed
}

// String shows everything but the password.
func (l Login) String() string { return l.User + "@" + l.Database }

// GoString is String.
func (l Login) GoString() string { return l.String() }

// LogValue is String, for log/slog.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.String()) }

// Target describes one probe of one server.
type Target struct {
	ID      uint64        // copied to the answer
	Network string        // "tcp" or "unix"
	Address string        // host:port with a numeric host, or the path of a socket
	Timeout time.Duration // for all connections of the probe together; two seconds when zero
	// Logins are tried in this order until the server accepts one; without logins the probe only sees whether the
	// server answers.
	Logins []Login
	// TLS encrypts connections over tcp; nil means no encryption.
	TLS *tlsdial.Server
	// Methods are the words of require_auth that the server may ask for; empty for all.
	Methods []string
}
