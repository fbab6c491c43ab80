// Package tlspolicy turns certificates, keys and options into Configs of crypto/tls
// that accept and refuse what PostgreSQL's and libpq's own TLS does, with the same texts.
//
//   - material.go: Load reads the files, in the supervisor, and checks who owns them.
//     Material is bytes, so it can be sent to a process that opens no files.
//   - listen.go: the Config for clients. It chooses the certificate by SNI, tells the
//     transport which certificate it chose (NoteCertificate), and checks the certificates
//     of clients. All that happens in callbacks that also run for a resumed session.
//   - dial.go: the Config for a server, by libpq's modes.
//   - verify.go: chains, revocation lists and purposes; names.go: host names.
//   - tickets.go: the keys of session tickets, which are the same in every worker.
//   - words.go: versions, curves and ciphers by the names that PostgreSQL uses.
//
// It imports none of our packages.
package tlspolicy
