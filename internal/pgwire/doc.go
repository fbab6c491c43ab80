// Package pgwire reads and writes the PostgreSQL wire protocol, version 3, as far as a pooler needs it.
//
// It has three parts and knows nothing of pools:
//
//   - frame.go and startup.go read whole messages at set-up. They read exactly one message and not a byte more,
//     so that a connection can change hands between two messages.
//   - scanner.go finds message boundaries in a stream that its caller relays. It is the hot part: it skips
//     bodies without looking at them, and allocates only for a wanted body that is split between two chunks.
//   - encode.go builds the messages that pgagroal itself sends, with pgproto3; refusals.go is the table of its errors.
//     errors.go reads errors of servers and passes them on.
//
// Callers decode the contents of other messages with pgproto3. Its readers are not used, because they read ahead.
package pgwire
