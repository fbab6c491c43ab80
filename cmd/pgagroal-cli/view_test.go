package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// now is when the documents of these tests were written.
var now = time.Date(2026, 11, 22, 3, 14, 15, 0, time.Local)

// answered is the answer of a pgagroal to a command.
func answered(t *testing.T, command string, response any) *answer {
	t.Helper()
	a := &answer{}
	a.Header = control.Header{Command: command, Timestamp: now.Format("20060102150405")}
	if err := a.Succeed(response, "9.9", 0); err != nil {
		t.Fatal(err)
	}
	return a
}

func text(s string) *string { return &s }

func bytesOf(n int64) *int64 { return &n }

// long is a host name as clouds give them.
const long = "pg-orders-production-2.internal.eu-central-1.db.example.com"

func calm() control.StatusResponse {
	return control.StatusResponse{
		Status: control.StatusRunning, ActiveConnections: 12, TotalConnections: 20, MaxConnections: 100, NumberOfServers: 2,
		Servers: map[string]control.Server{
			"orders1": {Server: "orders1", Host: "10.1.0.1", Port: 5432, State: "Primary", Health: control.HealthUp, MajorVersion: 17, Status: control.ServerRunning, Primary: control.PrimaryYes, Reason: "writable"},
			"orders2": {Server: "orders2", Host: long, Port: 5432, State: "Replica", Health: control.HealthUp, MajorVersion: 17, Status: control.ServerRunning, Primary: control.PrimaryNo, Behind: bytesOf(40 << 20), LagSeconds: new(93.5)},
		},
		Standbys:    map[string]control.Standby{"orders2": {Readable: true, Streaming: true, WALReceiverStatus: "streaming"}},
		Failover:    control.FailoverSummary{Enabled: true, Phase: "open", Epoch: 3, Timeline: 2, Alarms: []string{}},
		Confinement: control.Confinement{InForce: []string{"system calls (seccomp)", "files and ports (Landlock)"}, Lacking: []string{"signals (needs Linux 6.12 of Landlock)"}},
	}
}

// trouble is a pgagroal at 3 a.m.
func trouble() control.StatusResponse {
	r := calm()
	s := r.Servers["orders2"]
	s.State, s.Qualifier, s.Health, s.Behind, s.Reason = "Failed", "split brain", control.HealthUp, nil, "writable beside orders1, on timeline 3, which began after the primary's; it is never used"
	r.Servers["orders2"] = s
	s = r.Servers["orders1"]
	s.Health, s.Status = control.HealthDown, control.ServerDown
	s.Reason = "3 probes in a row: refused"
	r.Servers["orders1"] = s
	r.SplitBrain, r.Standbys = control.SplitBrainYes, nil
	r.Status, r.Shutdown = control.StatusGraceful, &control.ShutdownResponse{Next: "new clients are let in for 8s more, so that load balancers notice; then every client is disconnected", Final: true}
	r.Failover.Phase, r.Failover.Held, r.Failover.Paused = "held", true, true
	r.Failover.HeldReason = "no standby can be promoted; orders1 doesn't answer since 12 probes in a row: connection refused"
	r.Failover.Alarms = []string{
		r.Failover.HeldReason,
		"failover is paused: a dead primary is not replaced until pgagroal-cli failover resume",
		"writable beside the primary, never used: orders2",
	}
	return r
}

func details() control.StatusDetailsResponse {
	return control.StatusDetailsResponse{
		StatusResponse: calm(),
		Limits:         []control.Limit{{Database: "orders", Username: "app", ActiveConnections: 20, MaxConnections: 20, InitialConnections: 5, MinConnections: 2}, {Database: "all", Username: "all", MaxConnections: 10}},
		Databases:      []control.Database{{Database: "archive"}},
		Connections: []control.Connection{
			{State: "Active", StartTime: now.Unix() - 3*86400, Timestamp: now.Unix(), PID: 4711, FD: 9, Database: "orders", Username: "app", AppName: "a service with a long name\x1b[31m", Server: "orders1", Client: "10.1.7.200:50123"},
			{State: "Free", StartTime: now.Unix() - 90, Timestamp: -1, PID: 4711, FD: 12, Database: "orders", Username: "app", Server: "orders1"},
		},
	}
}

