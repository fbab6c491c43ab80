package scriptrunner

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// queueLimit has room for all the output of a run and all other messages, so that a
	// busy supervisor loses nothing.
	queueLimit = maxLines + 64
	// stallLimit is how long one packet may wait before the supervisor counts as
	// gone.
	stallLimit = 10 * time.Second
	// setupLimit is how long a peer may take to prove that it is the supervisor.
	// Meanwhile no other peer is accepted.
	setupLimit = 10 * time.Second
	// acceptPause is the pause after an accept that failed, for example because no
	// descriptor was free. Without it the loop would be busy.
	acceptPause = time.Second
)

// link is the connection to one supervisor.
type link struct {
	conn *ipc.Conn
	out  *ipc.Outbox
	// ready is set with RunnerReady; no message about a run may be sent before that.
	ready bool
	// pending are the hooks of a reload, read for generation pendingGen.
	pending    *hooks
	pendingGen uint64
	// uid is the peer's user. The timer setup ends the link of a peer that doesn't
	// prove in time that it is the supervisor.
	uid   uint32
	setup *time.Timer
}

// received is a message, or the end of the link that it names.
type received struct {
	from *link
	m    ipc.Message
	fds  []int
	err  error
}

// accept hands every connection to the loop.
func (r *runner) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case r.accepted <- nil:
			case <-r.done:
			}
			return
		}
		if err != nil {
			r.log.Error("a connection to the script runner can't be accepted", "error", err)
			if !r.pause(acceptPause) {
				return
			}
			continue
		}
		select {
		case r.accepted <- c:
		case <-r.done:
			c.Close()
			return
		}
	}
}

// onAccept accepts a peer if its user is root, this process's or the configured one, if
// no script has started it, and if no other supervisor is connected. The peer must then
// prove that it is the supervisor.
func (r *runner) onAccept(c *net.UnixConn) {
	conn := ipc.NewConn(c, ipc.RoleRunner, ipc.RoleSupervisor, r.log)
	cred, err := conn.PeerCred()
	if err != nil {
		r.log.Error("a connection to the script runner can't be accepted", "error", err)
		conn.Close()
		return
	}
	if !r.allowed(cred.Uid) {
		r.log.Warn("refused a connection of another user", "user", cred.Uid, "process", cred.Pid)
		conn.Close()
		return
	}
	if pid := int(cred.Pid); proc.DescendsFrom(pid, os.Getpid()) || proc.Carries(pid, runVariable) {
		r.log.Warn("refused a connection of a script", "user", cred.Uid, "process", cred.Pid)
		conn.Close()
		return
	}
	if r.stopping || r.link != nil && r.link.alive() {
		r.log.Warn("refused a second supervisor", "process", cred.Pid)
		conn.Close()
		return
	}
	r.detach()
	r.attach(conn)
	l := r.link
	l.uid = cred.Uid
	l.setup = time.AfterFunc(setupLimit, func() { conn.Close() }) // the reader sees the end
	r.status()
}

// allowed reads the configuration if it couldn't be used so far: whoever connects may have mended it, and
// it names that user.
func (r *runner) allowed(uid uint32) bool {
	if uid == 0 || int(uid) == os.Getuid() {
		return true
	}
	if r.hooks.c == nil && r.o.ConfigPath != "" {
		if err := r.load(r.o.ConfigPath); err != nil {
			r.log.Error("the configuration can't be used", "error", err)
		}
	}
	want, ok := r.hooks.supervisorUID()
	return ok && uid == want
}

func (l *link) alive() bool {
	pid, err := l.conn.PeerPID()
	// 0 is a process of another PID namespace, of which nothing is known.
	return err == nil && (pid == 0 || proc.ProcessAlive(pid))
}

// attach starts the link to a supervisor.
func (r *runner) attach(conn *ipc.Conn) {
	l := &link{conn: conn}
	l.out = ipc.NewOutbox(conn, queueLimit, stallLimit, func(error) { conn.Close() })
	r.link, r.served = l, true
	r.wg.Go(func() { r.receive(l) })
	r.wg.Go(func() { <-l.out.Done() })
	r.send(&ipc.RunnerHello{Version: ipc.Version, PID: os.Getpid(), Build: r.o.Build})
}

// detach ends the link, if there is one. Its goroutines then end by themselves.
func (r *runner) detach() {
	if r.link == nil {
		return
	}
	if r.link.setup != nil {
		r.link.setup.Stop()
	}
	r.link.out.Close()
	r.link.conn.Close()
	r.link = nil
}

// flush waits until the supervisor has received everything, or reads no more.
func (r *runner) flush() {
	if r.link == nil {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	// A write that stalls ends the writer.
	for r.link.out.Len() > 0 {
		select {
		case <-tick.C:
		case <-r.link.out.Done():
			return
		}
	}
	r.link.out.Close() // lets the write in progress end
	<-r.link.out.Done()
}

// pause waits for d, and reports whether the loop still runs.
func (r *runner) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.done:
		return false
	}
}

// receive hands messages to the loop until the link ends, and then that end.
func (r *runner) receive(l *link) {
	for {
		env, err := l.conn.Receive()
		select {
		case r.received <- received{from: l, m: env.Message, fds: env.FDs, err: err}:
		case <-r.done:
			env.CloseFDs()
			return
		}
		if err != nil {
			return
		}
	}
}

