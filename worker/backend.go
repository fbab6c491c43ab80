package worker

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// partLimit is how long to wait for a server to close a connection.
const partLimit = 2 * time.Second

// backendState says who is talking to a backend.
//
//	(opening) --> idle <--> attached --> resetting --> idle --> moving --> (gone)
//	               |  ^----- adapting ----^  |
//	               +--> adapting --> attached+--> closed
type backendState uint8

const (
	backendIdle      backendState = iota // on the shelf
	backendAdapting                      // the worker: it sets parameters for the next client
	backendAttached                      // a client
	backendResetting                     // the worker: it cleans up after a client
	backendMoving                        // nobody: it is leaving for another worker
	backendClosed
)

var backendStates = [...]string{"free", "validation", "in_use", "flush", "flush", "not_init"}

func (s backendState) String() string { return backendStates[s] }

type shelved = pool.Backend

// backend is one established connection to a server, with its lease.
type backend struct {
	w    *worker
	conn *reactor.Conn
	// fd and wired are for the hand-over from the set-up goroutine to the loop; wired is
	// nil for clear text.
	fd    int
	wired *tlsmem.Wired
	state backendState
	// shelved is the shelf's part: pool, lease, epoch and who may get the backend.
	shelved

	server int
	pid    uint32
	key    []byte // secret
	// Backend is the part of conversations: parameters, statements, leftovers.
	relay.Backend

	session *session
	script  *script // what the worker itself sends to it
	cancel  *cancelJob
	// cancelled continues the reset that waits for a cancel request, nil for none.
	cancelled func()
	since     time.Time
	parting   parting
	// leftovers is the timer of the next look at what its client has left, nil for none.
	leftovers *reactor.Timer
	// unanswered is since when every check has found that its host answers nothing.
	unanswered time.Time
}

// opening is the set-up of a backend in a goroutine.
type opening struct {
	outbound
	waiter *waiter
	grant  *ipc.LeaseGrant
	ctx    context.Context
	cancel context.CancelFunc
}

// newOpening registers a set-up that is about to start. limit is the time for all
// of it.
func (w *worker) newOpening(wt *waiter, g *ipc.LeaseGrant, limit time.Duration) *opening {
	o := &opening{outbound: outbound{epoch: g.Epoch}, waiter: wt, grant: g}
	o.ctx, o.cancel = context.WithTimeout(context.Background(), limit)
	o.stop = o.cancel
	w.outbounds[&o.outbound] = struct{}{}
	return o
}

// open starts the set-up of a backend for a waiting session.
func (w *worker) open(wt *waiter, g *ipc.LeaseGrant) {
	cfg := w.cfg
	addr := w.address(g.Server)
	o := w.newOpening(wt, g, ms(cfg.AuthenticationTimeoutMS))
	elsewhere(w, func() (*backend, error) {
		defer o.cancel()
		return w.dial(cfg, o, addr, wt.login, nil)
	}, func(b *backend, err error) { w.opened(o, b, err) })
}

// address returns where a server is, as the supervisor last resolved it.
func (w *worker) address(server int) ipc.ServerInfo {
	for _, s := range w.servers.Servers {
		if s.Index == server {
			return s
		}
	}
	return ipc.ServerInfo{Index: server}
}

// reached puts the address at which a server was reached at the head of its list, until
// the supervisor sends another list. Set-up goroutines may still read the old list.
func (w *worker) reached(server int, at string) {
	for i := range w.servers.Servers {
		s := &w.servers.Servers[i]
		if n := slices.Index(s.Addresses, at); s.Index == server && n > 0 {
			s.Addresses = slices.Concat([]string{at}, s.Addresses[:n], s.Addresses[n+1:])
		}
	}
}

