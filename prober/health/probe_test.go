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
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const (
	// ample is for probes that must not run out of time on a busy machine.
	ample = time.Minute
	// short is for those that must.
	short = 300 * time.Millisecond
)

// clock is a monotonic clock that begins with the test.
func clock() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}

func probe(t *testing.T, target Target) failover.ProbeDone {
	t.Helper()
	if target.Network == "" {
		target.Network = "tcp"
	}
	return Probe(t.Context(), target, clock())
}

func expect(t *testing.T, got failover.ProbeDone, outcome failover.Outcome, code string) {
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
		outcome failover.Outcome
		code    string
	}{
		{"accepts and never answers", []pgtest.Step{pgtest.Swallow()}, true, failover.SawSilent, ""},
		{"resets on connect", []pgtest.Step{pgtest.Reset()}, false, failover.SawRefused, ""},
		{"resets after the start-up packet", []pgtest.Step{pgtest.Startup(), pgtest.Reset()}, false, failover.SawRefused, ""},
		{"closes before its first byte", []pgtest.Step{pgtest.Startup()}, false, failover.SawRefused, ""},
		{"closes inside a message", []pgtest.Step{pgtest.Startup(), pgtest.SendPart(7, &pgproto3.AuthenticationOk{})}, false, failover.SawRefused, ""},
		{"closes after the login", []pgtest.Step{pgtest.Startup(), pgtest.Login()}, false, failover.SawRefused, ""},
		{"silent inside the login", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationOk{}), pgtest.Swallow()}, true, failover.SawSilent, "slow"},
		{"silent after the login", then(pgtest.Swallow()), true, failover.SawSilent, "slow"},
		{"resets after its role", then(pgtest.Send(oneRow("f")...), pgtest.Reset()), false, failover.SawRefused, ""},
		{"no more than a role in time", then(pgtest.Send(oneRow("f")...), pgtest.Swallow()), true, failover.SawPrimary, ""},
		{"garbage after its role", then(pgtest.Send(oneRow("t")...), pgtest.SendBytes([]byte("GARBAGE!"))), false, failover.SawStandby, ""},
		{"shut down after its role", then(pgtest.Send(oneRow("f")...), pgtest.Fatal("57P01", "no")), false, failover.SawShutdown, "57P01"},
		{"another end after its role", then(pgtest.Send(oneRow("t")...), pgtest.Fatal("57P04", "no")), false, failover.SawStandby, ""},
		{"starts up", at("57P03"), false, failover.SawStarting, "57P03"},
		{"shuts down", at("57P01"), false, failover.SawShutdown, "57P01"},
		{"loses its postmaster", then(pgtest.Send(died)), false, failover.SawRefused, "57P01"},
		{"crashes", at("57P02"), false, failover.SawShutdown, "57P02"},
		{"shuts down when asked", then(pgtest.Fatal("57P01", "no")), false, failover.SawShutdown, "57P01"},
		{"is full", at("53300"), false, failover.SawAlive, "53300"},
		{"is full after the authentication", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("53300"))}, false, failover.SawAlive, "53300"},
		{"says its last word and stays", then(pgtest.Send(fatal("57P01")), pgtest.Swallow()), false, failover.SawShutdown, "57P01"},
		{"has no disk left", at("53100"), false, failover.SawAlive, "53100"},
		{"says only that it broke", at(""), false, failover.SawAlive, codeNoState},
		{"ends the query by time-out", then(pgtest.Error("57014", "no")), false, failover.SawAlive, "57014"},
		{"isn't PostgreSQL", []pgtest.Step{pgtest.SendBytes([]byte("HTTP/1.1 400 Bad Request\r\n")), pgtest.Swallow()}, false, failover.SawAlive, codeProtocol},
		{"couldn't fork", []pgtest.Step{pgtest.SendBytes([]byte("Ecould not fork new process for connection\n\x00")), pgtest.Swallow()}, false, failover.SawAlive, codeProtocol},
		{"talks without end", []pgtest.Step{pgtest.Startup(), pgtest.SendBytes(endless())}, false, failover.SawAlive, codeProtocol},
		{"has a role that is none", then(pgtest.Send(oneRow("maybe")...), pgtest.Swallow()), false, failover.SawAlive, codeProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := pgtest.NewFake(t, pgtest.Script{Steps: tt.steps})
			target := Target{Address: f.Addr(), Timeout: ample, Logins: []Login{alice}}
			if tt.quick {
				target.Timeout = short
			}
			got := probe(t, target)
			expect(t, got, tt.outcome, tt.code)
			if took := got.Ended - got.Started; took >= ample {
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
		outcome failover.Outcome
		code    string
	}{
		{"refused", Target{Address: pgtest.RefusedAddr(t), Timeout: ample}, failover.SawRefused, ""},
		{"no socket", Target{Network: "unix", Address: filepath.Join(t.TempDir(), "none"), Timeout: ample}, failover.SawRefused, ""},
		{"stale socket", Target{Network: "unix", Address: stale, Timeout: ample}, failover.SawRefused, ""},
		{"no answer to SYN", Target{Address: pgtest.SilentAddr(t), Timeout: short}, failover.SawTimeout, ""},
		{"no address", Target{}, failover.SawNoAddress, ""},
		{"not an address", Target{Address: "nonsense", Timeout: ample}, failover.SawNoAddress, codeLocal},
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
		outcome failover.Outcome
		code    string
	}{
		{"lets us in", []pgtest.Step{pgtest.Startup(), pgtest.Login(), pgtest.Swallow()}, failover.SawAlive, codeNoLogin},
		{"asks for a password", []pgtest.Step{pgtest.Startup(), pgtest.Send(&pgproto3.AuthenticationCleartextPassword{}), pgtest.Swallow()}, failover.SawAlive, codeNoLogin},
		{"refuses us", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("28000", "no")}, failover.SawAlive, "28000"},
		{"starts up", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("57P03", "no")}, failover.SawStarting, "57P03"},
		{"shuts down", []pgtest.Step{pgtest.Startup(), pgtest.Fatal("57P01", "no")}, failover.SawShutdown, "57P01"},
		{"isn't PostgreSQL", []pgtest.Step{pgtest.SendBytes([]byte("HTTP/1.1 400 Bad Request\r\n")), pgtest.Swallow()}, failover.SawAlive, codeProtocol},
		{"closes", []pgtest.Step{pgtest.Startup()}, failover.SawRefused, ""},
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
		outcome       failover.Outcome
		code          string
		connections   int
	}{
		{"wrong password", badPassword, primary, false, failover.SawPrimary, "", 2},
		{"no hba entry", refusal(pgtest.Fatal("28000", "no")), primary, false, failover.SawPrimary, "", 2},
		{"no such database", refusal(pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("3D000"))), primary, false, failover.SawPrimary, "", 2},
		{"may not connect to it", refusal(pgtest.Send(&pgproto3.AuthenticationOk{}, fatal("42501"))), primary, false, failover.SawPrimary, "", 2},
		{"unknown method", refusal(pgtest.Send(&pgproto3.AuthenticationGSS{})), primary, false, failover.SawPrimary, "", 2},
		{"asks for a password that we don't have", refusal(pgtest.Send(&pgproto3.AuthenticationCleartextPassword{})), primary, false, failover.SawPrimary, "", 2},
		{"may not ask for the role", refusal(pgtest.Login(), pgtest.Expect(queriesSent()...), pgtest.Error("42501", "no")), primary, false, failover.SawAlive, "42501", 1},
		{"full", refusal(pgtest.Fatal("53300", "no")), primary, false, failover.SawAlive, "53300", 1},
		{"starting", refusal(pgtest.Fatal("57P03", "no")), primary, false, failover.SawStarting, "57P03", 1},
		{"all refused", badPassword, refusal(pgtest.Fatal("28000", "no")), false, failover.SawAlive, "28000", 2},
		{"all refused by us", badPassword, refusal(pgtest.Send(&pgproto3.AuthenticationGSS{})), false, failover.SawAlive, codeNoLogin, 2},
		{"no time for the second", badPassword, silent, true, failover.SawAlive, "28P01", 2},
		{"dead in between", badPassword, reset, false, failover.SawRefused, "", 2},
		{"shut down in between", badPassword, refusal(pgtest.Fatal("57P01", "no")), false, failover.SawShutdown, "57P01", 2},
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