func (r *runner) onReceived(m received) {
	if m.from != r.link {
		ipc.Envelope{FDs: m.fds}.CloseFDs()
		return // the message came over a link that was replaced
	}
	if m.err != nil {
		r.onLinkLost(m.err)
		return
	}
	if log, ok := m.m.(*ipc.RunnerLog); ok {
		r.onLog(log, m.fds)
		return
	}
	r.dispatch(m.m)
}

// onLog continues with a log that the supervisor has opened, or another style of lines. A
// service keeps its own log, which no supervisor can take away.
func (r *runner) onLog(m *ipc.RunnerLog, fds []int) {
	if r.o.Listener != nil {
		ipc.Envelope{FDs: fds}.CloseFDs()
		return
	}
	l := m.Log
	logline.Follow(r.log, logline.Settings{Kind: logline.Kind(l.Kind), Level: slog.Level(l.Level), Prefix: l.Prefix, JSON: l.JSON}, fds)
}

func (r *runner) onLinkLost(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		r.log.Info("the supervisor is gone")
	} else {
		r.log.Error("the link to the supervisor is lost", "error", err)
	}
	r.detach()
	r.endCheck("the supervisor is gone")
	if r.o.Listener == nil {
		r.onStop()
	}
	r.status()
}

// dispatch calls the handler of a message.
func (r *runner) dispatch(m ipc.Message) {
	switch m := m.(type) {
	case *ipc.RunnerConfigure:
		r.onConfigure(m)
	case *ipc.RunnerCommit:
		r.onCommit(m)
	case *ipc.Run:
		r.onRun(m)
	case *ipc.CheckRun:
		r.onCheckRun(m)
	case *ipc.StopRun:
		r.onStopRun(m)
	case *ipc.CheckHooks:
		r.send(&ipc.HooksChecked{ID: m.ID, Hooks: r.hooks.check(), Clock: proc.SinceBoot().Milliseconds(), Logged: logline.Lines(r.log)})
	}
}

// send never blocks. Without a supervisor it does nothing.
func (r *runner) send(m ipc.Message) {
	if r.link == nil {
		return
	}
	if err := r.link.out.Send(m); err != nil {
		r.log.Error("a message to the supervisor can't be sent; the link is closed", "message", ipc.Name(m.Number()), "error", err)
		r.link.conn.Close() // the reader sees the end
	}
}

// report sends a message about a run. A supervisor that has just connected learns of
// the run's end from RunnerReady.
func (r *runner) report(m ipc.Message) {
	if r.link != nil && r.link.ready {
		r.send(m)
	}
}

// proven returns why the peer of a service is not to be trusted, nil if it is. Without a
// readable configuration the runner doesn't know where the proof is. It can run nothing
// then, so every peer is accepted, and learns only that the configuration can't be used.
func (r *runner) proven(hooks hooks, secret ipc.Secret) error {
	if r.o.Listener == nil {
		return nil
	}
	if hooks.c == nil {
		r.link.setup.Stop()
		return nil
	}
	if err := proc.CheckProof(hooks.stateDir(), r.link.uid, secret.Reveal()); err != nil {
		return err
	}
	r.link.setup.Stop()
	return nil
}

// onConfigure reads the configuration and answers with its hooks, their problems and what
// is known of earlier runs. A service first checks that its peer is the supervisor of this
// configuration.
func (r *runner) onConfigure(m *ipc.RunnerConfigure) {
	path := m.ConfigPath
	if r.o.Listener != nil {
		path = r.o.ConfigPath
	}
	ready := &ipc.RunnerReady{Gen: m.Gen}
	hooks, err := r.take(m.Gen, path)
	if err != nil {
		r.log.Error("the configuration can't be used", "error", err)
		ready.Error = err.Error()
	}
	if err := r.proven(hooks, m.Secret); err != nil {
		r.log.Error("refused a peer that has not proved that it is the supervisor", "user", r.link.uid, "error", err)
		r.detach()
		r.status()
		return
	}
	ready.Digest = hooks.digest()
	ready.Hooks = hooks.check()
	r.lookAtAdopted()
	switch {
	case r.run != nil && !r.run.check:
		ready.Running = r.run.id
	case len(r.adopted) > 0:
		ready.Running = r.adopted[0].ID
	}
	ready.Results = slices.Clone(r.results)
	r.link.conn.SetPhase(ipc.PhaseRunning)
	r.link.ready = true
	r.send(ready)
}

// take reads the hooks of generation gen and returns them, or the ones in effect if the
// configuration can't be used. Those of a new link take effect at once, those of a reload wait
// for RunnerCommit.
func (r *runner) take(gen uint64, path string) (hooks, error) {
	if !r.link.ready {
		err := r.load(path)
		return r.hooks, err
	}
	next, err := loadHooks(path)
	if err != nil {
		return r.hooks, err
	}
	r.link.pending, r.link.pendingGen = &next, gen
	return next, nil
}

// onCommit puts the hooks of a reload in effect, or drops them.
func (r *runner) onCommit(m *ipc.RunnerCommit) {
	if next := r.link.pending; next != nil && r.link.pendingGen == m.Gen {
		r.hooks = *next
		if r.record == nil {
			r.openRecord(next.stateDir())
		}
	}
	r.link.pending = nil
}
