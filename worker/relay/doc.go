// Package relay finds out what the bytes between a client and a server mean, and
// no more than that: message boundaries, transaction status, parameters, prepared
// statements, and which answers are still owed. It is pure: chunks go in, and
// what is to be sent comes out. It knows no socket, no clock, no configuration
// and no other process, and allocates nothing while queries succeed.
//
// A session talks to a Conversation (conversation.go), of which there are two
// kinds. Direct (direct.go, line.go) is for a client that keeps its backend: bytes
// are looked at and passed on as they are. Pooled (pooled.go) is for one that has
// another backend for each transaction: rewrite.go is the way to the server,
// answers.go the way back, lost.go what becomes of the client when a backend is
// lost, limits.go what a client may ask for.
//
// Everything here belongs to the worker's event loop.
package relay
