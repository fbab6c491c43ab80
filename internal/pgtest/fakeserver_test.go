package pgtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

func fakeConfig(f *Fake) ClientConfig {
	return ClientConfig{Addr: f.Addr(), User: "u", Password: "p", Database: "d"}
}

func TestFakeFaultsReachTheClient(t *testing.T) {
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	tests := map[string]struct {
		script Script
		is     error  // what the error of Connect must be
		code   string // or its SQLSTATE
	}{
		"never answers":           {script: Script{Steps: []Step{Mute()}}, is: context.DeadlineExceeded},
		"reads, never answers":    {script: Script{Steps: []Step{Swallow()}}, is: context.DeadlineExceeded},
		"hangs at password":       {script: Script{Steps: []Step{Startup(), AskPassword(), Mute()}}, is: context.DeadlineExceeded},
		"resets on connect":       {script: Script{Steps: []Step{Reset()}}, is: syscall.ECONNRESET},
		"closes after start-up":   {script: Script{Steps: []Step{Startup()}}, is: io.ErrUnexpectedEOF},
		"starting up":             {script: Script{Steps: []Step{Startup(), Fatal("57P03", "starting")}}, code: "57P03"},
		"too many":                {script: Script{Steps: []Step{Startup(), AskPassword(), Fatal("53300", "many")}}, code: "53300"},
		"closes mid-message":      {script: Script{Steps: []Step{Startup(), SendPart(3, ready)}}, is: io.ErrUnexpectedEOF},
		"resets after 20 sent":    {script: Script{Steps: []Step{Startup(), Login()}, ResetAfterSent: 20}, is: syscall.ECONNRESET},
		"resets after 5 received": {script: Script{Steps: []Step{Swallow()}, ResetAfterReceived: 5}, is: syscall.ECONNRESET},
		"talks nonsense":          {script: Script{Steps: []Step{Startup(), SendBytes([]byte("R\x00\x00\x00\x02"))}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := NewFake(t, tt.script)
			limit := generous
			if errors.Is(tt.is, context.DeadlineExceeded) {
				limit = patience
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := Connect(ctx, fakeConfig(f))
			if err == nil {
				t.Fatal("connected")
			}
			// A client that still writes when the reset arrives sees EPIPE.
			resetOnWrite := errors.Is(tt.is, syscall.ECONNRESET) && errors.Is(err, syscall.EPIPE)
			if tt.is != nil && !errors.Is(err, tt.is) && !resetOnWrite {
				t.Errorf("error is %v, want %v", err, tt.is)
			}
			if Code(err) != tt.code {
				t.Errorf("SQLSTATE of %v is %q, want %q", err, Code(err), tt.code)
			}
		})
	}
}

func TestFakeAnswersFromItsTable(t *testing.T) {
	const probe = "SELECT pg_is_in_recovery()"
	f := NewFake(t, Script{Steps: []Step{Startup(), Login("server_version", "15"), Answer(map[string]string{probe: "f"})}})
	c, err := Connect(t.Context(), fakeConfig(f))
	check(t, err)
	res, err := c.Query(t.Context(), probe)
	check(t, err)
	check(t, c.Close())
	if diff := cmp.Diff([][]string{{"f"}}, res.Rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]map[string]string{{"user": "u", "database": "d"}}, f.Startups()); diff != "" {
		t.Errorf("start-up parameters (-want +got):\n%s", diff)
	}
	if c.PID != FakePID || c.Params["server_version"] != "15" || c.Status != 'I' {
		t.Errorf("client has pid %d, parameters %v, status %q", c.PID, c.Params, c.Status)
	}
}

func TestFakeScriptsFollowTheConnections(t *testing.T) {
	f := NewFake(t,
		Script{Steps: []Step{Startup(), Fatal("57P01", "first")}},
		Script{Steps: []Step{Startup(), Fatal("57P03", "all others")}})
	var codes []string
	for range 3 {
		_, err := Connect(t.Context(), fakeConfig(f))
		codes = append(codes, Code(err))
	}
	if diff := cmp.Diff([]string{"57P01", "57P03", "57P03"}, codes); diff != "" {
		t.Errorf("SQLSTATEs (-want +got):\n%s", diff)
	}
	if f.Accepted() != 3 {
		t.Errorf("accepted %d, want 3", f.Accepted())
	}
}

func TestFakeTellsWhenTheClientLeavesTheScript(t *testing.T) {
	f, err := StartFake(Script{Steps: []Step{Startup(), Login(), Expect("Parse"), Error("XX000", "not reached")}})
	check(t, err)
	c, err := Connect(t.Context(), fakeConfig(f))
	check(t, err)
	if _, err := c.Query(t.Context(), "SELECT 1"); err == nil || Code(err) != "" {
		t.Errorf("query: %v, want the end of the connection", err)
	}
	_ = c.Conn().Close()
	f.Close()
	if got := f.Failures(); len(got) != 1 || !strings.Contains(got[0].Error(), "got Query instead of Parse") {
		t.Errorf("failures are %v", got)
	}
}

func TestFakeKeepsTheSessionAfterAnError(t *testing.T) {
	f := NewFake(t, Script{Steps: []Step{
		Startup(), Login(), Expect("Query"), Error("25006", "read only"), Expect("Query"), Fatal("57P01", "going"), CloseWrite(), Swallow(),
	}})
	c, err := Connect(t.Context(), fakeConfig(f))
	check(t, err)
	for _, want := range []string{"25006", "57P01"} {
		if _, err := c.Query(t.Context(), "INSERT"); Code(err) != want {
			t.Errorf("query: %v, want SQLSTATE %s", err, want)
		}
	}
	check(t, c.Conn().Close())
}
