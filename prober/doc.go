// Package prober is the process that looks at the servers for the supervisor.
//
// The supervisor starts it and configures it over its link. It then answers
// requests: a probe of a server, which of some processes a server still has, what
// some of its parameters are, what it asks a user at a login; and it sends CancelRequests. So the answers of
// servers, which are bytes of strangers, are parsed here and not in the process
// that decides. It gets the logins of the health check with each request, keeps
// nothing but keys derived from them, and schedules and decides nothing.
//
//   - prober.go: the process, from its start to the end of its link.
//   - look.go: one request in a goroutine of its own, and what of an answer the
//     supervisor gets: texts of servers are cut to a bounded length.
//   - health (a package): one look at one server.
//
// Before it reads the first byte of a server it is confined as a worker is: it can
// connect to the ports and socket directories of the configured servers and open,
// start and signal nothing. It resolves no name; addresses come with the requests.
//
// Each look ends by its own time-out. The supervisor kills a prober that hasn't
// answered a second later, and starts another one. The process ends as soon as its
// link does.
package prober
