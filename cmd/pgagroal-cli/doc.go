// Pgagroal-cli queries and controls a running pgagroal over the control socket
// <unix_socket_dir>/.s.pgagroal.<port>.
//
// Options and command words may be mixed in any order. The answer goes to standard
// output, in the format of --format; a failure goes to standard error, in one line.
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
//	4  upgrade only: pgagroal was restarted instead, or the new version hasn't
//	   answered in time
//
// Every code but 0 is a failure. Ping alone asks whether pgagroal is alive;
// --primary and --write are for load balancers and readiness checks. A dead standby
// prevents nobody from working and is no failure.
//
// Package internal/control defines the commands and answers; the daemon shares it.
// Answers are printed in the order of its types (tree.go).
package main
