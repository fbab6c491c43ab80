package health

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// ample is for probes that must not run out of time on a busy machine.
	ample = time.Minute
	// short is for those that must, some of them not before their last step.
	short = 3 * time.Second
)

func probe(t *testing.T, target Target) ipc.ProbeDone {
	t.Helper()
	if target.Network == "" {
		target.Network = "tcp"
	}
	return Probe(t.Context(), target)
}

func expect(t *testing.T, got ipc.ProbeDone, outcome ipc.Outcome, code string) {
	t.Helper()
	if got.Outcome != outcome || got.Code != code {
		t.Errorf("saw %v with code %q, want %v with code %q", got.Outcome, got.Code, outcome, code)
	}
}

var (
	alice = Login{User: "alice", Database: "db"}
	bob   = Login{User: "bob", Database: "db", Password: "secret"}
)

// died is how a session ends whose postmaster is gone.
var died = &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "no", Routine: "secure_read"}

// oneRow is an answer of one row; no value is NULL.
func oneRow(values ...string) []pgproto3.BackendMessage {
	row := &pgproto3.DataRow{}
	for _, v := range values {
		row.Values = append(row.Values, []byte(v))
	}
	return []pgproto3.BackendMessage{
		row, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'},
	}
}

func fatal(code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "no"}
}

// queriesSent is how many messages a probe sends after its login.
func queriesSent() []string {
	names := []string{"Query"}
	for range details {
		names = append(names, "Query")
	}
	return names
}

