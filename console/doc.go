// Package console is the process that answers HTTP: the metrics for Prometheus, end points
// for health checks, and a web page for people.
//
// It is a program of its own, pgagroal-console, because an HTTP server and the exposition
// of metrics cost 7 MB of binary and milliseconds for each scrape, which the process that
// decides about a failover must not spend. The supervisor starts it when the key metrics or
// console is set, gives it listening sockets, certificates and its configuration over the link, and
// starts another one when it ends. It holds no client, no password and no decision.
//
//   - console.go: the process, from its start to the end of its link.
//   - feed.go: snapshots. The console asks the supervisor for one when somebody looks, once
//     a second at most, and everybody who looks meanwhile shares it.
//   - table.go: every metric, with its type, labels and help.
//   - collect.go, fleet.go: the values of a snapshot.
//   - serve.go: the end points, and the limits for clients.
//   - page.go, web: the web page's files, and whom it answers.
//   - document.go, sample.go: a snapshot as JSON, and what has changed since the last one.
//   - stream.go: pages that are open, which are sent each snapshot.
//   - secure.go: TLS, and the answer to a client that speaks HTTP without it.
//
// It is confined before it reads the first byte of a client: it opens no file, makes no
// connection and sends no signal. The process ends as soon as its link does.
package console
