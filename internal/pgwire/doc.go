// Package pgwire reads and writes the PostgreSQL wire protocol, version 3, as far as a pooler needs it.
//
// It has three parts, which are independent of the pooler:
//
//   - frame.go and startup.go read whole messages at set-up. They take exactly the bytes of one message from
//     the reader and never one more, so that a connection can change hands between two messages.
//   - scanner.go finds message boundaries in a stream that somebody else moves. It is the hot part: it skips
//     bodies without looking at them and allocates nothing.
//   - encode.go and errors.go build the messages that we send ourselves, by way of pgproto3.
//
// Message contents are decoded with pgproto3 by the callers; its readers are not used, because they read ahead.
package pgwire
