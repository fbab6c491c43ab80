package console

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// stranger is a client of the management port that sends its bytes and reads nothing.
type stranger struct {
	net.Conn // nil
	bytes.Reader
	got bytes.Buffer
}

func (s *stranger) Read(b []byte) (int, error)       { return s.Reader.Read(b) }
func (s *stranger) Write(b []byte) (int, error)      { return s.got.Write(b) }
func (s *stranger) SetDeadline(time.Time) error      { return nil }
func (s *stranger) SetReadDeadline(time.Time) error  { return nil }
func (s *stranger) SetWriteDeadline(time.Time) error { return nil }
func (s *stranger) Close() error                     { return nil }
func (s *stranger) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// judged is a supervisor that lets everybody in, and keeps what it was sent.
type judged struct {
	t        testing.TB
	sent     []ipc.Message
	answers  []ipc.Message
	refuses  bool
	isClosed atomic.Bool
}

func (j *judged) Send(m ipc.Message, _ ...int) error {
	j.sent = append(j.sent, m)
	switch m := m.(type) {
	case *ipc.RemoteLogin:
		if len(m.Nonce) > 256 || m.User == "" {
			j.t.Errorf("a login that no admin makes: %+v", m)
		}
		j.answers = append(j.answers, &ipc.RemoteChallenge{Nonce: m.Nonce + "!", Salt: []byte("salt"), Iterations: 1})
	case *ipc.RemoteProof:
		if j.refuses {
			j.answers = append(j.answers, &ipc.RemoteRefused{Refusal: uint8(pgwire.RefusalBadPassword), Words: []string{"x"}})
			return nil
		}
		j.answers = append(j.answers, &ipc.RemoteProven{Signature: make([]byte, 32)})
	case *ipc.RemoteCommand:
		if len(m.Args) > control.MaxRemoteArgs || len(m.Seal) != auth.SealSize {
			j.t.Errorf("a command that no admin makes: %+v", m)
		}
		j.answers = append(j.answers, &ipc.RemoteReply{Seal: make([]byte, 32), Data: []byte("{")}, &ipc.RemoteReply{Seal: make([]byte, 32), Data: []byte("}"), Last: true})
	}
	return nil
}

func (j *judged) Receive() (ipc.Envelope, error) {
	if len(j.answers) == 0 {
		return ipc.Envelope{}, io.EOF
	}
	m := j.answers[0]
	j.answers = j.answers[1:]
	return ipc.Envelope{Message: m}, nil
}

func (j *judged) SetPhase(ipc.Phase)          {}
func (j *judged) SetDeadline(time.Time) error { return nil }
func (j *judged) Close() error                { j.isClosed.Store(true); return nil }

// visit lets a stranger send its bytes.
func visit(t testing.TB, sent []byte, refuses bool) (got []byte, up *judged) {
	up = &judged{t: t, refuses: refuses}
	r := &remote{log: slog.New(slog.DiscardHandler), limit: time.Second, open: func() (link, error) { return up, nil }}
	s := &stranger{}
	s.Reset(sent)
	a := &admin{remote: r, conn: s, address: s.RemoteAddr().String()}
	err := a.begin()
	if err == nil {
		err = a.manage()
	}
	a.end(err)
	return s.got.Bytes(), up
}

