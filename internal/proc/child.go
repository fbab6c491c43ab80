package proc

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Role is what a child is for.
type Role string

// The roles of children.
const (
	RoleWorker Role = "worker"
	RoleRunner Role = "runner"
	RoleProber Role = "prober"
	// RoleConsole is the only child that is a program of its own.
	RoleConsole Role = "console"
	// RoleStarter is the process that starts the others under a user of their own.
	RoleStarter Role = "starter"
)

// The descriptors of a child, in the order of Spec.Files.
const (
	LinkFD = 3
	LockFD = 4
)

// childVariable is the environment variable with a child's role. It makes no child by
// itself: descriptor 3 must also be a link.
const childVariable = "PGAGROAL_CHILD"

// Link returns the descriptor of the link and the role of this process, if it is a child;
// otherwise ok is false. The descriptor belongs to the caller. Link removes the variable
// that names the role, so call it once, before anything else. Link ignores argv[0], which
// anybody can choose.
func Link() (fd int, role Role, ok bool) {
	role = Role(os.Getenv(childVariable))
	os.Unsetenv(childVariable)
	if role != RoleWorker && role != RoleRunner && role != RoleProber && role != RoleConsole && role != RoleStarter {
		return -1, "", false
	}
	if !isLink(LinkFD) {
		return -1, "", false
	}
	unix.CloseOnExec(LinkFD)
	unix.CloseOnExec(LockFD)
	return LinkFD, role, true
}

// OutliveReload makes this process survive SIGHUP, SIGUSR1 and SIGUSR2, which are for the supervisor,
// because they may be sent to all processes of pgagroal. What it starts gets their default
// actions.
func OutliveReload() { signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2) }

func isLink(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_SEQPACKET {
		return false
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && listens == 0
}
