package prober

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ample = time.Minute

// rig is a prober without confinement, and the supervisor's end of its link.
type rig struct {
	t     *testing.T
	link  *ipc.Conn
	ended chan error
}

func start(t *testing.T) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	ours, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleProber, log)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	conn := ipc.NewConn(nc.(*net.UnixConn), ipc.RoleProber, ipc.RoleSupervisor, log)
	ours.SetPhase(ipc.PhaseRunning)
	conn.SetPhase(ipc.PhaseRunning)
	r := &rig{t: t, link: ours, ended: make(chan error, 1)}
	go func() {
		r.ended <- newProber(conn, log).serve()
		conn.Close()
	}()
	t.Cleanup(func() { ours.Close() })
	if err := ours.SetDeadline(time.Now().Add(ample)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) send(m ipc.Message) {
	r.t.Helper()
	if err := r.link.Send(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) answer() ipc.Message {
	r.t.Helper()
	env, err := r.link.Receive()
	if err != nil {
		r.t.Fatal(err)
	}
	return env.Message
}

// end returns what serve has returned.
func (r *rig) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(ample):
		r.t.Fatal("the prober goes on")
		return nil
	}
}

func tcp(address string) ipc.Target {
	return ipc.Target{Network: "tcp", Address: address, TimeoutMS: ample.Milliseconds()}
}

func TestRequestsAreAnsweredUnderTheirNumbers(t *testing.T) {
	r := start(t)
	r.send(&ipc.ProbeRequest{ID: 7, Target: tcp(pgtest.RefusedAddr(t))})
	if got, ok := r.answer().(*ipc.ProbeDone); !ok || got.ID != 7 || got.Outcome != ipc.SawRefused {
		t.Errorf("%+v", got)
	}
	r.send(&ipc.BackendsRequest{ID: 8, Target: tcp(pgtest.RefusedAddr(t)), PIDs: []uint32{1}})
	if got, ok := r.answer().(*ipc.BackendsDone); !ok || got.ID != 8 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	r.send(&ipc.SettingsRequest{ID: 9, Target: tcp(pgtest.RefusedAddr(t)), Names: []string{"x"}})
	if got, ok := r.answer().(*ipc.SettingsDone); !ok || got.ID != 9 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	login := tcp(pgtest.RefusedAddr(t))
	login.Logins = []ipc.Login{{User: "u", Database: "d"}}
	r.send(&ipc.LookUpStop{Server: 0})
	r.send(&ipc.LookUpRequest{ID: 11, Target: login, Statement: "SELECT $1", User: "u", Keep: 1})
	if got, ok := r.answer().(*ipc.LookUpDone); !ok || got.ID != 11 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	r.send(&ipc.ServerCancel{ID: 10, Target: tcp(pgtest.RefusedAddr(t)), PID: 1, Key: "abcd"})
	if got, ok := r.answer().(*ipc.ServerCancelDone); !ok || got.ID != 10 || got.Error == "" {
		t.Errorf("%+v", got)
	}
}

// The goroutine of a look-up may begin to run only after the stop that follows its request.
func TestAStopHoldsForTheLookUpBeforeIt(t *testing.T) {
	p := newProber(nil, slog.New(slog.DiscardHandler))
	login := tcp(pgtest.RefusedAddr(t))
	login.Logins = []ipc.Login{{User: "u", Database: "d"}}
	_, look := p.lookOf(&ipc.LookUpRequest{ID: 1, Target: login, Statement: "SELECT $1", User: "u", Keep: 1})
	if err := p.onMessage(t.Context(), ipc.Envelope{Message: &ipc.LookUpStop{Server: 0}}); err != nil {
		t.Fatal(err)
	}
	if got := look(t.Context()).(*ipc.LookUpDone); got.Error != "the server may not be asked any more" {
		t.Errorf("%q", got.Error)
	}
}

func TestNamesAreNotResolved(t *testing.T) {
	r := start(t)
	for _, target := range []ipc.Target{tcp("localhost:5432"), {Network: "udp", Address: "127.0.0.1:1"}, tcp("")} {
		r.send(&ipc.ProbeRequest{ID: 1, Target: target})
		if got := r.answer().(*ipc.ProbeDone); got.Outcome != ipc.SawNothing || got.Code != errAddress.Error() {
			t.Errorf("%s %s: %v %s", target.Network, target.Address, got.Outcome, got.Code)
		}
	}
}

