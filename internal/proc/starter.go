package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor that gives root up can neither start a process under another user nor
// signal one. A starter, begun while the supervisor is still root, does these two
// things for it, and nothing else: it starts this very binary as a worker or as the prober
// under the one user that it was told at its own start, and kills what it has started.
//
// A request is a packet of eight bytes, and so is the answer; there is one at a time:
//
//	request  kind, 0, number of the worker (2 bytes), process id (4 bytes); big endian
//	answer   error number (4 bytes), process id (4 bytes)
//
// With a start come the child's descriptors. It becomes a child of the supervisor, not of
// the starter: the supervisor waits for it like for any other child.
const (
	packetSize    = 8
	requestWorker = 's'
	requestProber = 'p'
	requestKill   = 'k'

	// starterFiles is how many descriptors come with a start at most: standard output and
	// standard error, the link, and the lock of state_dir if there is one.
	starterFiles = 4
	// starterLimit is how long a request may take. A starter that needs longer is lost.
	starterLimit = 5 * time.Second
)

// starterVariable tells a starter the user of the children that it starts.
const starterVariable = "PGAGROAL_STARTER_USER"

// Starter is the supervisor's side of a starter. Any goroutine may use it.
type Starter struct {
	pid  int
	lost chan struct{} // closed when the starter can't be relied on any more
	over chan struct{} // closed when its process has ended

	mu   sync.Mutex // held during a request
	conn *net.UnixConn
	why  error // why it is lost; mu guards it
}

// NewStarter starts the starter, which needs root. Its children get this user and env as
// their environment. The caller closes it.
func NewStarter(user string, env []string) (*Starter, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start starter: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "starter"), os.NewFile(uintptr(fds[1]), "link")
	defer ours.Close()
	defer theirs.Close()
	nc, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("start starter: %w", err)
	}
	p, err := Spawn(Spec{
		Role: RoleStarter, Argv0: "pgagroal: starter", Files: []*os.File{theirs}, NoNewPrivs: true,
		Env:   append(append([]string{}, env...), starterVariable+"="+user),
		Bound: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL},
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	s := &Starter{pid: p.Pid, lost: make(chan struct{}), over: make(chan struct{}), conn: nc.(*net.UnixConn)}
	go func() {
		_, _ = p.Wait()
		close(s.over)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lose(errors.New("the process has ended"))
	}()
	return s, nil
}

// PID returns the starter's process id.
func (s *Starter) PID() int { return s.pid }

// Lost is closed when no child can be started or killed any more; Err says why.
func (s *Starter) Lost() <-chan struct{} { return s.lost }

// Err is nil as long as the starter isn't lost.
func (s *Starter) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// StartWorker starts a worker with files, its link first, as its descriptors from 3 on and with
// standard output and standard error of this process. They stay the caller's. The worker is a
// child of this process, which waits for it, and which can't signal it.
func (s *Starter) StartWorker(index int, files []*os.File) (*os.Process, error) {
	p, err := s.start(requestWorker, index, files)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return p, nil
}

// StartProber is StartWorker for the prober.
func (s *Starter) StartProber(files []*os.File) (*os.Process, error) {
	p, err := s.start(requestProber, 0, files)
	if err != nil {
		return nil, fmt.Errorf("start prober: %w", err)
	}
	return p, nil
}

func (s *Starter) start(kind byte, index int, files []*os.File) (*os.Process, error) {
	var fds []int
	for _, f := range append([]*os.File{os.Stdout, os.Stderr}, files...) {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return nil, err
		}
	}
	pid, err := s.request(kind, index, 0, syscall.UnixRights(fds...))
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid) // a child of ours, so nobody else can have its id
}

// Kill sends SIGKILL to a child that was started here. It may block for a few seconds. One that
// has ended is no error.
func (s *Starter) Kill(pid int) error {
	if _, err := s.request(requestKill, 0, pid, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// request asks and waits for the answer.
func (s *Starter) request(kind byte, index, pid int, rights []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return 0, fmt.Errorf("the starter is lost: %w", s.why)
	}
	var b [packetSize]byte
	b[0] = kind
	binary.BigEndian.PutUint16(b[2:], uint16(index))
	binary.BigEndian.PutUint32(b[4:], uint32(pid))
	err := s.conn.SetDeadline(time.Now().Add(starterLimit))
	if err == nil {
		_, _, err = s.conn.WriteMsgUnix(b[:], rights, nil)
	}
	n := 0
	if err == nil {
		n, err = s.conn.Read(b[:])
	}
	if err == nil && n != packetSize {
		err = errors.New("its answer can't be read")
	}
	if err != nil {
		s.lose(err)
		return 0, fmt.Errorf("ask the starter: %w", err)
	}
	if errno := binary.BigEndian.Uint32(b[:]); errno != 0 {
		return 0, unix.Errno(errno)
	}
	return int(binary.BigEndian.Uint32(b[4:])), nil
}

// lose gives the starter up: an answer that comes late would be taken for that of the next
// request. Its link's end has it kill its children and end. s.mu is held.
func (s *Starter) lose(why error) {
	if s.why != nil {
		return
	}
	s.why = why
	s.conn.Close()
	close(s.lost)
}

// Close ends the starter, which kills those of its children that still live, and waits for
// its end, but not for ever. Close of nil does nothing.
func (s *Starter) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.lose(errors.New("it was closed"))
	s.mu.Unlock()
	late := time.NewTimer(starterLimit)
	defer late.Stop()
	select {
	case <-s.over:
	case <-late.C:
	}
}
