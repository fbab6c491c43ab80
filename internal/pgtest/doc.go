// Package pgtest is the outside world of the tests and of the demo: real PostgreSQL
// clusters with streaming replication that live in a private directory and end with
// their owner (Cluster), a client that speaks the protocol and keeps SQLSTATEs
// (Client), a scripted server for faults that a real one can't show on demand (Fake), a
// TCP proxy that breaks connections on request (Proxy), private networks for the nodes
// of a cluster (Netns), and waits with time limits (WaitUntil, Eventually).
//
// No shipped binary may use this package.
//
// # Who owns what
//
// A Cluster owns every process whose working directory lies inside its
// directory: postmasters, their children, orphans of a killed postmaster, and a
// postmaster that a failover script started with pg_ctl. Close ends all of them,
// by process id. When the owner itself is killed, a shell started beside each
// cluster sees the end of its standard input, shuts the servers down and removes
// the directory; only when that shell is killed too does a server outlive its
// owner, until somebody removes its directory (the postmaster looks for its lock
// file every minute and exits without it).
//
// # Root
//
// PostgreSQL refuses to run as root. A caller with effective user id 0 runs all
// of PostgreSQL's programs as user postgres and gives that user the directory.
package pgtest