// What a server says reaches the supervisor in bounded pieces.
func TestTextsOfServersAreCut(t *testing.T) {
	long := strings.Repeat("v", 10*ipc.MaxServerText)
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{pgtest.Startup(), pgtest.Send(
		&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: long},
		&pgproto3.ReadyForQuery{TxStatus: 'I'}, &pgproto3.DataRow{Values: [][]byte{[]byte("f")}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	), pgtest.SendBytes([]byte("GARBAGE!"))}})
	target := tcp(f.Addr())
	target.Logins = []ipc.Login{{User: "u", Database: "d"}}
	r := start(t)
	r.send(&ipc.ProbeRequest{ID: 1, Target: target})
	if got := r.answer().(*ipc.ProbeDone); got.Outcome != ipc.SawPrimary || len(got.Version) != ipc.MaxServerText {
		t.Errorf("%v, %d bytes", got.Outcome, len(got.Version))
	}
}

func TestCancelRequestIsStopped(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := start(t)
	r.send(&ipc.ServerCancel{ID: 3, Target: tcp(ln.Addr().String()), PID: 42, Key: "abcd"})
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r.send(&ipc.ServerCancelStop{ID: 3})
	if got := r.answer().(*ipc.ServerCancelDone); got.ID != 3 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	r.send(&ipc.ServerCancelStop{ID: 3}) // too late, and no fault
	r.send(&ipc.ProbeRequest{ID: 4, Target: tcp(pgtest.RefusedAddr(t))})
	if got := r.answer().(*ipc.ProbeDone); got.ID != 4 {
		t.Errorf("%+v", got)
	}
}

// The end of the link ends every look.
func TestEndOfTheLinkEndsTheProber(t *testing.T) {
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{pgtest.Startup(), pgtest.Swallow()}})
	r := start(t)
	r.send(&ipc.ProbeRequest{ID: 1, Target: tcp(f.Addr())})
	pgtest.WaitUntil(t, ample, "the start-up packet", func() bool { return len(f.Startups()) == 1 })
	r.link.Close()
	if err := r.end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestRequestsThatBreakTheRulesEndTheProber(t *testing.T) {
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{pgtest.Startup(), pgtest.Swallow()}})
	for name, ids := range map[string][]uint64{"the same number twice": {1, 1}, "more than there may be": upTo(ipc.MaxLooks + 1)} {
		r := start(t)
		for _, id := range ids {
			r.send(&ipc.ProbeRequest{ID: id, Target: tcp(f.Addr())})
		}
		if err := r.end(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func upTo(n uint64) []uint64 {
	var list []uint64
	for i := range n {
		list = append(list, i+1)
	}
	return list
}

// A bug in the prober costs one look, and says nothing about its server.
func TestLookThatPanicsFails(t *testing.T) {
	var log strings.Builder
	p := newProber(nil, logline.New(&log, "", slog.LevelInfo, "p"))
	broken := func() ipc.Message { panic("a bug") }
	if got := p.guarded(broken, &ipc.ProbeRequest{ID: 5}).(*ipc.ProbeDone); got.ID != 5 || got.Outcome != ipc.SawNothing || !strings.Contains(got.Code, logline.ErrPanic.Error()) || got.Logged[2] == 0 {
		t.Errorf("%+v", got)
	}
	for _, m := range []ipc.Message{&ipc.BackendsRequest{}, &ipc.SettingsRequest{}, &ipc.LookUpRequest{}, &ipc.ServerCancel{}} {
		if id, look := p.lookOf(m); look == nil || id != 0 || failed(m, errors.New("x")) == nil {
			t.Errorf("%T can't fail", m)
		}
	}
	if !strings.Contains(log.String(), `panic="a bug"`) {
		t.Errorf("the log: %s", log.String())
	}
}

func TestAnythingElseIsNoLook(t *testing.T) {
	p := newProber(nil, slog.New(slog.DiscardHandler))
	if err := p.onMessage(context.Background(), ipc.Envelope{Message: &ipc.ProberConfigure{}}); err == nil {
		t.Error("a configuration is taken for a request")
	}
}
