// Package tlspolicy turns certificates, keys and options into Configs of crypto/tls
// that behave as PostgreSQL's and libpq's own TLS does, in verdict and in words.
//
//   - material.go: Load reads files as the supervisor, with the rules for who may own
//     them. Material is bytes, so it can travel to a process that opens no files.
//   - listen.go: the Config for clients. It chooses the certificate by SNI, tells the
//     transport which one (NoteCertificate) and checks clients' certificates, in
//     callbacks that a resumed session runs as well.
//   - dial.go: the Config for a server, by libpq's modes.
//   - verify.go: chains, revocation lists and purposes; names.go: host names.
//   - tickets.go: keys of session tickets, the same in every worker.
//   - words.go: versions, curves and ciphers by the names that PostgreSQL's users know.
//
// It imports none of our packages.
package tlspolicy
