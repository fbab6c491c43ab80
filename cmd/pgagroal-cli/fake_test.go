package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

func TestMain(m *testing.M) {
	os.Unsetenv("COLUMNS") // of whoever runs the tests
	time.Local = time.UTC
	goleak.VerifyTestMain(m)
}

// fake is a supervisor with a primary, a standby and a failed server.
type fake struct {
	fail        error
	primaryDown bool
	held        bool // clients wait for a primary
	unwell      bool // a failover would not go well
	history     []json.RawMessage
	restarted   bool // see Events

	mu    sync.Mutex
	calls []string
}

func (f *fake) called(format string, a ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, a...))
	return f.fail
}

func (f *fake) seen() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, ", ")
}

func (f *fake) Ping(context.Context) (control.PingResponse, error) {
	behind := int64(4096)
	primary := control.PingServer{Host: "h1", Port: 5432, Status: control.ServerRunning, Primary: control.PrimaryYes}
	if f.primaryDown {
		primary.Status = control.ServerDown
	}
	r := control.PingResponse{Writable: !f.held, Servers: map[string]control.PingServer{
		"one":   primary,
		"two":   {Host: "h2", Port: 5433, Status: control.ServerRunning, Primary: control.PrimaryNo, Behind: &behind},
		"three": {Host: "h3", Port: 5434, Status: control.ServerDown, Primary: control.PrimaryUnknown},
	}}
	if f.held {
		r.Reason = "clients are held"
	}
	return r, f.called("ping")
}

func (f *fake) Status(context.Context) (control.StatusResponse, error) {
	return control.StatusResponse{
		Status: control.StatusRunning, ActiveConnections: 3, TotalConnections: 5, MaxConnections: 100, NumberOfServers: 2,
		Servers: map[string]control.Server{
			"one": {
				Server: "one", Host: "h1", Port: 5432, State: "Primary", Health: control.HealthUp, MajorVersion: 15,
				SystemIdentifier: "7523456789012345678", Status: control.ServerRunning, Primary: control.PrimaryYes,
			},
			"two": {
				Server: "two", Host: "h2", Port: 5433, State: "Failed", Health: control.HealthDown, Status: control.ServerDown,
				Primary: control.PrimaryNo, Qualifier: "split brain", Reason: "writable beside one",
			},
		},
		Standbys:    map[string]control.Standby{"two": {}},
		Confinement: control.Confinement{InForce: []string{"system calls (seccomp)"}, Lacking: []string{"files (needs Linux 5.13 of Landlock)"}},
		Failover: control.FailoverSummary{
			Enabled: true, Phase: "Serving", Epoch: 4, Timeline: 7,
			Alarms: []string{"two: split brain; stop it, then clear server two"},
		},
	}, f.called("status")
}

func (f *fake) StatusDetails(ctx context.Context) (control.StatusDetailsResponse, error) {
	s, _ := f.Status(ctx)
	return control.StatusDetailsResponse{StatusResponse: s, Connections: []control.Connection{
		{State: "Active", StartTime: 1, Timestamp: -1, PID: 12, FD: 9, Database: "db", Username: "u", AppName: "\x1b[31mevil\n  Outcome: fine"},
	}}, f.called("details")
}

func (f *fake) Shutdown(_ context.Context, mode controlsocket.ShutdownMode, timeout *time.Duration) (control.ShutdownResponse, error) {
	r := control.ShutdownResponse{Next: "no new client is let in"}
	if timeout == nil {
		return r, f.called("shutdown %s", mode)
	}
	return r, f.called("shutdown %s %s", mode, timeout)
}

func (f *fake) SwitchTo(_ context.Context, server string, force bool, timeout *time.Duration) (control.FailoverAnswer, error) {
	if timeout != nil {
		return control.FailoverAnswer{}, f.called("switch-to %s %t %s", server, force, timeout)
	}
	return control.FailoverAnswer{Next: server + " is the primary"}, f.called("switch-to %s %t", server, force)
}

func (f *fake) SwitchDatabase(_ context.Context, database string, disable bool) (control.DatabasesResponse, error) {
	return control.DatabasesResponse{Databases: []control.Database{{Database: database, Enabled: !disable}}}, f.called("database %s %t", database, disable)
}

