package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Limits of the control socket.
const (
	// MaxClients is how many connections are served at once; a further one is
	// closed without an answer.
	MaxClients = 16
	// maxOthers is how many of these connections may belong to users who are neither root
	// nor the owner, so that such users can't lock the operator out.
	maxOthers = 8
	// requestTimeout is how long a client may take for its request, and replyTimeout
	// for reading the whole answer.
	requestTimeout = 10 * time.Second
	replyTimeout   = 10 * time.Second
	// kinTimeout is how long finding out who asks may take.
	kinTimeout = 5 * time.Second
	// closeGrace is how long answers may still be sent once Serve has to end. The answer
	// to `shutdown immediate` needs it.
	closeGrace = time.Second
	// acceptPause is the pause after an accept that failed, for example because no
	// descriptor was free.
	acceptPause = 100 * time.Millisecond
)

// Options of Serve.
type Options struct {
	// Version is the release of pgagroal, for ServerVersion.
	Version string
	// Log gets the commands that change something and those that were denied.
	Log *slog.Logger
	// Serving, unless it is nil, counts the requests that are being answered.
	Serving *atomic.Int32
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// PeerUID returns the user at the other end; nil asks the kernel.
	PeerUID func(*ipc.Conn) (uint32, error)
	// Kin returns how the process at the other end is related to this pgagroal; nil
	// takes everybody for a Stranger. After an error the peer may do only what a Script
	// may do.
	Kin func(context.Context, *ipc.Conn) (Kin, error)
	// RequestTimeout and ReplyTimeout replace the package's limits if they are not 0.
	RequestTimeout, ReplyTimeout time.Duration
}

// server is one call of Serve. The fields below mu are guarded by it.
type server struct {
	sup  Supervisor
	opt  Options
	self uint32
	ctx  context.Context // ends with Serve

	clients sync.WaitGroup

	mu     sync.Mutex
	conns  map[*ipc.Conn]*client
	others int // how many of conns belong to other users, see maxOthers
	closed bool
}

// client is a connection that is being served.
type client struct {
	other     bool // the user is neither root nor the owner
	answering bool // the request has been read
}

// Serve answers on ln, a listener of SOCK_SEQPACKET, until ctx ends or ln is closed. Then
// it closes ln and waits for its goroutines. That takes closeGrace at most after the end of
// ctx, if the commands obey their context. After the end of ln alone they take their time.
func Serve(ctx context.Context, ln *net.UnixListener, sup Supervisor, opt Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{sup: sup, opt: opt.withDefaults(), self: uint32(os.Geteuid()), ctx: ctx, conns: map[*ipc.Conn]*client{}}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.accept(ln)
	ended := context.AfterFunc(ctx, s.close)
	defer ended()
	if err != nil {
		cancel()
	}
	ln.Close()
	s.clients.Wait()
	return err
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PeerUID == nil {
		o.PeerUID = kernelUID
	}
	if o.Kin == nil {
		o.Kin = func(context.Context, *ipc.Conn) (Kin, error) { return Stranger, nil }
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = requestTimeout
	}
	if o.ReplyTimeout == 0 {
		o.ReplyTimeout = replyTimeout
	}
	return o
}

func kernelUID(c *ipc.Conn) (uint32, error) {
	cred, err := c.PeerCred()
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// accept starts a goroutine per connection. It returns nil when ctx has ended.
func (s *server) accept(ln *net.UnixListener) error {
	for {
		sock, err := ln.AcceptUnix()
		switch {
		case err == nil:
			s.start(sock)
		case s.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return nil
		default:
			s.opt.Log.Error("control socket: accept failed", "error", err)
			select {
			case <-s.ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
		}
	}
}

// start admits a connection, or closes it.
func (s *server) start(sock *net.UnixConn) {
	conn := ipc.NewConn(sock, ipc.RoleSupervisor, ipc.RoleControl, s.opt.Log)
	uid, err := s.opt.PeerUID(conn)
	if err != nil {
		s.opt.Log.Error("control socket: no credentials", "error", err)
		conn.Close()
		return
	}
	if !s.add(conn, uid) {
		s.opt.Log.Warn("control socket: too many connections", "uid", uid)
		conn.Close()
		return
	}
	s.clients.Go(func() {
		defer s.remove(conn)
		defer func() {
			if p := recover(); p != nil { // the client sees the end of the connection
				_ = logline.Recovered(s.opt.Log, p)
			}
		}()
		s.serve(conn, uid)
	})
}

func (s *server) add(conn *ipc.Conn, uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := !privileged(uid, s.self)
	if s.closed || len(s.conns) >= MaxClients || other && s.others >= maxOthers {
		return false
	}
	s.conns[conn] = &client{other: other}
	if other {
		s.others++
	}
	return true
}

func (s *server) remove(conn *ipc.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[conn].other {
		s.others--
	}
	delete(s.conns, conn)
	conn.Close()
}

// close ends the wait for requests and limits the time of the commands in progress.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn, c := range s.conns {
		d := time.Duration(0)
		if c.answering {
			d = closeGrace
		}
		_ = conn.SetDeadline(time.Now().Add(d))
	}
}

// setDeadline gives the connection time for its request, or for its answer if answering
// is set. It never extends a deadline that close has set.
func (s *server) setDeadline(conn *ipc.Conn, d time.Duration, answering bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn].answering = answering
	switch {
	case s.closed && answering:
		d = min(d, closeGrace)
	case s.closed:
		d = 0
	}
	_ = conn.SetDeadline(time.Now().Add(d)) // fails on a closed socket only, which the next call finds
}

