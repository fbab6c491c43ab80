package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starterGrace is how long the children may take to end by themselves after the link was
// closed, before the starter kills them.
const starterGrace = 3 * time.Second

// errBroken says that the link was closed, or that a request was malformed. Both end the
// starter.
var errBroken = errors.New("a request can't be read")

// starter is the starter's own side. It is root, so it does as little as possible: it
// handles one request at a time, and opens no file that a request names.
type starter struct {
	link     int
	user     string // of the children
	path     string // of the program that is installed, see renew
	console  string // name of the console's program
	cred     *syscall.Credential
	env      []string
	program  *os.File    // of the console, or nil
	children map[int]int // pidfd of each child, by process id
}

// starterSignals are caught, because a signal to the whole control group would otherwise leave the
// supervisor without its starter, which ends with its link and not before. They aren't ignored,
// because children would inherit that.
var starterSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

func catchSignals() { signal.Notify(make(chan os.Signal, 1), starterSignals...) }

// StarterMain runs a starter on its link and returns the exit code of the process.
func StarterMain(link int) int {
	s, renewed, err := learn(link)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgagroal: starter:", err)
		return 1
	}
	catchSignals()
	if renewed {
		err = s.answer(0, nil)
	}
	for err == nil {
		err = s.serve()
	}
	s.end()
	return 0
}

// learn makes a starter of the environment and the descriptors of this process. renewed says that
// another program has run in it, whose last request isn't answered yet.
func learn(link int) (s *starter, renewed bool, err error) {
	s = &starter{link: link}
	s.user, s.path, s.console = os.Getenv(starterVariable), os.Getenv(programVariable), os.Getenv(consoleVariable)
	children, renewed := os.LookupEnv(childrenVariable)
	for _, name := range [...]string{starterVariable, programVariable, consoleVariable, childrenVariable} {
		os.Unsetenv(name)
	}
	s.env = os.Environ()
	if s.cred, err = CredentialOf(s.user); err == nil && s.cred.Uid == 0 {
		err = errors.New("it has all privileges")
	}
	switch {
	case err != nil:
		return nil, renewed, fmt.Errorf("become user %q: %w", s.user, err)
	case !renewed:
		s.program, err = inheritedProgram(LockFD)
	case s.console != "":
		s.program, err = OpenProgram(s.console)
	}
	if err == nil {
		s.children, err = parseChildren(children)
	}
	return s, renewed, err
}

// serve answers one request.
func (s *starter) serve() error {
	kind, index, pid, files, err := s.receive()
	if err != nil {
		return err
	}
	s.forgetEnded()
	switch kind {
	case requestWorker:
		pid, err = s.start(Spec{Role: RoleWorker, Argv0: "pgagroal: worker " + strconv.Itoa(index)}, files)
	case requestProber:
		pid, err = s.start(Spec{Role: RoleProber, Argv0: "pgagroal: prober"}, files)
	case requestConsole:
		pid, err = s.startConsole(files)
	case requestKill:
		err = s.kill(pid)
	case requestMute:
		err = Mute()
	case requestMay:
		err = s.mayRenew(files[0])
	case requestRenew:
		err = s.renew(files[0])
	}
	for _, f := range files {
		f.Close()
	}
	return s.answer(pid, err)
}

func (s *starter) answer(pid int, err error) error {
	var b [packetSize]byte
	binary.BigEndian.PutUint32(b[:], uint32(errorNumber(err)))
	binary.BigEndian.PutUint32(b[4:], uint32(pid))
	return unix.Sendmsg(s.link, b[:], nil, nil, unix.MSG_NOSIGNAL)
}

// receive reads a request. The files belong to the caller.
func (s *starter) receive() (kind byte, index, pid int, files []*os.File, err error) {
	b, oob := make([]byte, packetSize+1), make([]byte, unix.CmsgSpace(4*starterFiles))
	n, oobn, flags, _, err := unix.Recvmsg(s.link, b, oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, oobn, flags, _, err = unix.Recvmsg(s.link, b, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return 0, 0, 0, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, 0, 0, nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return 0, 0, 0, nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	index, pid = int(binary.BigEndian.Uint16(b[2:])), int(binary.BigEndian.Uint32(b[4:]))
	starts := b[0] == requestWorker || b[0] == requestProber || b[0] == requestConsole
	wellFormed := n == packetSize && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) == 0
	switch {
	case wellFormed && starts && len(files) >= starterFiles-1:
	case wellFormed && (b[0] == requestKill || b[0] == requestMute) && len(files) == 0:
	case wellFormed && (b[0] == requestMay || b[0] == requestRenew) && len(files) == 1:
	default:
		return 0, 0, 0, nil, errBroken // also for a closed link, from which 0 bytes are read
	}
	return b[0], index, pid, files, nil
}

// Mute directs standard output and standard error of this process to /dev/null.
func Mute() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	fd := int(null.Fd())
	return errors.Join(unix.Dup3(fd, unix.Stdout, 0), unix.Dup3(fd, unix.Stderr, 0))
}

func (s *starter) startConsole(files []*os.File) (int, error) {
	if s.program == nil {
		return 0, unix.ENOENT
	}
	return s.start(Spec{Role: RoleConsole, Argv0: "pgagroal: console", Program: s.program}, files)
}

// start starts a child as the user. what names its role and program.
func (s *starter) start(what Spec, files []*os.File) (int, error) {
	fd := -1
	what.Files, what.Stdout, what.Stderr = files[2:], files[0], files[1]
	what.Env, what.Credential, what.NoNewPrivs = s.env, s.cred, true
	what.sibling, what.pidFD = true, &fd
	p, err := Spawn(what)
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	_ = p.Release() // the supervisor waits for it
	if fd < 0 {
		return 0, unix.ENOSYS // the supervisor closes the child's link, which ends the child
	}
	s.children[pid] = fd
	return pid, nil
}

// kill kills a child of the starter, never another process that has got its id since.
func (s *starter) kill(pid int) error {
	fd, ours := s.children[pid]
	if !ours {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// forgetEnded closes the pidfds of children that have ended.
func (s *starter) forgetEnded() {
	for pid, fd := range s.children {
		if ended(fd, time.Now()) {
			unix.Close(fd)
			delete(s.children, pid)
		}
	}
}

// end waits for the children to end, and kills those that don't. It runs when the
// supervisor is gone or has given the starter up.
func (s *starter) end() {
	until := time.Now().Add(starterGrace)
	for _, fd := range s.children {
		if !ended(fd, until) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // fails if the child has just ended
		}
	}
}

// ended waits until a process ends, at the latest until then, and reports whether it has
// ended.
func ended(pidfd int, until time.Time) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(max(time.Until(until), 0).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

func errorNumber(err error) unix.Errno {
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	}
	return unix.EIO
}
