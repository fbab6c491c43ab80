// Package tlsdial begins TLS with a PostgreSQL server over a blocking connection. It is for
// goroutines of workers and of the prober, which open a backend, cancel a query or probe a
// server. It sends an SSLRequest or begins TLS at once, and decides by the mode of the
// server's section whether the answer is acceptable. Package tlspolicy decides which
// certificates are accepted, package tlsmem encrypts the bytes.
package tlsdial
