// Package logline writes the log lines of all pgagroal daemons: one line per event,
// beginning with the time as log_line_prefix formats it, the level, the process and its
// id, then the message and its fields.
//
//	2026-11-22 20:30:00 INFO  supervisor[4711] worker is ready worker=2 pid=4720
//
// A field never adds a line end or another control character to a line: text from
// outside is quoted.
//
// Every daemon logs through a Queue, so that a log that can't be written never blocks
// an event loop: the process goes on, and later reports how many lines are missing.
package logline