func TestAnswerBearsNamesAndTimes(t *testing.T) {
	ticks := []time.Duration{5 * time.Second, 7 * time.Second}
	now := func() time.Duration {
		next := ticks[0]
		ticks = ticks[1:]
		return next
	}
	got := Probe(t.Context(), Target{Server: 3, ID: 42, Network: "tcp", Address: pgtest.RefusedAddr(t)}, now)
	want := failover.ProbeDone{Server: 3, ID: 42, Outcome: failover.SawRefused, Started: 5 * time.Second, Ended: 7 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
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
			done := make(chan failover.ProbeDone, 1)
			go func() {
				done <- Probe(ctx, Target{Network: "tcp", Address: tt.address, Timeout: time.Hour, Logins: []Login{alice}}, clock())
			}()
			if tt.address == f.Addr() {
				pgtest.WaitUntil(t, ample, "the start-up packet", func() bool { return len(f.Startups()) == 1 })
			}
			cancel()
			select {
			case got := <-done:
				expect(t, got, failover.SawNoAddress, codeCancelled)
			case <-time.After(ample):
				t.Fatal("the probe goes on")
			}
		})
	}
}

func TestErrnoDecides(t *testing.T) {
	tests := []struct {
		errno         syscall.Errno
		connect, live failover.Outcome
	}{
		{syscall.ECONNREFUSED, failover.SawRefused, failover.SawRefused},
		{syscall.ECONNRESET, failover.SawRefused, failover.SawRefused},
		{syscall.EPIPE, failover.SawRefused, failover.SawRefused},
		{syscall.ENOENT, failover.SawRefused, 0},
		{syscall.EAGAIN, failover.SawTimeout, failover.SawSilent},
		{syscall.ETIMEDOUT, failover.SawTimeout, failover.SawSilent},
		{syscall.EHOSTUNREACH, failover.SawUnreachable, failover.SawUnreachable},
		{syscall.ENETUNREACH, failover.SawUnreachable, failover.SawUnreachable},
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
