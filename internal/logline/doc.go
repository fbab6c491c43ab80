// Package logline writes the log lines of all pgagroal daemons, one line per event: the
// time as log_line_prefix formats it, the level, the process and its id, then the
// message and its fields.
//
//	2026-11-22 20:30:00 INFO  supervisor[4711] worker is ready worker=2 pid=4720
//
// Text from outside can't forge a line: control characters in a field are quoted, and
// those in a message become blanks.
//
// That is a line of a stream; settings make it a JSON object, a datagram of syslog, or an
// entry of systemd's journal. A process begins with its standard error. Follow directs it
// to the log that the supervisor has opened.
//
// Every daemon logs through a Queue, so that a log that can't be written never blocks
// an event loop. The process continues, and later reports how many lines were lost.
package logline
