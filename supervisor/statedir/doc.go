// Package statedir holds what survives the supervisor: the lock of state_dir, the record of the
// servers, the history, and the pid file. Nothing here runs on the supervisor's loop, since all of
// it may block: it runs during the start, or through elsewhere.
//
//   - dir.go: which directory it is, and whose.
//   - record.go: the machine's record, one file.
//   - history.go: what was decided, one line each.
//   - pidfile.go: who runs.
package statedir
