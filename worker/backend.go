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

// partLimit is how long a server may take to close a connection.
const partLimit = 2 * time.Second

// backendState says who is talking to a backend.
//
//	(opening) --> idle <--> attached --> resetting --> idle --> moving --> (gone)
//	               |  ^----- adapting ----^  |
//	               +--> adapting --> attached+--> closed
type backendState uint8

const (
	backendIdle      backendState = iota // nobody: it is on the shelf
	backendAdapting                      // the worker: it prepares the backend for a client
	backendAttached                      // a client
	backendResetting                     // the worker: it cleans up after a client
	backendMoving                        // nobody: the backend goes to another worker
	backendClosed
)

var backendStates = [...]string{"free", "validation", "in_use", "flush", "flush", "not_init"}

func (s backendState) String() string { return backendStates[s] }

type shelved = pool.Backend

// backend is one established connection to a server, with its lease.
type backend struct {
	w    *worker
	conn *reactor.Conn
	// fd and wired are used only until the set-up goroutine has handed the connection to
	// the loop; wired is nil for clear text.
	fd    int
	wired *tlsmem.Wired
	state backendState
	// shelved is the shelf's part: pool, lease, epoch and who may get the backend.
	shelved

	server int
	pid    uint32
	key    []byte // secret
	// Backend is the conversations' part: parameters, statements, leftovers.
	relay.Backend

	session *session
	clock   clock
	script  *script // the worker's own queries in progress, nil for none
	cancel  *cancelJob
	// cancelled continues the reset that waits for a cancel request, nil for none.
	cancelled func()
	since     time.Time
	parting   parting
	// leftovers is the timer of the next check for leftovers, nil for none.
	leftovers *reactor.Timer
	// unanswered is since when the server's host acknowledges nothing, according to every
	// check since then; zero if it does.
	unanswered time.Time
}

// opening is the set-up of a backend in a goroutine.
type opening struct {
	outbound
	waiter *waiter
	grant  *ipc.LeaseGrant
	ahead  bool // no client waits for the backend
	// proof is that of a user that was looked up, and proves what was found out about the
	// user; both are nil for other users.
	proof  *auth.Proof
	proves *storedUser
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Duration
}

// newOpening registers a set-up that is about to start. limit is the time for the whole
// set-up.
func (w *worker) newOpening(wt *waiter, g *ipc.LeaseGrant, limit time.Duration) *opening {
	o := &opening{outbound: outbound{epoch: g.Epoch, pool: wt.Pool}, waiter: wt, grant: g, began: w.now()}
	o.proof, o.proves = w.proofOf(wt.login)
	o.ctx, o.cancel = context.WithTimeout(context.Background(), limit)
	o.stop = o.cancel
	w.outbounds[&o.outbound] = struct{}{}
	return o
}

// open starts the set-up of a backend for a waiter.
func (w *worker) open(wt *waiter, g *ipc.LeaseGrant) {
	cfg := w.cfg
	addr := w.address(g.Server)
	o := w.newOpening(wt, g, ms(cfg.AuthenticationTimeoutMS))
	elsewhere(w, func() (*backend, error) {
		defer o.cancel()
		return w.dial(cfg, o, addr, wt.login, nil)
	}, func(b *backend, err error) { w.opened(o, b, err) })
}

// address returns the addresses of a server, as the supervisor last resolved them.
func (w *worker) address(server int) ipc.ServerInfo {
	for _, s := range w.servers.Servers {
		if s.Index == server {
			return s
		}
	}
	return ipc.ServerInfo{Index: server}
}

// reached moves the address at which a server was reached to the head of its list, until
// the supervisor sends another list. It makes a new list, because set-up goroutines may
// still read the old one.
func (w *worker) reached(server int, at string) {
	for i := range w.servers.Servers {
		s := &w.servers.Servers[i]
		if n := slices.Index(s.Addresses, at); s.Index == server && n > 0 {
			s.Addresses = slices.Concat([]string{at}, s.Addresses[:n], s.Addresses[n+1:])
		}
	}
}