func (f *fake) Flush(_ context.Context, o controlsocket.FlushOrder) (control.FlushResponse, error) {
	text := "default"
	if o.Timeout != nil {
		text = o.Timeout.String()
	}
	return control.FlushResponse{Closed: 3, Graceful: 2}, f.called("flush %s %s %s", o.Mode, o.Database, text)
}

func (f *fake) Pause(_ context.Context, o controlsocket.PauseOrder) (control.PauseResponse, error) {
	text := "default"
	if o.Timeout != nil {
		text = o.Timeout.String()
	}
	return control.PauseResponse{Paused: "all", Next: "no connection is left"}, f.called("pause %s/%s %s", o.Server, o.Database, text)
}

func (f *fake) Upgrade(context.Context) (control.UpgradeResponse, error) {
	return control.UpgradeResponse{From: "1", To: "2", Next: "clients stay"}, f.called("upgrade")
}

func (f *fake) Resume(_ context.Context, o controlsocket.PauseOrder) (control.PauseResponse, error) {
	return control.PauseResponse{Paused: "all", Next: "clients go on"}, f.called("resume %s/%s", o.Server, o.Database)
}

func (f *fake) Clients(_ context.Context) (control.ClientsResponse, error) {
	return control.ClientsResponse{Clients: []control.Client{{ID: 7, State: "idle", Database: "shop", Username: "u", Client: "192.0.2.7:5", Worker: 12}}}, f.called("clients")
}

func (f *fake) Servers(_ context.Context) (control.ServersResponse, error) {
	return control.ServersResponse{Servers: []control.ServerLine{{Server: control.Server{Server: "one", State: "Primary"}, Probe: "primary", Active: 2}}}, f.called("servers")
}

func (f *fake) Pools(_ context.Context) (control.PoolsResponse, error) {
	return control.PoolsResponse{Pools: []control.Pool{{Database: "shop", Username: "u", Active: 2, Waiting: 1, Waited: 3}}}, f.called("pools")
}

func (f *fake) Kick(_ context.Context, client uint64) error { return f.called("kick %d", client) }

func (f *fake) Recycle(_ context.Context, which string) (control.RecycleResponse, error) {
	return control.RecycleResponse{Workers: 2, Moved: 5, Left: 1}, f.called("recycle %s", which)
}

