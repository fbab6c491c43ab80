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

// starterGrace is how long children have to end by themselves when the supervisor is gone.
const starterGrace = 3 * time.Second

// errBroken is what ends a starter: a request that no supervisor makes.
var errBroken = errors.New("a request can't be read")

// starter is the process itself. It has one goroutine, opens no file of anybody's choice
// and allocates next to nothing: it is root.
type starter struct {
	link     int
	cred     *syscall.Credential
	env      []string
	children map[int]int // descriptor of each process that was started, by process id
}

// StarterMain runs a starter on its link and returns the exit code of the process.
func StarterMain(link int) int {
	user := os.Getenv(starterVariable)
	os.Unsetenv(starterVariable)
	cred, err := CredentialOf(user)
	if err == nil && cred.Uid == 0 {
		err = errors.New("it has all privileges")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pgagroal: starter: become user %q: %v\n", user, err)
		return 1
	}
	// It ends with its link and not before: whoever stops a whole control group would leave
	// the supervisor without it. Ignored, the signals would be ignored by the children too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	s := &starter{link: link, cred: cred, env: os.Environ(), children: map[int]int{}}
	for {
		if err := s.serve(); err != nil {
			s.end()
			return 0
		}
	}
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
		pid, err = s.start(RoleWorker, "pgagroal: worker "+strconv.Itoa(index), files)
	case requestProber:
		pid, err = s.start(RoleProber, "pgagroal: prober", files)
	case requestKill:
		err = s.kill(pid)
	}
	for _, f := range files {
		f.Close()
	}
	var b [packetSize]byte
	binary.BigEndian.PutUint32(b[:], uint32(errorNumber(err)))
	binary.BigEndian.PutUint32(b[4:], uint32(pid))
	return unix.Sendmsg(s.link, b[:], nil, nil, unix.MSG_NOSIGNAL)
}

// receive reads a request. The files are the caller's.
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
	wellFormed := n == packetSize && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) == 0
	switch {
	case wellFormed && (b[0] == requestWorker || b[0] == requestProber) && len(files) >= starterFiles-1:
	case wellFormed && b[0] == requestKill && len(files) == 0:
	default:
		return 0, 0, 0, nil, errBroken // the end of the link too, which reads as nothing
	}
	return b[0], index, pid, files, nil
}

func (s *starter) start(role Role, argv0 string, files []*os.File) (int, error) {
	fd := -1
	p, err := Spawn(Spec{
		Role: role, Argv0: argv0, Files: files[2:],
		Env: s.env, Credential: s.cred, Stdout: files[0], Stderr: files[1], NoNewPrivs: true,
		sibling: true, pidFD: &fd,
	})
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	_ = p.Release() // the supervisor waits for it
	if fd < 0 {
		return 0, unix.ENOSYS // it sees the end of its link, and ends
	}
	s.children[pid] = fd
	return pid, nil
}

// kill kills a process that was started here, and no other that has got its id since.
func (s *starter) kill(pid int) error {
	fd, ours := s.children[pid]
	if !ours {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// forgetEnded closes the descriptors of processes that have ended.
func (s *starter) forgetEnded() {
	for pid, fd := range s.children {
		if ended(fd, time.Now()) {
			unix.Close(fd)
			delete(s.children, pid)
		}
	}
}

// end leaves no child behind: its supervisor is gone, or has given this process up.
func (s *starter) end() {
	until := time.Now().Add(starterGrace)
	for _, fd := range s.children {
		if !ended(fd, until) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // fails for one that has just ended
		}
	}
}

// ended reports whether a process has ended, or ends until then.
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