func running() control.FailoverStatusResponse {
	return control.FailoverStatusResponse{
		FailoverSummary: control.FailoverSummary{
			Enabled: true, Phase: "running", Reason: "3 probes in a row: refused", Epoch: 4, Timeline: 2, Held: true, HeldReason: "3 probes in a row: refused",
			Alarms: []string{"the script runner is not available: failover_notify_script can't run: /etc/pgagroal/hooks/follow-new-primary.sh has mode 0644"},
		},
		Mode: "auto", Primary: "orders1", LastLSN: "2/5A0001C8", LastLSNAge: 4.25,
		Servers: []control.FailoverServer{
			{Server: "orders1", Host: "10.1.0.1", Port: 5432, State: "Failover", Reason: "3 probes in a row: refused", Candidate: true, Priority: 100, Probe: "refused", ProbeAge: 0.412, Failures: 3, Timeline: 2, LSN: "2/5A0001C8"},
			{Server: "orders2", Host: long, Port: 5432, State: "Replica", Reason: "in recovery", Candidate: true, Priority: 100, Probe: "standby", ProbeAge: 0.2, Timeline: 2, LSN: "2/5A0001C8"},
			{Server: "orders3", Host: "10.1.0.3", Port: 5432, State: "Failed", Reason: "back as a standby", EndedBy: "pgagroal-cli clear server orders3", Probe: "standby", ProbeAge: 75, Timeline: 1, LSN: "1/FF000000"},
		},
		Run:    &control.FailoverRun{RunID: "4-1", Hook: "failover", Args: []string{"10.1.0.1", "5432", long, "5432"}, Elapsed: 12.4, Timeout: 60},
		Runner: control.Runner{Connected: true, PID: 88, DigestMatch: true, Problems: map[string]string{"notify": "follow-new-primary.sh has mode 0644"}},
		Runs:   3, StateDir: "/var/lib/pgagroal", StateDirWritable: true,
	}
}

const history = `{"time":"2026-11-22T03:12:05.123456789Z","kind":"failover","epoch":2,"reason":"3 probes in a row: refused, and 2 standbys don't receive","result":"exit code 0","old":"orders1","new":"orders2","timeline":1,"lsn":"0/3000060","probes":["orders1: refused","orders2: standby","orders3: standby"],"candidates":[{"name":"orders2","timeline":1,"lsn":"0/3000060","verdict":"chosen"},{"name":"orders3","timeline":1,"lsn":"0/3000060","verdict":"eligible"}],"run_id":"2-1","hook":"failover","argv":["10.1.0.1","5432","10.1.0.2","5432"],"exit":0,"output":"promoting\nserver promoted\u001b[2J\n","durations":{"suspect":"2.004s","choosing":"12ms","running":"1.32s"}}`

func rehearsal() control.RehearsalResponse {
	return control.RehearsalResponse{
		Primary: "orders1", Next: "orders2",
		Runs: []control.RehearsedRun{
			{Hook: "failover", Script: "/usr/local/lib/pgagroal/hooks/promote-ssh.sh", Args: []string{"10.1.0.1", "5432", long, "5432"}, Check: &control.HookCheck{Result: "failed: exit code 1", Words: []string{"ssh: connect to host " + long + " port 22: Connection timed out"}}},
		},
		Candidates: []control.RehearsedServer{{Server: "orders2", Timeline: 2, LSN: "2/5A0001C8", Verdict: "chosen"}, {Server: "orders3", Timeline: 1, Verdict: "it is on timeline 1, the primary was on 2"}},
		Problems: []control.Finding{
			{Text: "failover is paused", Hint: "pgagroal-cli failover resume"},
			{Server: "orders2", Text: "a probe can't log in (28P01), so that role, LSN and timeline stay unknown", Hint: "give monitor its password with pgagroal-admin user edit -U monitor"},
		},
		Warnings: []control.Finding{{Server: "orders3", Text: "wal_receiver_timeout is 60s: a dead primary is noticed late", Hint: "set it to 10s"}},
	}
}

