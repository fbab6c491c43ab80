package ipc

import "fmt"

// Secret is a password or key that crosses a link. It never prints itself.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string { return redacted }

// Format keeps every verb of fmt from printing the secret, even verbs that ignore String, like %d.
func (Secret) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// MarshalJSON keeps the secret out of JSON, that of slog included. (A
// MarshalText would keep it out of the links as well: msgpack asks for it.)
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// A type that holds a secret prints only its own name. By default, fmt would print what a nested
// pointer points to under %s or %d, without calling methods of the fields.

// Format keeps ScramSalt and the secrets of TLS from being printed.
func (ConfigBegin) Format(s fmt.State, _ rune) { hide(s, "ConfigBegin") }

// Format keeps Key and TicketSeed from being printed.
func (ClientTLS) Format(s fmt.State, _ rune) { hide(s, "ClientTLS") }

// Format keeps Key from being printed.
func (ServerTLS) Format(s fmt.State, _ rune) { hide(s, "ServerTLS") }

// Format keeps the Key of Part from being printed.
func (ConfigTLS) Format(s fmt.State, _ rune) { hide(s, "ConfigTLS") }

// Format keeps the Key of Part from being printed.
func (ProberTLS) Format(s fmt.State, _ rune) { hide(s, "ProberTLS") }

// Format keeps Verifier from being printed.
func (ConfigUser) Format(s fmt.State, _ rune) { hide(s, "ConfigUser") }

// Format keeps Key from being printed.
func (LeaseOpened) Format(s fmt.State, _ rune) { hide(s, "LeaseOpened") }

// Format keeps Key from being printed.
func (CancelRequest) Format(s fmt.State, _ rune) { hide(s, "CancelRequest") }

// Format keeps Key from being printed.
func (CancelForward) Format(s fmt.State, _ rune) { hide(s, "CancelForward") }

// Format keeps Secret from being printed.
func (BackendState) Format(s fmt.State, _ rune) { hide(s, "BackendState") }

// Format keeps the Secret of Backend from being printed.
func (HandOver) Format(s fmt.State, _ rune) { hide(s, "HandOver") }

// Format keeps the Secret of Backend from being printed.
func (TakeOver) Format(s fmt.State, _ rune) { hide(s, "TakeOver") }

func hide(s fmt.State, name string) { fmt.Fprint(s, name, redacted) }
