package worker

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// generous bounds every wait of a test.
const generous = 30 * time.Second

// rig is a worker in the test's own process: the test is its supervisor, its
// server and its clients.
type rig struct {
	t    *testing.T
	w    *worker
	sup  *ipc.Conn
	msgs chan ipc.Message
	fds  chan int // descriptors of messages
	// logins has the server's end of each backend after its login.
	logins chan *serverEnd
	// open keeps these ends from the collector, which would close those that no test holds.
	open sync.Map
	// cancels has the process ids of cancel requests.
	cancels chan uint32
	// holdCancels, if set, makes the server finish one cancel request per value.
	holdCancels chan struct{}
	// gate, if set, makes the server wait for a value before it answers a login.
	gate chan struct{}
	// greetings, if set, has what the server sends at each login.
	greetings chan greeting
	// stores, if set, is the MD5 hash that the server has of the password of its users.
	stores string
	leases uint64
}

// greeting is what a server sends at a login.
type greeting struct {
	pid    uint32
	params []pgwire.Param
}

// serverEnd is the server's end of a backend.
type serverEnd struct {
	*net.TCPConn
	r *bufio.Reader
}

// newRig starts a worker whose one server is open at epoch 1.
func newRig(t *testing.T, cfg ipc.ConfigBegin) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ours, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleWorker, log)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	conn, err := ipc.FromFD(fd, ipc.RoleWorker, ipc.RoleSupervisor, log)
	if err != nil {
		t.Fatal(err)
	}
	ours.SetPhase(ipc.PhaseRunning)
	conn.SetPhase(ipc.PhaseRunning)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorker(log, conn)
	w.lastByte = make([]time.Time, 1)
	w.servers = ipc.ServerState{Gen: 1, Epoch: 1, Open: true, Servers: []ipc.ServerInfo{
		{Index: 0, Network: "tcp", Addresses: []string{ln.Addr().String()}},
	}}
	if cfg.AuthenticationTimeoutMS == 0 {
		cfg.AuthenticationTimeoutMS = generous.Milliseconds()
	}
	w.cfg = &config{ConfigBegin: cfg, passwords: map[string]bool{"u": true}, reset: relay.ResetQueries(cfg.ResetQuery), reader: readerOf(&cfg)}
	w.shelf.Limits = shelfLimits(&cfg, nil)
	w.shelf.SetTarget(true, 1, 0)
	if w.loop, err = w.newLoop(cfg.EvBackend); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, w: w, sup: ours, msgs: make(chan ipc.Message, 1000), fds: make(chan int, 10), logins: make(chan *serverEnd, 1000), cancels: make(chan uint32, 1000)}
	done := make(chan struct{}, 3)
	go func() { w.run(); done <- struct{}{} }()
	go func() { r.supervise(); done <- struct{}{} }()
	go func() { r.listen(ln); done <- struct{}{} }()
	t.Cleanup(func() {
		w.loop.Stop()
		ln.Close()
		ours.Close()
		for range 3 {
			<-done
		}
	})
	return r
}

// supervise passes the worker's messages to the test.
func (r *rig) supervise() {
	for {
		env, err := r.sup.Receive()
		if err != nil {
			return
		}
		for _, fd := range env.FDs {
			r.fds <- fd
		}
		r.msgs <- env.Message
	}
}

func (r *rig) listen(ln net.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		go r.login(nc.(*net.TCPConn))
	}
}

// login plays the server for one connection: it logs a backend in without a password, or
// records a cancel request and closes the connection.
func (r *rig) login(nc *net.TCPConn) {
	m, err := pgwire.ReadStartup(nc)
	if err != nil || m.Kind != pgwire.StartupMessage {
		if m.Kind == pgwire.CancelRequest {
			r.cancels <- m.PID
			if r.holdCancels != nil {
				<-r.holdCancels
			}
		}
		nc.Close()
		return
	}
	if r.gate != nil {
		<-r.gate
	}
	if r.stores != "" && !proves(nc, r.stores) {
		_, _ = nc.Write(pgwire.RefusalBadPassword.With(m.User).Append(nil))
		nc.Close()
		return
	}
	told := greeting{pid: 42, params: []pgwire.Param{{Name: "client_encoding", Value: "UTF8"}}}
	if r.greetings != nil {
		told = <-r.greetings
	}
	msg := pgwire.AppendAuthenticationOK(nil)
	for _, p := range told.params {
		msg = pgwire.AppendParameterStatus(msg, p.Name, p.Value)
	}
	msg = pgwire.AppendBackendKeyData(msg, told.pid, []byte{1, 2, 3, 4})
	if _, err := nc.Write(pgwire.AppendReadyForQuery(msg, pgwire.TxIdle)); err != nil {
		nc.Close()
		return
	}
	r.open.Store(nc, true)
	r.logins <- &serverEnd{nc, bufio.NewReader(nc)}
}

