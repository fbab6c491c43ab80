package worker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// memoryLog is a log that tests read while others write.
type memoryLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *memoryLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *memoryLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newBreakableRig is a rig that asks clients for a clear-text password, and its log.
func newBreakableRig(t *testing.T) (*rig, *memoryLog) {
	t.Helper()
	r, log := newRig(t, pooling()), &memoryLog{}
	rule := auth.Rule{Type: auth.Local, Database: auth.Names{All: true}, User: auth.Names{All: true}, Method: auth.Password}
	r.do(func() {
		r.w.log = logline.New(log, "", slog.LevelDebug, "w")
		r.w.cfg.known = map[string]bool{"u": true}
		r.w.cfg.verifiers = auth.NewVerifiers(nil)
		r.w.cfg.hba = []auth.Rule{rule}
	})
	return r, log
}

// panicked waits for the stack of a panic, and for a client that works nevertheless.
func (r *rig) panicked(log fmt.Stringer, what string) {
	r.t.Helper()
	pgtest.WaitUntil(r.t, generous, "the stack", func() bool {
		return strings.Contains(log.String(), "internal error") && strings.Contains(log.String(), what) && strings.Contains(log.String(), "stack ")
	}, log.String)
	tc, srv := r.enter(99)
	defer tc.Close()
	say(r.t, tc, string(pgwire.AppendQuery(nil, "x")))
	_ = srv.SetReadDeadline(time.Now().Add(generous))
	if _, err := srv.r.ReadByte(); err != nil {
		r.t.Errorf("another client isn't served: %v", err)
	}
}

// logsIn has a client log in with a clear-text password, and returns what it gets.
func (r *rig) logsIn(id uint64, address string, more ...[]byte) *pgproto3.Frontend {
	r.t.Helper()
	fd, conn := clientPair(r.t)
	r.sendFD(&ipc.NewClient{ID: id, Address: address}, fd)
	for _, b := range more {
		if _, err := conn.Write(b); err != nil {
			r.t.Fatal(err)
		}
	}
	return pgproto3.NewFrontend(conn, conn)
}

// startUp is a StartupMessage.
func startUp(t *testing.T) []byte {
	t.Helper()
	b, err := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "u"}, {Name: "database", Value: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// left waits until the supervisor is told that a client has gone.
func (r *rig) left(id uint64) {
	r.t.Helper()
	if gone := expect[*ipc.ClientsGone](r); !slices.Equal(gone.IDs, []uint64{id}) {
		r.t.Errorf("clients %d are gone, not %d", gone.IDs, id)
	}
}

// isRefused reads up to the refusal that says nothing of the inside.
func isRefused(t *testing.T, f *pgproto3.Frontend) {
	t.Helper()
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatalf("wait for the refusal: %v", err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			if e.Code != pgwire.CodeInternalError || e.Message != "connection refused: internal error" {
				t.Errorf("the refusal is %s %s", e.Code, e.Message)
			}
			return
		}
	}
}

func TestPanicWhileAClientIsIdentifiedCostsThatClient(t *testing.T) {
	r, log := newBreakableRig(t)
	r.do(func() { r.w.cfg.verifiers = nil })
	isRefused(t, r.logsIn(7, "", startUp(t), pgwire.AppendPassword(nil, "secret")))
	r.left(7)
	r.panicked(log, "nil pointer")
	if text := log.String(); strings.Contains(text, "secret") {
		t.Errorf("the password is in the log:\n%s", text)
	}
}

func TestPanicWhileAPasswordIsDerivedCostsThatClient(t *testing.T) {
	r, log := newBreakableRig(t)
	deriving := make(chan struct{})
	close(deriving) // sending to it panics
	r.do(func() { r.w.secrets.deriving = deriving })
	isRefused(t, r.logsIn(7, "", startUp(t), pgwire.AppendPassword(nil, "secret")))
	r.left(7)
	r.panicked(log, "closed channel")
}

func TestPanicInAHandshakeCostsThatClient(t *testing.T) {
	r, log := newBreakableRig(t)
	r.do(func() {
		r.w.cfg.tls = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("hello") }}
	})
	fd, conn := clientPair(t)
	r.sendFD(&ipc.NewClient{ID: 7, Address: "127.0.0.1:5"}, fd)
	say(t, conn, string(pgwire.AppendSSLRequest(nil)))
	hear(t, conn, "S")
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); !errors.Is(err, io.EOF) {
		t.Errorf("the handshake ends with %v", err)
	}
	r.left(7)
	r.panicked(log, "hello")
}

