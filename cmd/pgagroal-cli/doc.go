// Pgagroal-cli asks a running pgagroal, and tells it what to do, over the
// control socket <unix_socket_dir>/.s.pgagroal.<port>.
//
// Options and command words may be mixed in any order. The answer goes to
// standard output, in the format of --format; what went wrong goes to standard
// error in one line.
//
// Exit codes:
//
//	0  done
//	1  wrong use of the command line, a configuration that can't be read, a
//	   command that this version doesn't have, and a command that pgagroal
//	   refused or that failed (Outcome.Status is false); failover rehearse: a
//	   failover would not go well
//	2  pgagroal can't be reached, or went away before it had answered
//	3  ping --primary and ping --write only: pgagroal answers, but there is no
//	   primary that can be reached, or none that clients can write to
//
// So whatever isn't 0 is a failure. Ping alone asks whether pgagroal is alive;
// --primary and --write are for load balancers and readiness checks. A dead
// standby keeps nobody from working and never counts.
//
// The words of the control socket are those of package internal/control, which
// the daemon shares. Answers are printed in the order of its types (tree.go).
package main
