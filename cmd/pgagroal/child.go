package main

import (
	"os"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/scriptrunner"
	"github.com/pgagroal-go/pgagroal/worker"
)

// child runs the role that the supervisor has started this process for; ok is
// false in a supervisor.
func child() (code int, ok bool) {
	fd, role, ok := proc.Link()
	if !ok {
		return 0, false
	}
	lock := lockFile()
	switch role {
	case proc.RoleWorker:
		return worker.Main(fd, lock), true
	case proc.RoleRunner:
		return scriptrunner.Main(fd, lock, version), true
	}
	return 1, true
}

// lockFile returns the lock of state_dir, nil when the supervisor had none. It
// is only held open: to live as long as this process is all that it is for.
func lockFile() *os.File {
	var st syscall.Stat_t
	if err := syscall.Fstat(proc.LockFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil // the descriptor is not there, or something else of this process
	}
	return os.NewFile(proc.LockFD, "lock")
}