// dial opens a backend, in a set-up goroutine. client is nil if the supervisor has the
// user's password, or a client has proven it; otherwise the client answers the server's
// questions.
func (w *worker) dial(cfg *config, o *opening, addr ipc.ServerInfo, l *login, client socket) (*backend, error) {
	conn, err := o.dial(o.ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	b := w.newBackend(o.waiter.Pool, o.grant.Lease, o.grant.Epoch, o.grant.Server)
	if err := b.begin(conn, cfg, l, client, o.credential(cfg, b, l)); err != nil {
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

// credential returns what answers the server's questions.
func (o *opening) credential(cfg *config, b *backend, l *login) auth.Credential {
	if o.proof != nil {
		return o.proof
	}
	return &credential{w: b.w, ctx: o.ctx, server: b.server, user: l.user, database: l.database, exists: cfg.passwords[l.user]}
}

// newBackend returns a new backend without a connection. Any goroutine may call it.
func (w *worker) newBackend(p *pool.Pool, lease, epoch uint64, server int) *backend {
	b := &backend{w: w, server: server}
	b.shelved = shelved{Pool: p, Lease: lease, Epoch: epoch, Born: time.Since(w.born), Of: b}
	return b
}

// begin encrypts the connection, if the server's section says so, and then logs in.
func (b *backend) begin(conn net.Conn, cfg *config, l *login, client socket, c auth.Credential) (err error) {
	encrypt := cfg.toServers[b.server]
	if encrypt != nil {
		if b.wired, err = encrypt.Start(conn); err != nil {
			return err
		}
		if b.wired != nil {
			conn = b.wired
		}
	}
	opts := encrypt.Login(b.wired)
	opts.Allowed = cfg.methods[b.server]
	if client != nil && opts.RequireBinding {
		return auth.ErrNotBound // what the client answers is bound to its own connection, at best
	}
	return b.login(conn, l, client, c, opts)
}

// login sends the start-up packet, answers the server's questions and reads until the
// server is ready. It sends no application_name, so that a client that gives none gets the
// server's default, or that of the role or database.
func (b *backend) login(conn net.Conn, l *login, client socket, c auth.Credential, opts auth.LoginOptions) error {
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
		method, err = auth.PassThrough(client, conn, opts.Allowed)
	} else {
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

// challengedError is a failure after the client was asked for its password, so that the
// exchange can't be repeated with another backend.
type challengedError struct{ err error }

func (e *challengedError) Error() string { return e.err.Error() }
func (e *challengedError) Unwrap() error { return e.err }

// readReady reads from AuthenticationOk to the server's first ReadyForQuery.
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

// detach returns a duplicate of the connection's descriptor, which Go's poller doesn't
// watch. The caller still has to close the connection.
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

// abandon aborts the connection of a backend that was never added to the loop.
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
	case b.state == backendClosed: // nobody needs these bytes
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

// Flushed says that all queued bytes have been sent to the server, so that the client can
// be read again.
func (e *backendEnd) Flushed() {
	if e.state == backendClosed {
		e.conn.CloseWrite() // the last bytes were a Terminate, see part
		return
	}
	if s := (*backend)(e).session; s != nil && e.state == backendAttached {
		if e.w.passing.moves[s] != nil {
			e.w.tryMove(s)
			return
		}
		s.listen()
	}
}

// onIdle handles bytes from the server of an idle backend. Parameters and notices may come
// at any time; anything else ends the backend.
func (b *backend) onIdle(data []byte) {
	if b.Unasked(data) {
		return
	}
	w := b.w
	w.hintCode(b, "idle connection")
	w.closeBackend(b)
}

// closeBackend ends a backend. It returns the lease only once the server has closed the
// connection, so that the limits hold at the server, too. A busy backend first gets a
// cancel request, because closing a socket doesn't end a query.
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

// parting is the state of a retired backend until its socket is closed.
type parting struct {
	limit *reactor.Timer // closes the socket at the latest
	again *reactor.Timer // sends another cancel request
	said  bool           // Terminate was sent
}

func (p *parting) stop() {
	p.limit.Stop()
	p.again.Stop()
}

// partBy limits how long a retired backend waits for its server to close the connection.
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

// cancelAndPart is part for a busy backend. A cancel request that arrives before the query
// has no effect. Therefore cancelAndPart repeats it after pause, and doubles pause each time.
func (w *worker) cancelAndPart(b *backend, pause time.Duration) {
	w.cancelBackend(b, func() {
		w.part(b)
		if w.backends[b.Lease] == b {
			b.parting.again = w.loop.After(pause, func() { w.cancelAndPart(b, 2*pause) })
		}
	})
}

// retire takes a backend out of use, but keeps its socket and lease.
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

// sawByte records that a server has just sent something.
func (w *worker) sawByte(server int) { w.lastByte[server] = w.loop.Now() }