func TestOutcomeIsReadFromWhatTheServerDoes(t *testing.T) {
	in := []pgtest.Step{pgtest.Startup(), pgtest.Login(), pgtest.Expect(queriesSent()...)}
	then := func(steps ...pgtest.Step) []pgtest.Step { return append(append([]pgtest.Step{}, in...), steps...) }
	at := func(code string) []pgtest.Step { return []pgtest.Step{pgtest.Startup(), pgtest.Fatal(code, "no")} }
	tests := []struct {
		name    string
		steps   []pgtest.Step
		quick   bool // the probe has to run out of time
		outcome ipc.Outcome
		code    string
	}{
		{"accepts and never answers", []pgtest.Step{pgtest.Swallow()}, true, ipc.SawSilent, ""},
		{"resets on connect", []pgtest.Step{pgtest.Reset()}, false, ipc.SawRefused, ""},
		{"resets after the start-up packet", []pgtest.Step{pgtest.Startup(), pgtest.Reset()}, false, ipc.SawRefused, ""},
		{"closes before its first byte", []pgtest.Step{pgtest.Startup()}, false, ipc.SawRefused, ""},
		{"closes inside a message", []pgtest.Step{pgtest.Startup(), pgtest.SendPart(7, &pgproto3.AuthenticationOk{})}, false, ipc.SawRefused, ""},
		{"closes after the login", []pgtest.Step{pgtest.Startup(), pgtest.Login()}, false, ipc.SawRefused, ""},
		{"silent inside the login", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationOk{}), pgtest.Swallow()}, true, ipc.SawSilent, "slow"},
		{"silent after the login", then(pgtest.Swallow()), true, ipc.SawSilent, "slow"},
		{"resets after its role", then(pgtest.Send(oneRow("f")...), pgtest.Reset()), false, ipc.SawRefused, ""},
		{"no more than a role in time", then(pgtest.Send(oneRow("f")...), pgtest.Swallow()), true, ipc.SawPrimary, ""},
		{"garbage after its role", then(pgtest.Send(oneRow("t")...), pgtest.SendBytes([]byte("GARBAGE!"))), false, ipc.SawStandby, ""},
		{"shut down after its role", then(pgtest.Send(oneRow("f")...), pgtest.Fatal("57P01", "no")), false, ipc.SawShutdown, "57P01"},
		{"another end after its role", then(pgtest.Send(oneRow("t")...), pgtest.Fatal("57P04", "no")), false, ipc.SawStandby, ""},
		{"starts up", at("57P03"), false, ipc.SawStarting, "57P03"},
		{"shuts down", at("57P01"), false, ipc.SawShutdown, "57P01"},
		{"loses its postmaster", then(pgtest.Send(died)), false, ipc.SawRefused, "57P01"},
		{"crashes", at("57P02"), false, ipc.SawShutdown, "57P02"},
		{"shuts down when asked", then(pgtest.Fatal("57P01", "no")), false, ipc.SawShutdown, "57P01"},
		{"is full", at("53300"), false, ipc.SawAlive, "53300"},
		{"is full after the authentication", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("53300"))}, false, ipc.SawAlive, "53300"},
		{"says its last word and stays", then(pgtest.Send(fatal("57P01")), pgtest.Swallow()), false, ipc.SawShutdown, "57P01"},
		{"has no disk left", at("53100"), false, ipc.SawAlive, "53100"},
		{"says only that it broke", at(""), false, ipc.SawAlive, codeNoState},
		{"ends the query by time-out", then(pgtest.Error("57014", "no")), false, ipc.SawAlive, "57014"},
		{"isn't PostgreSQL", []pgtest.Step{pgtest.SendBytes([]byte("HTTP/1.1 400 Bad Request\r\n")), pgtest.Swallow()}, false, ipc.SawAlive, codeProtocol},
		{"couldn't fork", []pgtest.Step{pgtest.SendBytes([]byte("Ecould not fork new process for connection\n\x00")), pgtest.Swallow()}, false, ipc.SawAlive, codeProtocol},
		{"talks without end", []pgtest.Step{pgtest.Startup(), pgtest.SendBytes(endless())}, false, ipc.SawAlive, codeProtocol},
		{"has a role that is none", then(pgtest.Send(oneRow("maybe")...), pgtest.Swallow()), false, ipc.SawAlive, codeProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := pgtest.NewFake(t, pgtest.Script{Steps: tt.steps})
			target := Target{Address: f.Addr(), Timeout: ample, Logins: []Login{alice}}
			if tt.quick {
				target.Timeout = short
			}
			begin := time.Now()
			expect(t, probe(t, target), tt.outcome, tt.code)
			if took := time.Since(begin); took >= ample {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// endless is a login followed by far more notices than any server sends.
func endless() []byte {
	all, _ := (&pgproto3.AuthenticationOk{}).Encode(nil)
	for range 2 * maxMessages {
		all, _ = (&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000"}).Encode(all)
	}
	return all
}

func TestOutcomeWithoutAnyAnswerToConnect(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	tests := []struct {
		name    string
		target  Target
		outcome ipc.Outcome
		code    string
	}{
		{"refused", Target{Address: pgtest.RefusedAddr(t), Timeout: ample}, ipc.SawRefused, ""},
		{"no socket", Target{Network: "unix", Address: filepath.Join(t.TempDir(), "none"), Timeout: ample}, ipc.SawRefused, ""},
		{"stale socket", Target{Network: "unix", Address: stale, Timeout: ample}, ipc.SawRefused, ""},
		{"no answer to SYN", Target{Address: pgtest.SilentAddr(t), Timeout: short}, ipc.SawTimeout, ""},
		{"no address", Target{}, ipc.SawNothing, ""},
		{"not an address", Target{Address: "nonsense", Timeout: ample}, ipc.SawNothing, codeLocal},
	}
	for _, tt := range tests {
		for _, logins := range [][]Login{nil, {alice}} {
			tt.target.Logins = logins
			t.Run(tt.name, func(t *testing.T) { expect(t, probe(t, tt.target), tt.outcome, tt.code) })
		}
	}
}

func TestWithoutALoginAnyAnswerIsLife(t *testing.T) {
	tests := []struct {
		name    string
		steps   []pgtest.Step
		outcome ipc.Outcome
		code    string
	}{
		{"lets us in", []pgtest.Step{pgtest.Startup(), pgtest.Login(), pgtest.Swallow()}, ipc.SawAlive, codeNoLogin},
		{"asks for a password", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationCleartextPassword{}), pgtest.Swallow()}, ipc.SawAlive, codeNoLogin},
		{"refuses us", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("28000", "no")}, ipc.SawAlive, "28000"},
		{"starts up", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("57P03", "no")}, ipc.SawStarting, "57P03"},
		{"shuts down", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("57P01", "no")}, ipc.SawShutdown, "57P01"},
		{"isn't PostgreSQL", []pgtest.Step{pgtest.SendBytes([]byte("HTTP/1.1 400 Bad Request\r\n")), pgtest.Swallow()}, ipc.SawAlive, codeProtocol},
		{"closes", []pgtest.Step{pgtest.Startup()}, ipc.SawRefused, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := pgtest.NewFake(t, pgtest.Script{Steps: tt.steps})
			expect(t, probe(t, Target{Address: f.Addr(), Timeout: ample}), tt.outcome, tt.code)
		})
	}
}

