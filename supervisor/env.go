package supervisor

import (
	"context"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// env is the outside world of the loop, as functions so that tests can be it.
type env struct {
	// now is the monotonic time since the start of the process.
	now  func() time.Duration
	wall func() time.Time
	// background runs work in a goroutine and the function it returns, if any, in the
	// loop. Everybody but elsewhere uses elsewhere.
	background func(work func() func())
	// start and dial may block: background calls them.
	start func(startSpec) (*started, error)
	dial  func(ctx context.Context, path string) (*started, error)
	// lookup resolves a name; what follows it is of package health.
	lookup   func(ctx context.Context, host string) ([]string, error)
	probe    func(ctx context.Context, t health.Target) failover.ProbeDone
	backends func(ctx context.Context, t health.Target, pids []uint32) ([]uint32, error)
	settings func(ctx context.Context, t health.Target, names []string) (map[string]string, error)
	cancel   func(ctx context.Context, network, address string, pid uint32, key []byte) error
	relock   func(*os.File) (held bool, err error)
	// lockHolders reads /proc: background calls it.
	lockHolders func(*os.File) ([]proc.Process, error)
	// files of state_dir
	writeRecord   func(dir string, data []byte) error
	appendHistory func(dir string, line []byte) error
	// sinceBoot is the clock that a runner can tell as well. prove makes the secret of
	// this start and leaves its digest in a directory.
	sinceBoot func() time.Duration
	prove     func(dir string) (ipc.Secret, error)
	// groupEmpty says that no living process of a group is left; strangers that
	// no child is left but those whose ids are given.
	groupEmpty  func(pgid int) bool
	strangers   func(known []int) bool
	signalGroup func(pgid int, kill bool) error
	// zombies are our children that have ended and for which nobody has waited yet;
	// reap collects one of them and doesn't block.
	zombies func() ([]int, error)
	reap    func(pid int) error
	notify  func(state string)
}

// startSpec is what start needs to know of a child.
type startSpec struct {
	role  proc.Role
	argv0 string
	peer  ipc.Role
	lock  *os.File // nil when there is none
	queue int      // messages that the link's queue holds
}

// link is the sending side of a link: an ipc.Outbox, or a test.
type link interface {
	Send(m ipc.Message, fds ...int) error
	Len() int
}

// started is one end of a new link, and the process behind it when it is ours.
type started struct {
	pid  int
	link link
	// over is closed when the process has ended, nil for one that isn't our child.
	over <-chan struct{}
	// kill sends SIGKILL; it does nothing for a process that isn't our child.
	kill func()
	// listen starts the goroutines: message for each message with its descriptors,
	// which it closes, ended for the end
	// of the link, exited for the end of the process (never for one that isn't
	// ours). They run elsewhere.
	listen func(message func(ipc.Message, ...int), ended func(error), exited func(string))
	// unread returns what the process never took of what it was sent, oldest first,
	// once it has ended. The descriptors are the caller's then.
	unread func() []ipc.Envelope
	// close ends the link.
	close func()
}
