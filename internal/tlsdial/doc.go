// Package tlsdial begins TLS with a PostgreSQL server over a blocking connection, for
// goroutines that set up a backend, cancel a query or look at a server: worker and prober.
// It asks the server as PostgreSQL's protocol says (SSLRequest, or TLS at once), and
// judges the answer by the mode of the server's section. What a certificate must be is
// internal/tlspolicy's matter, how bytes are encrypted internal/tlsmem's.
package tlsdial