func TestNextLoginIsTriedAfterARefusal(t *testing.T) {
	primary := pgtest.Script{Steps: []pgtest.Step{
		pgtest.Startup(), pgtest.Login(), pgtest.Expect(queriesSent()...), pgtest.Send(oneRow("f")...), pgtest.Fatal("57P04", "no"),
	}}
	refusal := func(steps ...pgtest.Step) pgtest.Script {
		return pgtest.Script{Steps: append([]pgtest.Step{pgtest.Startup()}, steps...)}
	}
	silent, reset := refusal(pgtest.Swallow()), refusal(pgtest.Reset())
	badPassword := refusal(pgtest.Fatal("28P01", "no"))
	tests := []struct {
		name          string
		first, second pgtest.Script
		quick         bool
		outcome       ipc.Outcome
		code          string
		connections   int
	}{
		{"wrong password", badPassword, primary, false, ipc.SawPrimary, "", 2},
		{"no hba entry", refusal(pgtest.Fatal("28000", "no")), primary, false, ipc.SawPrimary, "", 2},
		{"no such database", refusal(pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("3D000"))), primary, false, ipc.SawPrimary, "", 2},
		{"may not connect to it", refusal(pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("42501"))), primary, false, ipc.SawPrimary, "", 2},
		{"unknown method", refusal(pgtest.Send(&pgproto3.AuthenticationGSS{})), primary, false, ipc.SawPrimary, "", 2},
		{"asks for a password that we don't have", refusal(pgtest.Send(&pgproto3.AuthenticationCleartextPassword{})), primary, false, ipc.SawPrimary, "", 2},
		{"may not ask for the role", refusal(pgtest.Login(), pgtest.Expect(queriesSent()...), pgtest.Error("42501", "no")), primary, false, ipc.SawAlive, "42501", 1},
		{"full", refusal(pgtest.Fatal("53300", "no")), primary, false, ipc.SawAlive, "53300", 1},
		{"starting", refusal(pgtest.Fatal("57P03", "no")), primary, false, ipc.SawStarting, "57P03", 1},
		{"all refused", badPassword, refusal(pgtest.Fatal("28000", "no")), false, ipc.SawAlive, "28000", 2},
		{"all refused by us", badPassword, refusal(pgtest.Send(&pgproto3.AuthenticationGSS{})), false, ipc.SawAlive, codeNoLogin, 2},
		{"no time for the second", badPassword, silent, true, ipc.SawAlive, "28P01", 2},
		{"dead in between", badPassword, reset, false, ipc.SawRefused, "", 2},
		{"shut down in between", badPassword, refusal(pgtest.Fatal("57P01", "no")), false, ipc.SawShutdown, "57P01", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := pgtest.NewFake(t, tt.first, tt.second)
			target := Target{Address: f.Addr(), Timeout: ample, Logins: []Login{alice, bob}}
			if tt.quick {
				target.Timeout = short
			}
			expect(t, probe(t, target), tt.outcome, tt.code)
			if f.Accepted() != tt.connections {
				t.Errorf("%d connections, want %d", f.Accepted(), tt.connections)
			}
			for i, want := range []string{"alice", "bob"}[:tt.connections] {
				if got := f.Startups()[i]["user"]; got != want {
					t.Errorf("connection %d as %q, want %q", i+1, got, want)
				}
			}
		})
	}
}

