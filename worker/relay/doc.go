// Package relay finds out what the bytes between a client and a server mean, and
// no more than that: message boundaries, transaction status, parameters, prepared
// statements, and which answers are still owed. It is pure: chunks go in, and
// what is to be sent comes out. It knows no socket, no clock, no configuration
// and no other process, and allocates nothing while queries succeed.
//
// relay.go serves a client that keeps its backend; rewrite.go (client to server),
// answers.go (server to client) and lost.go (a backend is lost) serve one that has
// another backend for each transaction.
package relay
