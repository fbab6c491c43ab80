package supervisor

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// env is the outside world of the loop, as functions that tests can replace.
type env struct {
	// now is the monotonic time since the start of the process.
	now  func() time.Duration
	wall func() time.Time
	// background runs work in a goroutine, and the function that work returns, if any,
	// in the loop. Only elsewhere calls it.
	background func(work func() func())
	// start and dial may block: background calls them.
	start func(startSpec) (*started, error)
	dial  func(ctx context.Context, path string) (*started, error)
	// lookup resolves a name.
	lookup func(ctx context.Context, host string) ([]string, error)
	// lookupAddr returns the names of an address, and interfaces the addresses of this
	// machine.
	lookupAddr func(ctx context.Context, address string) ([]string, error)
	interfaces func() ([]netip.Prefix, error)
	relock     func(*os.File) (held bool, err error)
	// lockHolders reads /proc: background calls it.
	lockHolders func(*os.File) ([]proc.Process, error)
	// files of state_dir
	writeRecord   func(dir string, data []byte) error
	appendHistory func(dir string, line []byte) error
	// sinceBoot is a clock that the runner shares. prove makes the secret of this start
	// and stores its digest in a directory.
	sinceBoot func() time.Duration
	prove     func(dir string) (ipc.Secret, error)
	// groupEmpty reports whether no living process of a group is left. noStrangers
	// reports whether all living children are among the given ids.
	groupEmpty  func(pgid int) bool
	noStrangers func(known []int) bool
	signalGroup func(pgid int, kill bool) error
	// zombies returns the children that have ended and for which nobody has waited yet.
	// reap waits for one of them and doesn't block.
	zombies func() ([]int, error)
	reap    func(pid int) error
	notify  func(state string)
	// usage asks the kernel: background calls it.
	usage func([]processUse) ([]processUse, error)
	// cpuTime is how long a process has been on a processor.
	cpuTime func(pid int) time.Duration
	// starves reports whether /proc shows that a process only waits for a processor or a disk.
	starves func(pid int) bool
}

// startSpec is what start needs to know of a child.
type startSpec struct {
	role  proc.Role
	index int // of a worker
	argv0 string
	peer  ipc.Role
	lock  *os.File // nil when there is none
	// program is what to run, nil for this binary.
	program *os.File
	queue   int // messages that the link's queue holds
}

// link is the sending side of a link: an ipc.Outbox, or a test.
type link interface {
	Send(m ipc.Message, fds ...int) error
	Len() int
}

// started is our end of a new link, and the process at the other end if we started it.
type started struct {
	pid  int
	link link
	// over is closed when the process has ended; it is nil if the process isn't our
	// child.
	over <-chan struct{}
	// kill sends SIGKILL; it does nothing for a process that isn't our child.
	kill func()
	// listen starts the goroutines that read the link. They call message for each
	// message and its descriptors, which message must close, ended at the end of the
	// link, and exited at the end of the process (never if it isn't our child). The
	// calls don't run in the loop.
	listen func(message func(ipc.Message, ...int), ended func(error), exited func(string))
	// unread returns the messages that the process has not read when it ended, oldest
	// first. The caller then owns their descriptors.
	unread func() []ipc.Envelope
	// close ends the link.
	close func()
	// valve stops the reading of the link; it is nil in tests.
	valve *valve
}