// Events has three events, of which the first is missed, and after these one for each time that somebody waits. Two
// events later pgagroal is started anew.
func (f *fake) Events(_ context.Context, o controlsocket.EventsOrder) (control.EventsResponse, error) {
	event := func(n int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"time":"2026-11-22T03:12:0%d.250Z","level":"warn","process":"supervisor","pid":7,"message":"server state","fields":{"server":"one","why":"3 probes in a row: \u001b[2J refused","n":%d}}`, n, n))
	}
	if err := f.called("events %d", o.Count); err != nil || o.After == nil {
		return control.EventsResponse{Events: []json.RawMessage{event(2), event(3)}, Last: 3, Missed: 1, Run: "a"}, err
	}
	switch {
	case f.restarted && *o.After == 6:
		return control.EventsResponse{}, errors.New("the end of the test")
	case f.restarted:
		return control.EventsResponse{Events: []json.RawMessage{event(9)}, Last: 6, Run: "b"}, nil
	case *o.After == 5:
		f.restarted = true
		return control.EventsResponse{Events: []json.RawMessage{event(8)}, Last: 6, Run: "b"}, nil
	case *o.After == 4:
		return control.EventsResponse{Events: []json.RawMessage{}, Last: 5, Missed: 1, Run: "a"}, nil
	}
	return control.EventsResponse{Events: []json.RawMessage{event(4)}, Last: 4, Run: "a"}, nil
}

func (f *fake) ClearFigures(context.Context) error { return f.called("clear figures") }

func (f *fake) ClearServer(_ context.Context, server string, force bool) error {
	return f.called("clear %s %t", server, force)
}

func (f *fake) Failover(_ context.Context, o controlsocket.FailoverOrder) (control.FailoverAnswer, error) {
	return control.FailoverAnswer{Next: "two is promoted"}, f.called("failover %s %s %t", o.Word, o.Server, o.Force)
}

func (f *fake) FailoverRehearse(context.Context) (control.RehearsalResponse, error) {
	r := control.RehearsalResponse{
		Well: true, Primary: "one", Next: "two",
		Runs:       []control.RehearsedRun{{Hook: "failover", Script: "/hooks/promote", Args: []string{"h1", "5432", "h2", "5433"}}},
		Candidates: []control.RehearsedServer{{Server: "two", Timeline: 7, LSN: "0/200", Verdict: "chosen"}},
		Warnings:   []control.Finding{{Server: "two", Text: "it is slow", Hint: "make it faster"}},
	}
	if f.unwell {
		r.Well, r.Problems = false, []control.Finding{{Text: "failover is paused", Hint: "pgagroal-cli failover resume"}}
	}
	return r, f.called("failover rehearse")
}

func (f *fake) ConfList(context.Context) (control.ConfListResponse, error) {
	return control.ConfListResponse{Main: "/etc/pgagroal/pgagroal.conf"}, f.called("conf ls")
}

func (f *fake) ConfReload(context.Context) (control.ReloadResponse, error) {
	return control.ReloadResponse{
		Restart: true, Changed: []control.ConfChange{{Key: "log_level", Old: "info", New: "debug"}, {Key: "users"}},
		NeedsRestart: []control.ConfChange{{Key: "port", Old: "2345", New: "2346"}},
	}, f.called("conf reload")
}

func (f *fake) ConfSet(_ context.Context, key, value string, persist bool) (control.SetResponse, error) {
	old, file := "5s", ""
	if persist {
		file = "/state/auto.conf"
	}
	r := control.SetResponse{Status: control.SetSuccess, Message: "the value is in effect", ConfigKey: key, OldValue: &old, NewValue: &value, Persisted: file}
	if key == "port" {
		r = control.SetResponse{
			Status: control.SetRestart, Message: "the value needs a restart", ConfigKey: key, CurrentValue: &old, RequestedValue: &value,
			RestartRequired: true, Persisted: file,
		}
	}
	return r, f.called("conf set %s %s %t", key, value, persist)
}

func (f *fake) ConfReset(_ context.Context, key string) (control.ReloadResponse, error) {
	return control.ReloadResponse{Changed: []control.ConfChange{{Key: key, Old: "9s", New: "5s"}}}, f.called("conf reset %s", key)
}

func (f *fake) ConfAlias(context.Context) (control.AliasResponse, error) {
	return control.AliasResponse{Databases: map[string]control.AliasedDatabase{
		"shop": {Username: "alice", MaxSize: 10, InitialSize: 5, MinSize: 2, Aliases: []string{"store", "web"}}, "all": {Username: "all", MaxSize: 3},
	}}, f.called("conf alias")
}

func (f *fake) ConfGet(_ context.Context, key string) (any, map[string]string, error) {
	values := map[string]any{
		"port":             2345,
		"blocking_timeout": map[string]any{"value": 30, "string_value": "30s"},
		"pidfile":          "",
		"hba":              map[string]any{"all": map[string]any{"method": "trust", "type": "host"}},
	}
	if v, ok := values[key]; ok || key == "" {
		if key == "" {
			return values, map[string]string{"port": "/etc/pgagroal/pgagroal.conf:3"}, f.called("conf get")
		}
		return v, map[string]string{key: "/etc/pgagroal/pgagroal.conf:3"}, f.called("conf get %s", key)
	}
	return nil, nil, controlsocket.ErrUnknownKey
}

func (f *fake) FailoverStatus(context.Context) (control.FailoverStatusResponse, error) {
	return control.FailoverStatusResponse{Primary: "one", LastLSNAge: 1.5}, f.called("failover status")
}

func (f *fake) FailoverHistory(_ context.Context, n int) ([]json.RawMessage, error) {
	return f.history, f.called("failover history %d", n)
}

// listen serves sup on a control socket and returns its path.
func listen(t *testing.T, sup controlsocket.Supervisor, uid uint32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".s.pgagroal.2345")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	opt := controlsocket.Options{Version: "9.9", PeerUID: func(*ipc.Conn) (uint32, error) { return uid, nil }}
	go func() { done <- controlsocket.Serve(ctx, ln, sup, opt) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// result is one run of the program.
type result struct {
	code        int
	out, errors string
}

func invoke(args ...string) result {
	var out, errs bytes.Buffer
	code := run(args, &out, &errs)
	return result{code, out.String(), errs.String()}
}

var volatile = regexp.MustCompile(`(Timestamp"?: "?)\d{14}|(  "?Time"?: "?)\d\d:\d\d:\d\d`)

// steady replaces what differs from run to run.
func steady(s string) string { return volatile.ReplaceAllString(s, "$1${2}X") }
