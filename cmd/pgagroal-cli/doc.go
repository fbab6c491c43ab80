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
//	3  ping only: pgagroal answers, but no primary can be reached
//
// So whatever isn't 0 is a failure. Ping looks at the primary alone: a dead
// standby keeps nobody from working. Whoever asks only whether pgagroal itself
// is alive takes the 3 as yes, or asks for status.
package main
