package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor that has given up root can neither start a process under another user nor
// signal one. A starter, which it starts while it is still root, does these two things for
// it, and little else: it starts this very binary as a worker or as the prober, and the program of the console,
// under one user, and kills the processes that it has started. It learned the user and the
// program at its own start.
//
// In an upgrade the starter executes the program that is installed now, in the same process
// and on the same link. What it executes is never up to the supervisor: it is the file at the
// path that the starter has learned at its start, and only root may be able to change it.
//
// A request is a packet of eight bytes, and so is the answer. There is one request at a
// time:
//
//	request  kind, 0, number of the worker (2 bytes), process id (4 bytes); big endian
//	answer   error number (4 bytes), process id (4 bytes)
//
// A request to start a child also carries the child's descriptors, and a request to become
// another program that program, which must be the one at the path. These two ends of the
// link may be of different versions then, so that request and its answer never change. The child becomes a
// child of the supervisor, not of the starter, and the supervisor waits for it as for any
// other child.
const (
	packetSize     = 8
	requestWorker  = 's'
	requestProber  = 'p'
	requestConsole = 'c'
	requestKill    = 'k'
	requestMute    = 'm'
	requestRenew   = 'r'
	requestMay     = '?' // whether requestRenew would be carried out

	// starterFiles is the greatest number of descriptors in a request: standard output,
	// standard error, the link, and the lock of state_dir if there is one.
	starterFiles = 4
	// starterLimit is how long a request may take. The supervisor gives up a starter that
	// needs longer.
	starterLimit = 5 * time.Second
	// renewLimit is how long the start of another program may take.
	renewLimit = 30 * time.Second
)

// What a starter learns at its start: the user of the children that it starts, the path of this
// program, and the name of the console's program. If another program has run in its process, also
// the children of that.
const (
	starterVariable  = "PGAGROAL_STARTER_USER"
	programVariable  = "PGAGROAL_STARTER_PROGRAM"
	consoleVariable  = "PGAGROAL_STARTER_CONSOLE"
	childrenVariable = "PGAGROAL_STARTER_CHILDREN"
)

// starterTitle is shown by ps.
const starterTitle = "pgagroal: starter"

// Starter is the supervisor's side of a starter. Any goroutine may use it.
type Starter struct {
	pid  int
	lost chan struct{} // closed when the starter was given up
	over chan struct{} // closed when its process has ended
	open atomic.Int32  // requests that have begun and aren't answered

	mu   sync.Mutex // held during a request
	conn *net.UnixConn
	why  error // why it was given up, or nil; guarded by mu
}

// StarterSpec says everything that a starter gets.
type StarterSpec struct {
	User    string   // of its children
	Env     []string // of its children
	Program string   // path of this program, for Renew; "" if it is unknown
	// Console is the program of the console, nil if there is no console. It stays the caller's.
	Console *os.File
}

// NewStarter starts a starter. This process must be root. The caller must call Close.
func NewStarter(is StarterSpec) (*Starter, error) {
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
	files, env := []*os.File{theirs}, append(slices.Clone(is.Env), starterVariable+"="+is.User, programVariable+"="+is.Program)
	if is.Console != nil {
		files, env = append(files, is.Console), append(env, consoleVariable+"="+filepath.Base(is.Console.Name()))
	}
	p, err := Spawn(Spec{
		Role: RoleStarter, Argv0: starterTitle, Files: files, NoNewPrivs: true, Env: env,
		Bound: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL},
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return newStarter(p, nc.(*net.UnixConn)), nil
}

// AdoptStarter returns the starter of the program that has run in this process before. link is
// the descriptor of its link. The caller must call Close.
func AdoptStarter(pid, link int) (*Starter, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("take over the starter: %w", err)
	}
	f := os.NewFile(uintptr(link), "starter")
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over the starter: %w", err)
	}
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		nc.Close()
		return nil, errors.New("take over the starter: its link is no Unix socket")
	}
	return newStarter(p, uc), nil
}

func newStarter(p *os.Process, conn *net.UnixConn) *Starter {
	s := &Starter{pid: p.Pid, lost: make(chan struct{}), over: make(chan struct{}), conn: conn}
	go func() {
		_, _ = p.Wait()
		close(s.over)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lose(errors.New("the process has ended"))
	}()
	return s
}

// Link returns the descriptor of the link, which stays the Starter's.
func (s *Starter) Link() (fd int, err error) {
	raw, err := s.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(d uintptr) { fd = int(d) })
	}
	return fd, err
}

