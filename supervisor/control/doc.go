// Package control answers pgagroal-cli on the control socket.
//
// The supervisor listens on <unix_socket_dir>/.s.pgagroal.<port>, a Unix socket of type
// SOCK_SEQPACKET, and hands the listener to Serve. One connection carries one
// ControlRequest and its answer, a JSON document in ControlReply pieces, in the framing
// of package ipc. The socket is open to every local user. permit.go decides what each may
// ask, by the user and the process that the kernel names as the peer.
//
// Control owns the listener and a goroutine per connection, MaxClients at most. Every
// command is a method of Supervisor, called in that goroutine with a context that ends
// with Serve, or when the client is gone; a second goroutine watches for that. A client that sends nothing, or doesn't read, occupies its own goroutine
// until the deadline and never the supervisor's loop.
//
// The document has the objects Header, Request, Response and Outcome of
// pgagroal, with the same names of fields; fields that pgagroal doesn't have
// are only ever added.
package control
