package config

import "log/slog"

// Redacted is what a Secret shows instead of its content.
const Redacted = "********"

// Secret is a password or key that hides itself from logs, errors and encoders.
type Secret string

// Reveal returns the content; call it only where the content is used.
func (s Secret) Reveal() string { return string(s) }

// String returns a fixed mask, whatever the content.
func (s Secret) String() string { return Redacted }

// GoString returns a fixed mask, for %#v.
func (s Secret) GoString() string { return Redacted }

// LogValue returns a fixed mask, for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns a fixed mask, for JSON and other encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
