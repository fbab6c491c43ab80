// Package process tests the daemon's processes: start, privileges, signals, the death of a worker
// or the supervisor, and the service manager.
package process
