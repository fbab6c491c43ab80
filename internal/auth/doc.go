// Package auth decides who may connect and proves who is who, towards clients and towards servers.
//
//   - hba.go: which rule of pgagroal_hba.conf applies to a client. Pure.
//   - scram.go: SCRAM-SHA-256 verifiers of clients, held in memory.
//   - clientkeys.go: derived keys for logging in to servers, held in memory.
//   - password.go: cleartext passwords, and md5 answers to old servers.
//   - serve.go, login.go, passthrough.go: the exchanges, driven over a reader and writer.
//
// The exchanges neither set deadlines nor close anything: the caller puts a deadline on the connection. They read
// exact messages, so whatever follows an exchange is still in the connection when they return.
//
// Keys are derived when a password becomes known, not when somebody logs in: a PBKDF2 of 4096 rounds costs a
// millisecond or two, which would be the greatest cost of a login. No error of this package holds a secret.
package auth