// wholeVisit are the bytes of an admin's login and command.
func wholeVisit(t testing.TB) []byte {
	body, err := control.RemoteCommand{Version: 1, Command: "ping", Args: map[string]string{"a": "b"}}.Encode(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return pgwire.AppendMessage(loginOnly(t), control.RemoteMessage, body)
}

func loginOnly(t testing.TB) []byte {
	first, err := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "dba"}, {Name: "database", Value: control.RemoteDatabase}})
	if err != nil {
		t.Fatal(err)
	}
	sent := append(pgwire.AppendSSLRequest(nil), first...)
	sent = pgwire.AppendSASLInitialResponse(sent, "SCRAM-SHA-256", []byte("n,,n=,r=abc"))
	return pgwire.AppendSASLResponse(sent, []byte("c=biws,r=abc!,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
}

func TestTheConsolePassesOnWhatAnAdminSends(t *testing.T) {
	got, up := visit(t, wholeVisit(t), false)
	if len(up.sent) != 3 || !up.isClosed.Load() {
		t.Fatalf("passed on: %+v", up.sent)
	}
	if login := up.sent[0].(*ipc.RemoteLogin); *login != (ipc.RemoteLogin{User: "dba", Address: "192.0.2.1:1", Nonce: "abc"}) {
		t.Errorf("login: %+v", login)
	}
	if cmd := up.sent[2].(*ipc.RemoteCommand); cmd.Command != "ping" || cmd.Args["a"] != "b" || cmd.Version != 1 {
		t.Errorf("command: %+v", cmd)
	}
	end := pgwire.AppendMessage(nil, control.RemoteMessage, control.EncodeRemoteReply(make([]byte, 32), true, []byte("}")))
	if !bytes.HasSuffix(got, end) {
		t.Errorf("the answer ends with %q", got)
	}
}

// Cut off anywhere, a visit passes on nothing that its bytes don't say, and a login that was begun is ended.
func TestAVisitThatIsCutOff(t *testing.T) {
	whole := wholeVisit(t)
	for n := range whole {
		_, up := visit(t, whole[:n], false)
		for i, m := range up.sent {
			if _, ok := m.(*ipc.RemoteCommand); ok {
				t.Fatalf("a command after %d of %d bytes", n, len(whole))
			}
			if p, ok := m.(*ipc.RemoteProof); ok && i != 1 || ok && len(p.Proof) != 0 && len(p.Proof) != 32 {
				t.Fatalf("after %d bytes: %+v", n, up.sent)
			}
		}
		if len(up.sent) == 1 {
			t.Fatalf("after %d bytes the supervisor waits for a proof", n)
		}
	}
}

func TestWhatTheManagementPortRefuses(t *testing.T) {
	start := func(database string) []byte {
		b, err := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "dba"}, {Name: "database", Value: database}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	long := pgwire.AppendMessage(loginOnly(t), control.RemoteMessage, make([]byte, control.MaxRemoteCommand+1))
	other := pgwire.AppendMessage(loginOnly(t), 'Q', []byte("SELECT 1"))
	for name, x := range map[string]struct {
		sent    []byte
		refuses bool
		text    string
	}{
		"another database": {start("postgres"), false, `has no database but "admin"`},
		"a wrong password": {wholeVisit(t), true, "password authentication failed"},
		"too long":         {long, false, "it is too long"},
		"another protocol": {other, false, "it is of another protocol"},
		"HTTP":             {[]byte("GET / HTTP/1.1\r\n\r\n"), false, ""},
	} {
		got, up := visit(t, x.sent, x.refuses)
		if !bytes.Contains(got, []byte(x.text)) {
			t.Errorf("%s: %q", name, got)
		}
		for _, m := range up.sent {
			if _, ok := m.(*ipc.RemoteCommand); ok {
				t.Errorf("%s: passed on", name)
			}
		}
	}
}

// scarce is a listener that has no descriptor free at first, then one connection, and then none until it is closed.
type scarce struct {
	net.Listener
	conns  chan net.Conn
	failed atomic.Bool
}

func (s *scarce) Accept() (net.Conn, error) {
	if !s.failed.Swap(true) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: unix.EMFILE}
	}
	c, ok := <-s.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (s *scarce) Addr() net.Addr { return &net.TCPAddr{} }

func (s *scarce) Close() error {
	close(s.conns)
	return nil
}

func TestThePortOutlivesAnAcceptThatFails(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	l := &scarce{conns: make(chan net.Conn, 1)}
	l.conns <- near
	r := &remote{log: slog.New(slog.DiscardHandler), limit: time.Minute}
	defer r.start([]net.Listener{l})()
	if err := far.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write(pgwire.AppendSSLRequest(nil)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(far, answer); err != nil || answer[0] != 'N' {
		t.Errorf("%q, %v", answer, err)
	}
}

// A supervisor without a place, or one that doesn't answer, is told to the admin.
func TestLinksAreOpenedOrRefused(t *testing.T) {
	var sent []ipc.Message
	l := &links{log: slog.New(slog.DiscardHandler), waiting: map[uint64]chan linkAnswer{}}
	l.send = func(m ipc.Message) error { // the answer may come before open waits
		sent = append(sent, m)
		go l.take(ipc.Envelope{Message: &ipc.RemoteBusy{ID: m.(*ipc.RemoteOpen).ID}})
		return nil
	}
	var refused *pgwire.Refused
	if _, err := l.open(); !errors.As(err, &refused) || refused.Refusal != pgwire.RefusalManyAdmins {
		t.Errorf("busy: %v", err)
	}
	ours, theirs, err := ipc.PairFD(ipc.RoleSupervisor, ipc.RoleRemote, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	l.send = func(m ipc.Message) error {
		go l.take(ipc.Envelope{Message: &ipc.RemoteOpened{ID: m.(*ipc.RemoteOpen).ID}, FDs: []int{theirs}})
		return nil
	}
	up, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := up.Send(&ipc.RemoteLogin{User: "u"}); err != nil {
		t.Error(err)
	}
	if _, err := ours.Receive(); err != nil {
		t.Error(err)
	}
	if len(l.waiting) > 0 || len(sent) != 1 {
		t.Errorf("%d wait, %d sent", len(l.waiting), len(sent))
	}
}

// FuzzRemote lets a stranger send anything to the management port. What is passed on must be within the bounds of judged.
func FuzzRemote(f *testing.F) {
	whole := wholeVisit(f)
	f.Add(whole, false)
	f.Add(whole, true)
	f.Add(whole[8:], false)
	f.Add(whole[:len(whole)/2], false)
	f.Add([]byte("\x16\x03\x01\x00\x05hello"), false)
	f.Fuzz(func(t *testing.T, sent []byte, refuses bool) {
		_, up := visit(t, sent, refuses)
		if len(up.sent) > 3 {
			t.Errorf("%d messages for one visit", len(up.sent))
		}
	})
}