// pool returns the pool of the clients of connect.
func (r *rig) pool() *pool.Pool { return r.w.shelf.Lookup(pool.Key(poolD)) }

// do runs f on the loop and waits for it.
func (r *rig) do(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	r.w.loop.Post(func() { defer close(done); f() })
	wait(r.t, done, "the loop")
}

func wait[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(generous):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// expect waits for the next message of a type and skips others.
func expect[T ipc.Message](r *rig) T {
	r.t.Helper()
	limit := time.After(generous)
	for {
		select {
		case m := <-r.msgs:
			if v, ok := m.(T); ok {
				return v
			}
		case <-limit:
			var none T
			r.t.Fatalf("waited in vain for %T", none)
		}
	}
}

// grant answers a request with a lease of epoch 1.
func (r *rig) grant(id uint64) uint64 {
	r.t.Helper()
	r.leases++
	r.send(&ipc.LeaseGrant{ID: id, Lease: r.leases, Epoch: 1})
	return r.leases
}

// grantUntil answers every request until done is closed.
func (r *rig) grantUntil(done <-chan struct{}) {
	r.t.Helper()
	limit := time.After(generous)
	for {
		select {
		case m := <-r.msgs:
			if req, ok := m.(*ipc.LeaseRequest); ok {
				r.grant(req.ID)
			}
		case <-done:
			return
		case <-limit:
			r.t.Fatal("granting leases was in vain")
		}
	}
}

func (r *rig) send(m ipc.Message) {
	r.t.Helper()
	if err := r.sup.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

// clientPair returns the descriptor of a client, for a worker, and the client's own end.
func clientPair(t *testing.T) (int, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "client")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(generous))
	return fds[0], conn.(*net.UnixConn)
}

// testClient is a client's own end of its connection.
type testClient struct {
	net.Conn
	*pgproto3.Frontend
	s *session
}

// connect begins the session of a client, which then needs a backend.
func (r *rig) connect(id uint64, follow ...pgwire.Param) *testClient {
	r.t.Helper()
	l := &login{}
	l.follow, _, _ = relay.SplitStartup(follow, "u")
	return r.connectAs(id, l, (*session).seek)
}

// connectAs begins the session of a client with a login as u.
func (r *rig) connectAs(id uint64, l *login, begin func(*session)) *testClient {
	r.t.Helper()
	fd, conn := clientPair(r.t)
	tc := &testClient{Conn: conn, Frontend: pgproto3.NewFrontend(conn, io.Discard)}
	l.user, l.database, l.requested, l.key = "u", "d", "d", poolD
	r.do(func() {
		c := &client{id: id, start: time.Now()}
		r.w.clients[id] = c
		conn, err := r.w.loop.Add(fd, nil)
		if err != nil {
			r.t.Error(err)
			return
		}
		tc.s = r.w.newSession(c, conn, l)
		begin(tc.s)
	})
	return tc
}

// until reads on the server's end up to a message of a type.
func (c *testClient) until(t *testing.T, typ pgproto3.BackendMessage) pgproto3.BackendMessage {
	t.Helper()
	for {
		m, err := c.Receive()
		if err != nil {
			t.Fatalf("wait for %T: %v", typ, err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			if _, wanted := typ.(*pgproto3.ErrorResponse); !wanted {
				t.Fatalf("wait for %T: got error %s %s", typ, e.Code, e.Message)
			}
		}
		if kindOf(m) == kindOf(typ) {
			return m
		}
	}
}

func kindOf(m pgproto3.BackendMessage) string {
	b, _ := m.Encode(nil)
	return string(b[:1])
}

// enter begins the session of a client, on a new backend.
func (r *rig) enter(id uint64) (*testClient, *serverEnd) {
	r.t.Helper()
	tc := r.connect(id)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	srv := r.nextLogin()
	r.t.Cleanup(func() { srv.Close() })
	tc.until(r.t, &pgproto3.ReadyForQuery{})
	return tc, srv
}

// nextLogin waits until a backend has logged in, after a grant. A worker whose pool has
// backends may withdraw a request that is answered late, and make another one; nextLogin
// grants that, too. Other messages stay for the test.
func (r *rig) nextLogin() *serverEnd {
	r.t.Helper()
	var others []ipc.Message
	limit := time.After(generous)
	for {
		select {
		case srv := <-r.logins:
			for _, m := range others {
				r.msgs <- m
			}
			return srv
		case m := <-r.msgs:
			switch m := m.(type) {
			case *ipc.LeaseRequest:
				r.grant(m.ID)
			case *ipc.LeaseAbandon, *ipc.LeaseReturn: // of the withdrawn request
			default:
				others = append(others, m)
			}
		case <-limit:
			r.t.Fatal("waited in vain for the login of a backend")
		}
	}
}