// pages are answers as every command can give them.
func pages(t *testing.T) map[string]*answer {
	t.Helper()
	unknown := map[string]any{"Clients": []map[string]any{
		{"ID": 12, "Database": "orders", "User": "app", "State": "waiting", "Age": 93.5, "Server": nil, "Client": "10.1.7.200:50123", "Application": "checkout"},
		{"ID": 9, "Database": "orders", "User": "app", "State": "active", "Age": 0.2, "Server": "orders1", "Client": "10.1.7.201:50123", "Application": "reports of the month"},
	}, "Total": 2, "Held": false}
	return map[string]*answer{
		"status-calm":       answered(t, control.Status, calm()),
		"status-trouble":    answered(t, control.Status, trouble()),
		"status-details":    answered(t, control.StatusDetails, details()),
		"ping":              answered(t, control.Ping, control.PingResponse{Writable: true, Servers: map[string]control.PingServer{"one": {Host: "/run/postgresql", Port: 5432, Status: control.ServerRunning, Primary: control.PrimaryYes}, "two": {Host: "::1", Port: 5433, Status: control.ServerDown, Primary: control.PrimaryUnknown}}}),
		"ping-held":         answered(t, control.Ping, control.PingResponse{Reason: "clients are held, phase running: 3 probes in a row: refused"}),
		"failover-status":   answered(t, control.FailoverStatus, running()),
		"failover-follow":   answered(t, control.FailoverStatus, control.FailoverStatusResponse{FailoverSummary: control.FailoverSummary{Enabled: true, Phase: "open"}, Mode: "follow", LastLSNAge: -1, StateDir: "/var/lib/pgagroal", StateDirError: "no space left on device"}),
		"failover-off":      answered(t, control.FailoverStatus, control.FailoverStatusResponse{LastLSNAge: -1, StateDirError: "there is no state_dir", Runner: control.Runner{Error: "it has ended"}}),
		"failover-history":  answered(t, control.FailoverHistory, control.HistoryResponse{History: []json.RawMessage{json.RawMessage(history), json.RawMessage(`["not","an entry"]`)}}),
		"failover-rehearse": answered(t, control.FailoverRehearse, rehearsal()),
		"failover-pause":    answered(t, control.FailoverPause, control.FailoverAnswer{Next: "a dead primary is not replaced until pgagroal-cli failover resume"}),
		"disable":           answered(t, control.DisableDatabase, control.DatabasesResponse{Databases: []control.Database{{Database: "orders"}}}),
		"conf-ls":           answered(t, control.ConfList, control.ConfListResponse{Main: "/etc/pgagroal/pgagroal.conf", HBA: "/etc/pgagroal/pgagroal_hba.conf", Included: []string{"/etc/pgagroal/conf.d/10.conf"}, Auto: "/var/lib/pgagroal/auto.conf"}),
		"conf-get": answered(t, control.ConfGet, map[string]any{
			"port": 2345, "log_path": "", "tls": false, "blocking_timeout": map[string]any{"value": 30, "string_value": "30s"},
			"server": map[string]any{"orders1": map[string]any{"host": "10.1.0.1", "port": 5432}, "orders2": map[string]any{"host": long, "port": 5432}},
			"hba":    map[string]any{"app": map[string]any{"type": "host", "database": "orders", "address": "10.0.0.0/8", "method": "scram-sha-256"}},
			"limit":  map[string]any{"orders": map[string]any{"max_size": 20, "aliases": []string{"o", "ord"}}},
			"sources": map[string]string{
				"port": "/etc/pgagroal/pgagroal.conf:3", "blocking_timeout": "conf set", "server.orders2.host": "/etc/pgagroal/conf.d/10.conf:7",
			},
		}),
		"conf-reload": answered(t, control.ConfReload, control.ReloadResponse{
			Restart: true, Changed: []control.ConfChange{{Key: "log_level", Old: "info", New: "debug"}, {Key: "log_path", New: "/var/log/pgagroal"}, {Key: "users"}},
			NeedsRestart: []control.ConfChange{{Key: "port", Old: "2345", New: "2346"}},
		}),
		"conf-reload-credentials": answered(t, control.ConfReload, control.ReloadResponse{Credentials: []string{"/run/credentials/pgagroal.service/master.key"}}),
		"conf-set":                answered(t, control.ConfSet, control.SetResponse{Status: control.SetSuccess, ConfigKey: "idle_timeout", OldValue: text("5s"), NewValue: text("9s")}),
		"conf-set-persist":        answered(t, control.ConfSet, control.SetResponse{Status: control.SetSuccess, ConfigKey: "idle_timeout", OldValue: text("5s"), NewValue: text("9s"), Persisted: "/var/lib/pgagroal/auto.conf"}),
		"conf-set-restart":        answered(t, control.ConfSet, control.SetResponse{Status: control.SetRestart, ConfigKey: "max_connections", CurrentValue: text("50"), RequestedValue: text("60"), RestartRequired: true}),
		"conf-set-quoted":         answered(t, control.ConfSet, control.SetResponse{Status: control.SetRestart, ConfigKey: "server.my server.host", CurrentValue: text("a"), RequestedValue: text("it's; two"), RestartRequired: true}),
		"conf-alias": answered(t, control.ConfAlias, control.AliasResponse{Databases: map[string]control.AliasedDatabase{
			"orders": {Username: "alice", MaxSize: 10, InitialSize: 5, MinSize: 2, Aliases: []string{"o", "ord"}}, "orders bob": {Username: "bob", MaxSize: 3},
		}}),
		"conf-reload-same": answered(t, control.ConfReload, control.ReloadResponse{}),
		"flush":            answered(t, control.Flush, control.FlushResponse{Closed: 3, Graceful: 2}),
		"pause":            answered(t, control.Pause, control.PauseResponse{Paused: "the shop", Next: "no connection is left"}),
		"resume":           answered(t, control.Resume, control.PauseResponse{Paused: "all", Next: "clients go on"}),
		"shutdown":         answered(t, control.ShutdownGracefully, control.ShutdownResponse{Next: "no new client is let in, and pgagroal ends when the last client has left; who is still there 1m0s later is disconnected"}),
		"unknown":          answered(t, "a command without a page of its own", unknown),
		"clients": answered(t, control.Clients, control.ClientsResponse{Clients: []control.Client{
			{ID: 4294967301, State: "in transaction", Database: "orders", Username: "app", AppName: "checkout\x1b[2J", Client: "10.1.7.200:50123", StartTime: now.Unix() - 4000, PID: 991, Server: "orders1", Worker: 4711},
			{ID: 12, State: "waiting", Database: "orders", Username: "app", Client: "10.1.7.201:50123", StartTime: now.Unix(), Worker: 4711},
			{ID: 13, State: "login", StartTime: now.Unix(), Worker: 4712},
		}}),
		"pools": answered(t, control.Pools, control.PoolsResponse{Pools: []control.Pool{
			{Database: "orders", Username: "app", Active: 20, Idle: 3, Waiting: 2, Waited: 93}, {Database: "my shop", Username: "app", Paused: true},
		}}),
		"pools-paused": answered(t, control.Pools, control.PoolsResponse{AllPaused: true, Pools: []control.Pool{
			{Database: "orders", Username: "app", Waiting: 2, Waited: 93, Paused: true}, {Database: "my shop", Username: "app", Paused: true},
		}}),
		"servers": answered(t, control.Servers, control.ServersResponse{Servers: []control.ServerLine{
			{Server: trouble().Servers["orders1"], Probe: "primary", ProbeAge: 0.3, Timeline: 2, LSN: "2/5A0001C8", Active: 20, Idle: 4},
			{Server: trouble().Servers["orders2"], Probe: "primary", ProbeAge: -1},
		}}),
		"events": answered(t, control.Events, control.EventsResponse{Missed: 17, Last: 20, Events: []json.RawMessage{
			json.RawMessage(`{"time":"2026-11-22T03:12:05.123+01:00","level":"error","process":"supervisor","pid":7,"message":"alarm","fields":{"alarm":"no_primary","text":"clients are held: 3 probes in a row: refused, and 2 standbys don't receive\u001b[2J"}}`),
			json.RawMessage(`{"time":"2026-11-22T03:12:06.123+01:00","level":"info","process":"supervisor","pid":7,"message":"ready"}`),
			json.RawMessage(`["of another release"]`),
		}}),
		"nothing": answered(t, "another one", nil),
	}
}

