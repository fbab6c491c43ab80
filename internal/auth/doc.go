// Package auth decides which clients may connect, and authenticates clients to us and us to servers.
//
//   - hba.go: which rule of pgagroal_hba.conf applies to a client. Pure.
//   - ident.go: as which users the owner of a certificate may log in, by pgagroal_ident.conf. Pure.
//   - scram.go: SCRAM-SHA-256 verifiers of clients, held in memory.
//   - credential.go: what a login to a server answers with: a password, or less.
//   - clientkeys.go: derived keys for logging in to servers, held in memory.
//   - scramclient.go: the client's side of SCRAM-SHA-256, which needs keys and no password.
//   - password.go: comparison of cleartext passwords.
//   - serve.go, login.go, passthrough.go: the exchanges, driven over a reader and writer.
//
// The exchanges set no deadlines and close nothing: the caller sets a deadline on the connection. They read exactly
// their own messages, so what follows an exchange is still in the connection when they return.
//
// Keys are derived when a password becomes known, not at a login: a PBKDF2 of 4096 rounds takes a millisecond or two,
// which would be the greatest cost of a login. No error of this package contains a secret.
package auth