// dial opens a backend, in a set-up goroutine. client is nil if this worker knows
// the password; otherwise the server's questions are passed to the client.
func (w *worker) dial(cfg *config, o *opening, addr ipc.ServerInfo, l *login, client socket) (*backend, error) {
	conn, err := o.dial(o.ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	b := w.newBackend(o.waiter.Pool, o.grant.Lease, o.grant.Epoch, o.grant.Server)
	if err := b.begin(o.ctx, conn, cfg, l, client); err != nil {
		if o.isFenced() {
			return nil, errFenced
		}
		return nil, err
	}
	socketOptions(conn, cfg)
	b.fd, err = detach(conn.(syscall.Conn)) // a TCP or a Unix connection
	if err != nil {
		return nil, err
	}
	return b, nil
}

// newBackend makes a backend that has just been opened. Any goroutine may call it.
func (w *worker) newBackend(p *pool.Pool, lease, epoch uint64, server int) *backend {
	b := &backend{w: w, server: server}
	b.shelved = shelved{Pool: p, Lease: lease, Epoch: epoch, Born: time.Since(w.born), Of: b}
	return b
}

// begin encrypts the connection, if the server's section says so, and logs in.
func (b *backend) begin(ctx context.Context, conn net.Conn, cfg *config, l *login, client socket) (err error) {
	encrypt := cfg.toServers[b.server]
	if encrypt != nil {
		if b.wired, err = encrypt.Start(conn); err != nil {
			return err
		}
		if b.wired != nil {
			conn = b.wired
		}
	}
	return b.login(ctx, conn, cfg, l, client, encrypt.Login(b.wired))
}

// login sends the start-up packet, answers the server's questions and reads until
// the server is ready. It gives no application_name, so that the server's defaults, those
// of the role and the database included, are what a client without one finds.
func (b *backend) login(ctx context.Context, conn net.Conn, cfg *config, l *login, client socket, opts auth.LoginOptions) error {
	startup := []pgwire.Param{
		{Name: "user", Value: l.user},
		{Name: "database", Value: l.database},
	}
	msg, err := pgwire.AppendStartup(nil, append(startup, l.rest...))
	if err != nil {
		return err
	}
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	var method auth.Method
	if client != nil {
		method, err = auth.PassThrough(client, conn)
	} else {
		c := &credential{w: b.w, ctx: ctx, server: b.server, user: l.user, database: l.database, exists: cfg.passwords[l.user]}
		method, err = auth.Login(conn, c, opts)
	}
	if err != nil {
		if client != nil && method != auth.Trust {
			return &challengedError{err}
		}
		return err
	}
	b.Trusting = method == auth.Trust
	b.Private = client != nil && !b.Trusting
	return b.readReady(conn)
}

// challengedError is a failure after the client was asked for its password: the
// exchange can't be repeated with another backend.
type challengedError struct{ err error }

func (e *challengedError) Error() string { return e.err.Error() }
func (e *challengedError) Unwrap() error { return e.err }

// readReady reads what a server sends between AuthenticationOk and its first
// ReadyForQuery.
func (b *backend) readReady(conn net.Conn) error {
	for {
		typ, body, err := pgwire.ReadMessage(conn, 64<<10)
		if err != nil {
			return err
		}
		switch typ {
		case 'S':
			b.Base.Reported(body)
		case 'K':
			var k pgproto3.BackendKeyData
			if err := k.Decode(body); err != nil {
				return fmt.Errorf("read the cancel key: %w", err)
			}
			b.pid, b.key = k.ProcessID, append([]byte(nil), k.SecretKey...)
		case 'E':
			return &auth.ServerError{Fields: pgwire.ParseError(body), Body: body}
		case 'Z':
			b.Params = b.Base.Clone()
			return nil
		}
	}
}

// detach returns a duplicate of the descriptor that Go's poller doesn't watch. The
// caller still has to close the connection.
func detach(conn syscall.Conn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var derr error
	if err := raw.Control(func(old uintptr) {
		fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return -1, err
	}
	return fd, derr
}

func socketOptions(conn net.Conn, cfg *config) {
	if tc, ok := conn.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(cfg.NoDelay)
		_ = tc.SetKeepAlive(cfg.KeepAlive)
	}
}

// abandon cuts a backend that was never added to the loop.
func (b *backend) abandon() { reactor.Abort(b.fd) }

// adopt adds a backend that a goroutine has set up to the loop.
func (w *worker) adopt(b *backend) error {
	conn, err := w.loop.Add(b.fd, (*backendEnd)(b))
	if err != nil {
		return err
	}
	b.conn = conn
	if b.wired != nil {
		conn.Secure(b.wired.Memory(w.loop.Memory()))
		b.wired = nil
	}
	w.backends[b.Lease] = b
	w.lastByte[b.server] = time.Now()
	w.learn(b)
	w.send(&ipc.LeaseOpened{Lease: b.Lease, PID: b.pid, Key: ipc.Secret(b.key)})
	w.send(w.loginSeen(b))
	return nil
}

func (w *worker) loginSeen(b *backend) *ipc.LoginSeen {
	m := &ipc.LoginSeen{Lease: b.Lease, NoPassword: b.Trusting}
	m.Version, _ = b.Base.Get("server_version")
	switch v, _ := b.Base.Get("in_hot_standby"); v {
	case "on":
		m.HotStandby = ipc.StandbyOn
	case "off":
		m.HotStandby = ipc.StandbyOff
	}
	return m
}

// backendEnd is the server's side of a backend, as the loop sees it.
type backendEnd backend

// Received handles bytes from the server.
func (e *backendEnd) Received(data []byte) {
	b := (*backend)(e)
	b.w.sawByte(b.server)
	switch {
	case b.state == backendClosed: // nobody needs what it still sends
	case b.state == backendAttached:
		b.session.fromServer(data)
	case b.script != nil:
		b.onScript(data)
	default:
		b.onIdle(data)
	}
}

// Ended says that the server has closed the connection, or that it has failed.
func (e *backendEnd) Ended(err error) {
	b := (*backend)(e)
	w := b.w
	if b.state == backendClosed {
		w.finishClose(b)
		return
	}
	if err == nil {
		err = io.EOF
	}
	w.hintOf(b.server, b.Epoch, err)
	s := b.session
	b.retire()
	w.finishClose(b)
	if s != nil {
		s.serverGone()
	}
}

// Flushed says that the server has taken all queued bytes; the client is read
// again.
func (e *backendEnd) Flushed() {
	if e.state == backendClosed {
		e.conn.CloseWrite() // after Terminate, see part
		return
	}
	if s := (*backend)(e).session; s != nil && e.state == backendAttached {
		s.listen()
	}
}

// onIdle handles what a server sends without being asked. Parameters and notices
// may come at any time; anything else ends the backend.
func (b *backend) onIdle(data []byte) {
	if b.Unasked(data) {
		return
	}
	w := b.w
	w.hintCode(b, "idle connection")
	w.closeBackend(b)
}

// closeBackend ends a backend, and returns its lease once the server has closed the
// connection, so that the limits hold at the server, too. A busy backend first gets
// a cancel request, since closing a socket doesn't end a query.
func (w *worker) closeBackend(b *backend) {
	if b.state == backendClosed {
		return
	}
	busy := b.script != nil || b.state == backendAttached && b.session != nil && b.session.busy()
	b.retire()
	b.since = time.Now()
	b.conn.Resume()
	w.partBy(b)
	if busy {
		w.cancelAndPart(b, partLimit/8)
		return
	}
	w.part(b)
}

// parting is the end of a retired backend.
type parting struct {
	limit *reactor.Timer
	again *reactor.Timer // until another cancel request
	said  bool           // Terminate was sent
}

func (p *parting) stop() {
	p.limit.Stop()
	p.again.Stop()
}

// partBy limits the wait for the end of a retired backend, in case its server
// doesn't answer.
func (w *worker) partBy(b *backend) {
	b.parting.limit = w.loop.After(partLimit, func() {
		if b.cancel != nil {
			b.cancel.insist = true
		}
		w.finishClose(b)
	})
}

// part sends Terminate to a retired backend; its server then closes the connection.
func (w *worker) part(b *backend) {
	if w.backends[b.Lease] != b || b.parting.said {
		return
	}
	b.parting.said = true
	b.conn.Send(pgwire.AppendTerminate(nil))
	if b.conn.Queued() == 0 {
		b.conn.CloseWrite()
	}
}

// cancelAndPart is part for a busy backend. A cancel request that arrives before
// its query has no effect, so it is repeated after pause, and after twice that each
// further time.
func (w *worker) cancelAndPart(b *backend, pause time.Duration) {
	w.cancelBackend(b, func() {
		w.part(b)
		if w.backends[b.Lease] == b {
			b.parting.again = w.loop.After(pause, func() { w.cancelAndPart(b, 2*pause) })
		}
	})
}

// retire takes a backend out of use; its socket and lease still exist.
func (b *backend) retire() {
	b.w.shelf.Unshelve(&b.shelved)
	b.state = backendClosed
	b.script.stop()
	b.leftovers.Stop()
	b.script = nil
	b.session = nil
}

// finishClose closes the socket of a retired backend and returns the lease.
func (w *worker) finishClose(b *backend) {
	if w.backends[b.Lease] != b {
		return // a fence has done it already
	}
	delete(w.backends, b.Lease)
	b.parting.stop()
	b.conn.Close()
	w.shelf.Gone(&b.shelved)
	w.send(&ipc.LeaseReturn{Lease: b.Lease})
	w.stats.closed++
	w.checkDrained()
}

// sawByte records that a server is alive.
func (w *worker) sawByte(server int) { w.lastByte[server] = w.loop.Now() }
