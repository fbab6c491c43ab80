package main

import (
	"os"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/prober"
	"github.com/pgagroal-go/pgagroal/scriptrunner"
	"github.com/pgagroal-go/pgagroal/worker"
)

// child runs the role for which the supervisor or the starter has started this process; ok
// is false in a supervisor.
func child() (code int, ok bool) {
	fd, role, ok := proc.Link()
	if !ok {
		return 0, false
	}
	proc.OutliveReload()
	if role == proc.RoleStarter {
		return proc.StarterMain(fd), true
	}
	lock := lockFile()
	switch role {
	case proc.RoleWorker:
		return worker.Main(fd, lock), true
	case proc.RoleProber:
		return prober.Main(fd, lock), true
	case proc.RoleRunner:
		return scriptrunner.Main(fd, lock, release.Version()), true
	}
	return 1, true
}

// lockFile returns the lock of state_dir, nil if the supervisor had none. The
// process only keeps it open, so that the lock lives as long as the process.
func lockFile() *os.File {
	var st syscall.Stat_t
	if err := syscall.Fstat(proc.LockFD, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil // the descriptor doesn't exist, or is something else of this process
	}
	return os.NewFile(proc.LockFD, "lock")
}
