// Package auth decides which clients may connect, authenticates clients to pgagroal, and logs pgagroal in to servers.
//
//   - hba.go: which rule of pgagroal_hba.conf applies to a client.
//   - ident.go: as which users the owner of a certificate may log in, by pgagroal_ident.conf.
//   - scram.go: the SCRAM-SHA-256 verifiers that clients are checked against, in memory.
//   - stored.go: passwords as a server stores them, and what clients have proven against them.
//   - credential.go: the answers for a login to a server.
//   - clientkeys.go: derived keys for logins to servers, in memory.
//   - scramclient.go: the client's side of SCRAM-SHA-256, which needs keys but no password.
//   - split.go: an exchange with a client whose proof another process checks, and the seals of what is sent after it.
//   - serve.go: the exchange with a client; login.go: with a server; passthrough.go: between a client and a server.
//
// The exchanges set no deadlines and close nothing: the caller sets a deadline on the connection. They read exactly
// their own messages, so what follows an exchange is still in the connection when they return.
//
// To derive keys takes a millisecond or two (PBKDF2 with 4096 rounds), which would be the greatest cost of a login.
// Therefore verifiers are derived when the passwords are read, and keys for servers are cached: only the first login
// of a user to a server derives them. A client that sends its password in cleartext costs a derivation the first time,
// and whenever the password is wrong.
//
// No error of this package contains a secret.
package auth