func TestPagesAt80And160Columns(t *testing.T) {
	for name, a := range pages(t) {
		var b strings.Builder
		for _, width := range []int{80, 160} {
			text, err := a.write(screen.Screen{Width: width})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			fmt.Fprintf(&b, "%s\n%s", strings.Repeat("=", width), text)
			for line := range strings.Lines(text) {
				if w := screen.Width(strings.TrimSuffix(line, "\n")); w > width && !isOneWord(line) {
					t.Errorf("%s at %d columns: a line of %d: %s", name, width, w, line)
				}
			}
		}
		golden(t, "page-"+name+".txt", b.String())
	}
}

// isOneWord reports whether a line is a word that can't be broken, such as a path that is
// to be copied.
func isOneWord(line string) bool {
	words := strings.Fields(line)
	return len(words) == 1 || len(words) == 2 && strings.HasPrefix(words[1], "/")
}

func TestColoursAddNothingElse(t *testing.T) {
	for name, a := range pages(t) {
		plain, err := a.write(screen.Screen{Width: 80})
		if err != nil {
			t.Fatal(err)
		}
		coloured, err := a.write(screen.Screen{Width: 80, Colours: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range []screen.Colour{screen.Strong, screen.Faint, screen.Good, screen.Worry, screen.Bad} {
			coloured = strings.ReplaceAll(coloured, "\x1b["+string(code)+"m", "")
		}
		if coloured = strings.ReplaceAll(coloured, "\x1b[0m", ""); coloured != plain {
			t.Errorf("%s: %s\nis without colours\n%s", name, coloured, plain)
		}
	}
}

func TestNoAnswerMovesTheCursor(t *testing.T) {
	for name, a := range pages(t) {
		if text, err := a.write(screen.Screen{}); err != nil || strings.ContainsRune(text, '\x1b') {
			t.Errorf("%s: %v in %q", name, err, text)
		}
	}
}