// Renew has the starter execute the program of this process, if that is the one that is
// installed, and if nobody but root can have put it there. The starter keeps its children. If the
// program can't be executed, an error is returned and the starter is what it was before. path is
// where the program is installed, for that error.
func (s *Starter) Renew(path string) error {
	return s.renewal(requestRenew, "/proc/self/exe", path)
}

// MayRenew returns the error that Renew would return in the program at path, without executing
// anything.
func (s *Starter) MayRenew(path string) error {
	return s.renewal(requestMay, path, path)
}

func (s *Starter) renewal(kind byte, program, path string) error {
	fd, err := unix.Open(program, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if _, err := s.requestWithin(renewLimit, kind, 0, 0, syscall.UnixRights(fd)); err != nil {
		return fmt.Errorf("the starter of workers can't execute %s: %w%s", path, err, renewRemedy(err))
	}
	return nil
}

// renewRemedy says what to do about an error of Renew.
func renewRemedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return "; pgagroal must be installed where it was when it was started: install it there, or restart it"
	case errors.Is(err, unix.ENXIO):
		return "; the account of worker_user can't be found any more: make it again"
	case errors.Is(err, unix.EPERM):
		return "; with worker_user only root may be able to change that file and the folders above it: chown them to root, and chmod go-w"
	case errors.Is(err, unix.ESTALE):
		return "; another program was installed in the meantime: upgrade again"
	}
	return ""
}

// Busy reports whether a request is under way. Its answer would be taken for that of the next
// program's first request. Busy of nil is false.
func (s *Starter) Busy() bool { return s != nil && s.open.Load() > 0 }

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

// StartWorker starts a worker with the standard output and standard error of this process.
// files become its descriptors from 3 on, the link first; they stay the caller's. The
// worker is a child of this process, which must wait for it but can't signal it.
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

// StartConsole is StartWorker for the console.
func (s *Starter) StartConsole(files []*os.File) (*os.Process, error) {
	p, err := s.start(requestConsole, 0, files)
	if err != nil {
		return nil, fmt.Errorf("start console: %w", err)
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
	return os.FindProcess(pid) // as long as this process hasn't waited for it, the id is the child's
}

// Kill has SIGKILL sent to a child of the starter, and doesn't wait for that. failed gets the error
// if it can't be sent within starterLimit. A child that has ended is no error.
func (s *Starter) Kill(pid int, failed func(error)) {
	s.open.Add(1) // not only in the goroutine, so that Busy knows of it at once
	go func() {
		defer s.open.Add(-1)
		if _, err := s.request(requestKill, 0, pid, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			failed(fmt.Errorf("kill process %d: %w", pid, err))
		}
	}()
}

// Mute has the starter give up the standard output and standard error that it has from this
// process: whoever started us may wait until nobody has them any more. Mute of nil does
// nothing.
func (s *Starter) Mute() error {
	if s == nil {
		return nil
	}
	_, err := s.request(requestMute, 0, 0, nil)
	return err
}

// request sends a request and waits for the answer.
func (s *Starter) request(kind byte, index, pid int, rights []byte) (int, error) {
	return s.requestWithin(starterLimit, kind, index, pid, rights)
}

func (s *Starter) requestWithin(limit time.Duration, kind byte, index, pid int, rights []byte) (int, error) {
	s.open.Add(1)
	defer s.open.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return 0, fmt.Errorf("the starter is lost: %w", s.why)
	}
	var b [packetSize]byte
	b[0] = kind
	binary.BigEndian.PutUint16(b[2:], uint16(index))
	binary.BigEndian.PutUint32(b[4:], uint32(pid))
	err := s.conn.SetDeadline(time.Now().Add(limit))
	if err == nil {
		_, _, err = s.conn.WriteMsgUnix(b[:], rights, nil)
	}
	n := 0
	if err == nil {
		n, err = s.conn.Read(b[:])
	}
	if err == nil && n != packetSize {
		err = errors.New("malformed answer")
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

// lose gives the starter up, because a late answer would be taken for the answer to the
// next request. The closed link makes the starter kill its children and end. The caller
// holds s.mu.
func (s *Starter) lose(why error) {
	if s.why != nil {
		return
	}
	s.why = why
	s.conn.Close()
	close(s.lost)
}

// Close ends the starter, which kills its children that are still alive, and waits up to
// starterLimit for its end. Close of nil does nothing.
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
