package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// port is a ServeRemote with the admin dba, whose password is right.
type port struct {
	t     *testing.T
	conns chan *ipc.Conn
	log   *lines
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

var endPoint = []byte("the hash of a certificate")

func newPort(t *testing.T, sup Supervisor) *port {
	t.Helper()
	vs := auth.NewVerifiers(nil)
	v, err := vs.Derive("dba", "right")
	if err != nil {
		t.Fatal(err)
	}
	vs.Replace(map[string]auth.Verifier{"dba": v})
	p := &port{t: t, conns: make(chan *ipc.Conn), log: &lines{}}
	admit := func(_ context.Context, m *ipc.RemoteLogin) (Admission, error) {
		a := Admission{Verifier: vs.Lookup(m.User), EndPoints: [][]byte{endPoint}, Limit: limit}
		if m.User == "undecided" {
			return Admission{}, errors.New("the loop is late")
		}
		if m.User == "stranger" {
			a.Refused, a.Reason = pgwire.RefusalRejected.With("h", m.User, "admin"), "rejected by a rule"
		}
		return a, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		ServeRemote(ctx, p.conns, admit, sup, Options{Version: "9.9", Log: slog.New(slog.NewTextHandler(p.log, nil))})
		close(done)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case <-done:
		case <-time.After(limit):
			t.Error("ServeRemote didn't return")
		}
	})
	return p
}

// open returns the console's end of a connection.
func (p *port) open() *ipc.Conn {
	p.t.Helper()
	ours, theirs, err := ipc.PairFD(ipc.RoleSupervisor, ipc.RoleRemote, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := ipc.FromFD(theirs, ipc.RoleRemote, ipc.RoleSupervisor, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		p.t.Fatal(err)
	}
	select {
	case p.conns <- ours:
	case <-time.After(limit):
		p.t.Fatal("no place is free")
	}
	return conn
}

// console passes the messages of a login on, as the console does.
type console struct {
	conn *ipc.Conn
	user string
}

func (c console) ask(m ipc.Message) (ipc.Message, error) {
	if err := c.conn.Send(m); err != nil {
		return nil, err
	}
	env, err := c.conn.Receive()
	if err != nil {
		return nil, err
	}
	if no, ok := env.Message.(*ipc.RemoteRefused); ok {
		return nil, pgwire.Refusal(no.Refusal).WithWords(no.Words)
	}
	return env.Message, nil
}

func (c console) Challenge(nonce string) (auth.Challenge, error) {
	m, err := c.ask(&ipc.RemoteLogin{User: c.user, Address: "192.0.2.1:1", Nonce: nonce})
	if err != nil {
		return auth.Challenge{}, err
	}
	x := m.(*ipc.RemoteChallenge)
	return auth.Challenge{Nonce: x.Nonce, Salt: x.Salt, Iterations: x.Iterations}, nil
}

func (c console) Judge(p auth.ClientProof) ([]byte, error) {
	m, err := c.ask(&ipc.RemoteProof{Binding: p.Binding, Proof: p.Proof})
	if err != nil {
		return nil, err
	}
	return m.(*ipc.RemoteProven).Signature, nil
}

// login has an admin log in through the console. shown is the certificate that the admin has seen.
func (p *port) login(user, password string, shown []byte) (*ipc.Conn, auth.Seal, error) {
	p.t.Helper()
	conn := p.open()
	far, near := net.Pipe()
	defer far.Close()
	relayed := make(chan error, 1)
	go func() {
		defer near.Close()
		err := auth.RelaySCRAM(near, shown, console{conn, user})
		if err == nil {
			_, err = near.Write(pgwire.AppendAuthenticationOK(nil))
		}
		relayed <- err
	}()
	var seal auth.Seal
	_, err := auth.Login(far, auth.Plain{User: user, Secret: password}, auth.LoginOptions{ChannelBinding: shown, Seal: &seal})
	far.Close()
	if refused := <-relayed; refused != nil {
		err = refused
	}
	conn.SetPhase(ipc.PhaseRunning)
	return conn, seal, err
}

// sealed returns a command with its seal.
func sealed(seal auth.Seal, command string, args map[string]string) *ipc.RemoteCommand {
	c := control.RemoteCommand{Version: ipc.Version, Command: command, Args: args}
	return &ipc.RemoteCommand{Version: c.Version, Command: command, Args: args, Seal: seal.Request(c.Sealed())}
}

// pieces receives an answer and checks its seals.
func (p *port) pieces(conn *ipc.Conn, seal auth.Seal) (count int, doc map[string]any) {
	p.t.Helper()
	var data []byte
	for last := false; !last; count++ {
		env, err := conn.Receive()
		if err != nil {
			p.t.Fatal(err)
		}
		r, ok := env.Message.(*ipc.RemoteReply)
		if !ok {
			p.t.Fatalf("%+v instead of an answer", env.Message)
		}
		if string(r.Seal) != string(seal.Reply(count, r.Last, r.Data)) {
			p.t.Error("the seal of an answer is wrong")
		}
		data, last = append(data, r.Data...), r.Last
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		p.t.Fatal(err)
	}
	return count, doc
}

func TestAnAdminMayDoWhatTheOwnerMay(t *testing.T) {
	sup := &fake{history: 100 << 10}
	p := newPort(t, sup)
	conn, seal, err := p.login("dba", "right", endPoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(sealed(seal, control.FailoverHistory, map[string]string{control.ArgCount: "3"})); err != nil {
		t.Fatal(err)
	}
	if n, doc := p.pieces(conn, seal); n < 2 || doc["Outcome"].(map[string]any)["Status"] != true {
		t.Errorf("an answer of %d pieces: %v", n, doc["Outcome"])
	}
	if _, err := conn.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after its command an admin can go on: %v", err)
	}
	conn, seal, err = p.login("dba", "right", nil) // without TLS
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(sealed(seal, control.ConfReload, nil)); err != nil {
		t.Fatal(err)
	}
	p.pieces(conn, seal)
	if log := p.log.text(); !strings.Contains(log, `msg="control command" admin=dba client=192.0.2.1:1 command=reload`) {
		t.Errorf("the log doesn't say who it was:\n%s", log)
	}
}

// The text is the same for a wrong password and an unknown admin, and so is the time: the answer comes late for both.
func TestAnAdminsLoginFailsLateAndWithoutAReason(t *testing.T) {
	sup := &fake{}
	p := newPort(t, sup)
	for user, want := range map[string]string{
		"dba": `password authentication failed for user "dba"`, "nobody": `password authentication failed for user "nobody"`,
		"stranger": "connection refused: pgagroal_hba.conf rejects",
	} {
		began := time.Now()
		_, _, err := p.login(user, "wrong", endPoint)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", user, err, want)
		}
		if took := time.Since(began); took < failureDelay {
			t.Errorf("%s: the answer comes after %s", user, took)
		}
	}
	if log := p.log.text(); strings.Count(log, "login of an admin failed") != 3 || !strings.Contains(log, "rejected by a rule") {
		t.Errorf("log:\n%s", log)
	}
}

