package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// stallLimit is how long one write to a link may take.
const stallLimit = 5 * time.Second

// childEnvironment are the variables that children inherit. PGAGROAL_CONFIG_DIR is not
// one of them: the supervisor tells children what to read.
var childEnvironment = [...]string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GOTRACEBACK", "GOCOVERDIR", proc.CoresVariable}

// startChild starts a process with its link. It may block. starter is nil when
// all children run as the supervisor's own user.
func startChild(spec startSpec, starter *proc.Starter, log *slog.Logger) (*started, error) {
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, spec.peer, log)
	if err != nil {
		return nil, err
	}
	files := []*os.File{theirs}
	if spec.lock != nil {
		files = append(files, spec.lock)
	}
	p, kill, err := spawn(spec, files, starter, log)
	if err != nil {
		theirs.Close()
		conn.Close()
		return nil, err
	}
	st := newStarted(conn, spec.queue, log)
	if spec.role == proc.RoleWorker {
		st.keep(conn, theirs, log)
	} else {
		theirs.Close()
	}
	st.own(p, kill)
	return st, nil
}

// own makes a process that is our child the other end of the link.
func (st *started) own(p *os.Process, kill func()) {
	over := make(chan struct{})
	st.pid, st.over = p.Pid, over
	st.kill = kill
	listen := st.listen
	st.listen = func(message func(ipc.Message, ...int), ended func(error), exited func(string)) {
		listen(message, ended, nil)
		go func() {
			how := waitFor(p)
			close(over)
			exited(how)
		}()
	}
}

// adoptChild makes our end of the link to a worker that the program before has started. The link
// is in its running phase.
func adoptChild(w *inheritedWorker, spec startSpec, starter *proc.Starter, log *slog.Logger) (*started, error) {
	conn, err := ipc.FromFD(w.Link, ipc.RoleSupervisor, ipc.RoleWorker, log)
	if err != nil {
		return nil, err
	}
	conn.SetPhase(ipc.PhaseRunning)
	unix.CloseOnExec(w.Theirs)
	p, err := os.FindProcess(w.PID)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("take over process %d: %w", w.PID, err)
	}
	st := newStarted(conn, spec.queue, log)
	st.keep(conn, os.NewFile(uintptr(w.Theirs), "link"), log)
	st.own(p, killer(p, spec, starter, log))
	return st, nil
}

// spawn starts the process of a child. If there is a starter, it starts workers and the
// further children.
func spawn(spec startSpec, files []*os.File, starter *proc.Starter, log *slog.Logger) (p *os.Process, kill func(), err error) {
	if starter == nil || spec.role == proc.RoleRunner {
		p, err = proc.Spawn(proc.Spec{
			Role: spec.role, Program: spec.program, Argv0: spec.argv0, Files: files, Env: inherited(),
			NoNewPrivs: spec.role != proc.RoleRunner,
		})
		return p, killer(p, spec, nil, log), err
	}
	switch spec.role {
	case proc.RoleProber:
		p, err = starter.StartProber(files)
	case proc.RoleConsole:
		p, err = starter.StartConsole(files)
	default:
		p, err = starter.StartWorker(spec.index, files)
	}
	if err != nil {
		return nil, nil, err
	}
	return p, killer(p, spec, starter, log), nil
}

// killer returns what kills a process. It reports no error: it fails only when the process has
// ended, whose exit is about to be seen, or when the starter is lost, which ends the supervisor.
func killer(p *os.Process, spec startSpec, starter *proc.Starter, log *slog.Logger) func() {
	if starter == nil {
		return func() { _ = p.Kill() }
	}
	pid := p.Pid
	return func() {
		starter.Kill(pid, func(err error) {
			log.Error("child can't be killed", "role", spec.role, "child", pid, "error", err)
		})
	}
}

func inherited() []string {
	var list []string
	for _, name := range childEnvironment {
		if v, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+v)
		}
	}
	return list
}

func waitFor(p *os.Process) string {
	st, err := p.Wait()
	if err != nil {
		return err.Error()
	}
	return st.String()
}

// dialRunner connects to a runner that is a service.
func dialRunner(ctx context.Context, path string, log *slog.Logger) (*started, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the runner: %w", err)
	}
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		nc.Close()
		return nil, errors.New("connect to the runner: not a Unix socket")
	}
	return newStarted(ipc.NewConn(uc, ipc.RoleSupervisor, ipc.RoleRunner, log), queueLimit, log), nil
}

// newStarted makes our end of a link, as if the process at the other end weren't our
// child; startChild adds what it knows of a child.
func newStarted(conn *ipc.Conn, queue int, log *slog.Logger) *started {
	// The reader also sees a failed write, as the end of the link.
	out := ipc.NewOutbox(conn, queue, stallLimit, func(error) { conn.Close() })
	v := &valve{conn: conn}
	return &started{
		link: out, valve: v,
		kill: func() {},
		listen: func(message func(ipc.Message, ...int), ended func(error), _ func(string)) {
			go func() {
				ended(logline.Guarded(log, func() error { return receive(v, message) }))
			}()
		},
		unread: out.Unsent,
		close:  func() { out.Close(); conn.Close() },
	}
}

// keep holds the child's end of the link open until close, so that messages that the
// child hasn't read when it dies can still be read here.
func (st *started) keep(conn *ipc.Conn, theirs *os.File, log *slog.Logger) {
	out, closeLink := st.link.(*ipc.Outbox), st.close
	st.valve.theirs = theirs
	st.unread = func() []ipc.Envelope {
		unsent := out.Unsent()
		sent, err := conn.Unread(theirs)
		if err == nil {
			<-out.Done() // the message that it is writing now fits into the socket
			var last []ipc.Envelope
			last, err = conn.Unread(theirs)
			sent = append(sent, last...)
		}
		if err != nil {
			log.Error("messages that a dead worker had not read are lost", "child", st.pid, "error", err)
			conn.Close() // otherwise the writer would wait for room
			<-out.Done()
		}
		return append(sent, unsent...)
	}
	st.close = func() { closeLink(); theirs.Close() }
}

// receive passes messages on until the link ends. After the message that ends the set-up
// it moves the link to its running phase, before it reads the next packet: the other end
// did the same as soon as it had sent that message.
func receive(v *valve, message func(ipc.Message, ...int)) error {
	conn := v.conn
	for {
		env, err := conn.Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			v.wait()
			continue
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return io.EOF
		case err != nil:
			return err
		}
		switch env.Message.(type) {
		case *ipc.ConfigDone, *ipc.RunnerReady, *ipc.ProberReady, *ipc.ConsoleReady:
			conn.SetPhase(ipc.PhaseRunning)
		}
		message(env.Message, env.FDs...)
	}
}