// A client that is refused closes at once; the log says why it was refused all the same.
func TestHandshakeOfAClientThatHasLeftSaysWhyItFailed(t *testing.T) {
	r, log := newBreakableRig(t)
	fd, conn := clientPair(t)
	r.do(func() {
		r.w.cfg.tls = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			conn.Close()
			for range 100 { // the loop finds the end
				r.do(func() {})
			}
			return nil, errors.New("the true reason")
		}}
	})
	r.sendFD(&ipc.NewClient{ID: 7, Address: "127.0.0.1:5"}, fd)
	say(t, conn, string(pgwire.AppendSSLRequest(nil)))
	hear(t, conn, "S")
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("the handshake succeeds")
	}
	r.left(7)
	if text := log.String(); !strings.Contains(text, "the true reason") {
		t.Errorf("the log:\n%s", text)
	}
}

// A server isn't to blame for a bug of this program, and the lease goes back.
func TestPanicWhileABackendIsSetUpCostsThatBackend(t *testing.T) {
	r, log := newBreakableRig(t)
	tc := r.connect(7)
	r.do(func() { tc.s.waiter.login = nil })
	lease := r.grant(expect[*ipc.LeaseRequest](r).ID)
	isRefused(t, tc.Frontend)
	r.do(func() { r.w.send(&ipc.Pong{ID: 1}) }) // after what the failure has to say
	returned := false
	for said := false; !said; {
		switch m := expectAny(r).(type) {
		case *ipc.Hint:
			t.Errorf("the server is blamed: %+v", m)
		case *ipc.LeaseReturn:
			returned = m.Lease == lease
		case *ipc.Pong:
			said = true
		}
	}
	if !returned {
		t.Errorf("lease %d doesn't come back", lease)
	}
	tc.Close()
	r.left(7)
	r.panicked(log, "nil pointer")
}

// comesBack waits until a lease is returned and a client is told to have gone.
func (r *rig) comesBack(lease, client uint64) {
	r.t.Helper()
	for returned, gone := false, false; !returned || !gone; {
		switch m := expectAny(r).(type) {
		case *ipc.LeaseReturn:
			returned = returned || m.Lease == lease
		case *ipc.ClientsGone:
			gone = gone || slices.Contains(m.IDs, client)
		}
	}
}

// fragile is a client's connection whose use by a goroutine panics once.
type fragile struct {
	away
	deadline, back bool
}

func (f *fragile) SetDeadline(t time.Time) error {
	if f.deadline {
		f.deadline = false
		panic("deadline")
	}
	return f.away.SetDeadline(t)
}

func (f *fragile) giveBack(loop *reactor.Loop, done func(*reactor.Conn, error)) {
	if f.back {
		f.back = false
		panic("back")
	}
	f.away.giveBack(loop, done)
}

// passes has a client's server authenticate it, in a goroutine, with a fragile
// connection.
func (r *rig) passes(f *fragile) io.Reader {
	r.t.Helper()
	fd, conn := clientPair(r.t)
	if err := unix.SetNonblock(fd, true); err != nil {
		r.t.Fatal(err)
	}
	f.away = &clientFile{os.NewFile(uintptr(fd), "client")}
	l := &login{user: "x", database: "d", requested: "d", key: ipc.PoolKey{Database: "d", User: "x"}}
	r.do(func() {
		c := &client{id: 7, start: time.Now()}
		r.w.clients[7] = c
		s := &setup{w: r.w, c: c, cfg: r.w.cfg, log: r.w.log}
		s.authenticateAway(l, f)
	})
	return conn
}

func TestPanicWhileTheServerAuthenticatesCostsThatClient(t *testing.T) {
	for name, f := range map[string]*fragile{"deadline": {deadline: true}, "back": {back: true}} {
		t.Run(name, func(t *testing.T) {
			r, log := newBreakableRig(t)
			late := f.back // after the login to the server
			conn := r.passes(f)
			lease := r.grant(expect[*ipc.LeaseRequest](r).ID)
			if late {
				wait(t, r.logins, "the login of a backend").Close()
			}
			r.comesBack(lease, 7)
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
			r.do(func() {
				if n := len(r.w.outbounds); n != 0 {
					t.Errorf("%d connections of goroutines are still counted", n)
				}
			})
			r.panicked(log, name)
		})
	}
}

// Whatever else starts a goroutine could end the worker with all of its clients.
func TestGoroutinesAreStartedWhereAPanicIsCaught(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var starters []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					starters = append(starters, fmt.Sprint(d.(*ast.FuncDecl).Name))
				}
				return true
			})
		}
	}
	slices.Sort(starters)
	if want := []string{"authenticateAway", "elsewhere"}; !slices.Equal(starters, want) {
		t.Errorf("goroutines are started by %q instead of %q: use elsewhere", starters, want)
	}
}

// An operator knows servers by their names, not by their numbers.
func TestLogNamesServers(t *testing.T) {
	r, log := newBreakableRig(t)
	r.do(func() {
		r.w.cfg.servers = []ipc.ConfigServer{{Name: "first"}, {Name: "second", Index: 1}}
		r.w.resetFailed(&backend{w: r.w, server: 1}, nil)
	})
	if text := log.String(); !strings.Contains(text, " server=second ") {
		t.Errorf("the log is %q", text)
	}
}
