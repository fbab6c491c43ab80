// Package control answers pgagroal-cli on the control socket.
//
// The supervisor listens on <unix_socket_dir>/.s.pgagroal.<port>, a Unix socket of type
// SOCK_SEQPACKET, and hands the listener to Serve. One connection carries one
// ControlRequest and its answer, a JSON document in ControlReply pieces, in the framing
// of package ipc. Everybody who can connect to the socket may ask. permit.go decides
// what they get, by the user that the kernel names as the peer; so the socket may be
// open to everybody.
//
// Control owns a goroutine per connection, MaxClients at most, and nothing else. Every
// command is a method of Supervisor, called in that goroutine with a context that ends
// with the server. A client that sends nothing, or doesn't read, occupies its own
// goroutine until the deadline and never the supervisor.
//
// The document has the objects Header, Request, Response and Outcome of
// pgagroal, with the same names of fields; fields that pgagroal doesn't have
// are only ever added.
package control