// The admin and the console only see that the connection ends, so the log has to say why.
func TestALoginThatCantBeDecidedIsLogged(t *testing.T) {
	p := newPort(t, &fake{})
	if _, _, err := p.login("undecided", "right", endPoint); !errors.Is(err, io.EOF) {
		t.Errorf("login: %v", err)
	}
	if log := p.log.text(); !strings.Contains(log, `msg="login of an admin failed" admin=undecided client=192.0.2.1:1 tls=false reason="it can't be decided: the loop is late"`) {
		t.Errorf("log:\n%s", log)
	}
}

// A console that was taken over has what admins send, and no password.
func TestAConsoleCantLogInAndCantMakeACommand(t *testing.T) {
	sup := &fake{}
	p := newPort(t, sup)

	// It makes up a proof, or has none.
	for _, proof := range [][]byte{nil, make([]byte, 32), make([]byte, 33)} {
		c := console{p.open(), "dba"}
		if _, err := c.Challenge("nonce"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Judge(auth.ClientProof{Binding: "n,,", Proof: proof}); !refusedFor(err, pgwire.RefusalBadPassword) {
			t.Errorf("a proof of %d bytes: %v", len(proof), err)
		}
	}
	// It sends a command without a login.
	conn := p.open()
	conn.SetPhase(ipc.PhaseRunning)
	if err := conn.Send(sealed(auth.Seal{}, control.ShutdownNow, nil)); err != nil {
		t.Fatal(err)
	}
	if env, err := conn.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("a command without a login: %+v %v", env.Message, err)
	}
	// It shows admins a certificate of its own.
	if _, _, err := p.login("dba", "right", []byte("another certificate")); !refusedFor(err, pgwire.RefusalBadPassword) {
		t.Errorf("a login that is bound to another certificate: %v", err)
	}
	// It changes a command, makes one, or repeats that of another login.
	_, old, err := p.login("dba", "right", endPoint)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ipc.RemoteCommand, auth.Seal){
		"another command":  func(m *ipc.RemoteCommand, _ auth.Seal) { m.Command = control.ShutdownNow },
		"another argument": func(m *ipc.RemoteCommand, _ auth.Seal) { m.Args[control.ArgDatabase] = "all" },
		"a further one":    func(m *ipc.RemoteCommand, _ auth.Seal) { m.Args[control.ArgTimeout] = "1" },
		"another place":    func(m *ipc.RemoteCommand, _ auth.Seal) { m.Command, m.Args = "pauseda", map[string]string{} },
		"no seal":          func(m *ipc.RemoteCommand, _ auth.Seal) { m.Seal = nil },
		"an old one":       func(m *ipc.RemoteCommand, _ auth.Seal) { *m = *sealed(old, m.Command, m.Args) },
	} {
		conn, seal, err := p.login("dba", "right", endPoint)
		if err != nil {
			t.Fatal(err)
		}
		m := sealed(seal, control.Pause, map[string]string{control.ArgDatabase: "db"})
		change(m, seal)
		if _, err := (console{conn, "dba"}).ask(m); !refusedFor(err, pgwire.RefusalManagementCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls := sup.seen(); len(calls) > 0 {
		t.Errorf("carried out: %v", calls)
	}
}

func refusedFor(err error, want pgwire.Refusal) bool {
	var r *pgwire.Refused
	return errors.As(err, &r) && r.Refusal == want
}

// Failed logins keep their places for a while, and nobody gets one beyond the bound.
func TestPlacesForAdminsAreBounded(t *testing.T) {
	p := newPort(t, &fake{})
	for range MaxRemotes {
		p.open()
	}
	ours, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleRemote, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer ours.Close()
	select {
	case p.conns <- ours:
		t.Error("there is a place too many")
	default:
	}
}