// serve answers one request; remove closes the connection.
func (s *server) serve(conn *ipc.Conn, uid uint32) {
	s.setDeadline(conn, s.opt.RequestTimeout, false)
	env, err := conn.Receive()
	if err != nil {
		s.opt.Log.Debug("control socket: no request", "uid", uid, "error", err)
		return
	}
	req, ok := env.Message.(*ipc.ControlRequest)
	if !ok { // the catalogue has no other message from this role
		env.CloseFDs()
		return
	}
	if n := s.opt.Serving; n != nil {
		n.Add(1)
		defer n.Add(-1)
	}
	// From here on close leaves time for the answer. Reading the answer gets its whole
	// time, so the deadline is set again below.
	s.setDeadline(conn, s.opt.ReplyTimeout, true)
	who := peer{uid: uid, kin: s.kin(conn, uid)}
	there, stop := s.whileThere(conn)
	doc := s.answer(there, req, who)
	stop()
	s.setDeadline(conn, s.opt.ReplyTimeout, true)
	if err := reply(conn, doc); err != nil {
		s.opt.Log.Debug("control socket: answer not delivered", "uid", uid, "command", req.Command, "error", err)
	}
}

// whileThere returns a context that ends when the client is gone, so that a command which nobody waits for any more can be
// given up. stop ends the watch.
func (s *server) whileThere(conn *ipc.Conn) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	if err := conn.MayAwait(); err != nil {
		cancel() // only a closed connection refuses that
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conn.AwaitEnd() {
			cancel()
		}
	}()
	return ctx, func() {
		_ = conn.StopAwaiting()
		<-ended
		cancel()
	}
}

// kin returns how the process at the other end is related to this pgagroal. If that is
// unknown, because the process has ended or the supervisor has no time, the process may
// decide nothing.
func (s *server) kin(conn *ipc.Conn, uid uint32) Kin {
	ctx, cancel := context.WithTimeout(s.ctx, kinTimeout)
	defer cancel()
	k, err := s.opt.Kin(ctx, conn)
	if err != nil {
		s.opt.Log.Warn("control socket: can't tell who asks", "uid", uid, "error", err)
		return Script
	}
	return k
}

// answer runs the command while its client is there.
func (s *server) answer(there context.Context, req *ipc.ControlRequest, who peer) *control.Document {
	a, start := args(req.Args), s.opt.Now()
	doc := newDocument(req.Command, a, start)
	cmd, code, err := s.check(req, who)
	if err != nil {
		doc.Fail(code, err.Error())
		return doc
	}
	h := handlers[cmd.Name]
	if h.logged {
		s.opt.Log.With(who.attrs()...).Info("control command", "command", cmd.Name, "server", a[control.ArgServer],
			"database", cut(a[control.ArgDatabase]), "force", a[control.ArgForce])
	}
	wait, _, _ := a.number(control.ArgTimeout) // 0 for a bad value, which run refuses
	ctx, cancel := context.WithTimeout(there, cmd.Allows(time.Duration(wait)*time.Second))
	defer cancel()
	switch err := s.run(ctx, h, a, doc, start); {
	case errors.Is(err, errBadRequest):
		doc.Fail(control.CodeBadRequest, err.Error())
	case err != nil:
		doc.Fail(cmd.Failure, err.Error())
	}
	return doc
}

// run runs the command, and turns a panic into an error that the client sees.
func (s *server) run(ctx context.Context, h handler, a args, doc *control.Document, start time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = logline.Recovered(s.opt.Log, p)
		}
	}()
	response, err := h.run(ctx, s.sup, a)
	if err != nil {
		return err
	}
	return doc.Succeed(response, s.opt.Version, s.opt.Now().Sub(start))
}

// check finds the command and decides whether the peer may send it.
func (s *server) check(req *ipc.ControlRequest, who peer) (*control.Command, int, error) {
	if req.Version != ipc.Version {
		return nil, control.CodeVersion, fmt.Errorf("pgagroal-cli speaks version %d, pgagroal version %d", req.Version, ipc.Version)
	}
	cmd := control.Find(req.Command)
	if cmd == nil {
		return nil, control.CodeUnknownCommand, errors.New("pgagroal doesn't know this command")
	}
	if !handlers[cmd.Name].permit.allows(who, s.self) {
		s.opt.Log.With(who.attrs()...).Warn("control command denied", "command", cmd.Name, "kin", who.kin.String())
		return nil, control.CodePermission, errors.New(who.refusal())
	}
	for name := range req.Args {
		if !cmd.Takes(name) {
			return nil, control.CodeBadRequest, fmt.Errorf("%w: %s takes no %q", errBadRequest, cmd.Name, name)
		}
	}
	return cmd, 0, nil
}

// reply sends the document in pieces.
func reply(conn *ipc.Conn, doc *control.Document) error {
	return pieces(doc, func(piece []byte, last bool) error {
		m := &ipc.ControlReply{Data: piece, More: !last}
		if last {
			m.Error, m.Code = doc.Outcome.Message, doc.Outcome.Error
		}
		return conn.Send(m)
	})
}

// pieces calls send with each piece of the document.
func pieces(doc *control.Document, send func(piece []byte, last bool) error) error {
	data, err := control.Encode(doc)
	if err != nil {
		return err
	}
	for len(data) > control.PieceSize {
		if err := send(data[:control.PieceSize], false); err != nil {
			return err
		}
		data = data[control.PieceSize:]
	}
	return send(data, true)
}
