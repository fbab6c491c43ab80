// Package relay understands the bytes between a client and a server, as far as a
// pool needs to: message boundaries, transaction status, parameters, prepared
// statements, and the answers that the server still owes. The package is pure: the
// caller gives it a chunk of bytes, and it returns the bytes to send. It knows no
// socket, no clock, no configuration and no other process, and it allocates nothing
// while queries succeed.
//
// A session talks to a Conversation (conversation.go). There are two kinds. Direct
// (direct.go, line.go) serves a client that keeps its backend: it reads the bytes
// and passes them on unchanged. Pooled (pooled.go) serves a client that gets a
// backend for each transaction: rewrite.go handles bytes to the server, answers.go
// bytes to the client, lost.go the loss of a backend, and limits.go bounds what a
// client may use.
//
// Everything here belongs to the worker's event loop.
package relay
