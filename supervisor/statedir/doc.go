// Package statedir holds the files of the supervisor: the lock of state_dir, the record of the
// servers, the history, and the pid file. Nothing here runs on the supervisor's loop, because all of
// it may block. It runs before the loop starts, in goroutines that the supervisor's function
// elsewhere starts, or after the loop has ended.
//
//   - choose.go: which directory is state_dir, and whether the account may use it.
//   - dir.go: its lock.
//   - record.go: the machine's record, a file and its copy.
//   - history.go: the decisions, one line each.
//   - pidfile.go: the process id of the pgagroal that runs.
package statedir