func TestAnswerBearsTheNumberOfItsRequest(t *testing.T) {
	got := Probe(t.Context(), Target{ID: 42, Network: "tcp", Address: pgtest.RefusedAddr(t)})
	if diff := cmp.Diff(ipc.ProbeDone{ID: 42, Outcome: ipc.SawRefused}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSessionsOfProbesAreMarkedReadOnlyAndBounded(t *testing.T) {
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{pgtest.Startup()}})
	probe(t, Target{Address: f.Addr(), Timeout: ample, Logins: []Login{alice}})
	got := f.Startups()[0]
	limit, err := time.ParseDuration(got["statement_timeout"] + "ms")
	if err != nil || limit <= 0 || limit >= ample {
		t.Errorf("statement_timeout %q, want more than 0 and less than %v", got["statement_timeout"], ample)
	}
	delete(got, "statement_timeout")
	want := map[string]string{
		"user": "alice", "database": "db", "application_name": "pgagroal probe", "default_transaction_read_only": "on",
		"search_path": "pg_catalog", "client_encoding": "UTF8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCancelledProbeEndsAtOnceAndSaysNothing(t *testing.T) {
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{pgtest.Startup(), pgtest.Swallow()}})
	tests := []struct{ name, address string }{{"connecting", pgtest.SilentAddr(t)}, {"logging in", f.Addr()}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan ipc.ProbeDone, 1)
			go func() {
				done <- Probe(ctx, Target{Network: "tcp", Address: tt.address, Timeout: time.Hour, Logins: []Login{alice}})
			}()
			if tt.address == f.Addr() {
				pgtest.WaitUntil(t, ample, "the start-up packet", func() bool { return len(f.Startups()) == 1 })
			}
			cancel()
			select {
			case got := <-done:
				expect(t, got, ipc.SawNothing, codeCancelled)
			case <-time.After(ample):
				t.Fatal("the probe goes on")
			}
		})
	}
}

func TestErrnoDecides(t *testing.T) {
	tests := []struct {
		errno         syscall.Errno
		connect, live ipc.Outcome
	}{
		{syscall.ECONNREFUSED, ipc.SawRefused, ipc.SawRefused},
		{syscall.ECONNRESET, ipc.SawRefused, ipc.SawRefused},
		{syscall.EPIPE, ipc.SawRefused, ipc.SawRefused},
		{syscall.ENOENT, ipc.SawRefused, 0},
		{syscall.EAGAIN, ipc.SawTimeout, ipc.SawSilent},
		{syscall.ETIMEDOUT, ipc.SawTimeout, ipc.SawSilent},
		{syscall.EHOSTUNREACH, ipc.SawUnreachable, ipc.SawUnreachable},
		{syscall.ENETUNREACH, ipc.SawUnreachable, ipc.SawUnreachable},
		{syscall.EMFILE, 0, 0},
		{syscall.EACCES, 0, 0},
		{syscall.EADDRNOTAVAIL, 0, 0},
	}
	for _, tt := range tests {
		err := &net.OpError{Op: "dial", Net: "tcp", Err: tt.errno}
		if got := outcomeOf(err, false); got != tt.connect {
			t.Errorf("%v on connect: %v, want %v", tt.errno, got, tt.connect)
		}
		if got := outcomeOf(err, true); got != tt.live {
			t.Errorf("%v later: %v, want %v", tt.errno, got, tt.live)
		}
	}
}

func TestProbeGivesNoPasswordThatIsNotAllowed(t *testing.T) {
	f := pgtest.NewFake(t, pgtest.Script{Steps: []pgtest.Step{
		pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationCleartextPassword{}), pgtest.Swallow(),
	}})
	got := probe(t, Target{Address: f.Addr(), Timeout: ample, Logins: []Login{bob}, Methods: []string{"scram-sha-256"}})
	expect(t, got, ipc.SawAlive, codeNoLogin)
	if want := "server asks for password, and require_auth allows only scram-sha-256"; got.Words != want {
		t.Errorf("%q, want %q", got.Words, want)
	}
}
