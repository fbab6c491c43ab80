package scriptrunner

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Logger returns a logger that writes lines like those of pgagroal's other processes.
func Logger(w io.Writer) *slog.Logger {
	return logline.New(w, "%Y-%m-%d %H:%M:%S", slog.LevelInfo, "scriptrunner")
}

// Main runs a runner that the supervisor has started, and returns the exit code. lock
// stays open and shows where state_dir is; it may be nil.
func Main(linkFD int, lock *os.File, build string) int {
	if lock != nil {
		defer lock.Close()
	}
	lines := logline.NewQueue(os.Stderr)
	defer lines.Close(logline.FlushLimit)
	log := Logger(lines)
	conn, err := ipc.FromFD(linkFD, ipc.RoleRunner, ipc.RoleSupervisor, log)
	if err != nil {
		log.Error("runner can't use its link", "error", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Run(ctx, Options{Conn: conn, Build: build, Log: log, StateDir: proc.LockDir(lock)}); err != nil {
		log.Error("runner has failed", "error", err)
		return 1
	}
	return 0
}
