// Package prober is the process that looks at the servers for the supervisor.
//
// The supervisor starts it and configures it over its link. It then answers
// requests: probe a server, say which of the given processes a server still has, read
// some of its parameters, say what the server asks a user at a login, look up the stored
// password of a user, send a CancelRequest. So the answers of servers, which are untrusted bytes, are parsed here
// and not in the process that decides. Each request brings the logins of the health
// check; the prober keeps only keys derived from them, and the connections of look-ups
// for a minute after their last use. It schedules and decides nothing.
//
//   - prober.go: the process, from its start to the end of its link.
//   - look.go: one request in a goroutine of its own, and its answer, in which texts
//     of servers are cut to a bounded length.
//   - health (a package): one look at one server.
//
// Before it reads the first byte of a server it is confined as a worker is. It can then
// only connect to the ports and socket directories of the configured servers; it can't
// open a file, start a program or send a signal. It resolves no name, because requests
// bring addresses.
//
// Each look ends within its own time-out. If the answer hasn't come a second after
// that, the supervisor kills the prober and starts another one. The process ends as
// soon as its link does.
package prober
