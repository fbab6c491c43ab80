package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// fake is a Supervisor that records what it was told to do. fail, block and panic change
// the answer to every command.
type fake struct {
	fail    error
	block   bool // wait for the end of the context
	panic   atomic.Bool
	history int // size of each history entry in bytes
	// With block, blocked is closed when the one command waits, and ended gets why its wait has ended.
	blocked chan struct{}
	ended   chan error

	mu         sync.Mutex
	calls      []string
	onShutdown func() // called within Shutdown
}

func (f *fake) called(ctx context.Context, format string, a ...any) error {
	f.mu.Lock()
	f.calls = append(f.calls, fmt.Sprintf(format, a...))
	f.mu.Unlock()
	if f.panic.Load() {
		panic("a bug")
	}
	if f.block {
		if f.blocked != nil {
			close(f.blocked)
		}
		<-ctx.Done()
		if f.ended != nil {
			f.ended <- context.Cause(ctx)
		}
		return context.Cause(ctx)
	}
	return f.fail
}

func (f *fake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func (f *fake) Ping(ctx context.Context) (control.PingResponse, error) {
	behind := int64(0)
	return control.PingResponse{Servers: map[string]control.PingServer{
		"one": {Host: "h1", Port: 5432, Status: control.ServerRunning, Primary: control.PrimaryYes},
		"two": {Host: "h2", Port: 5433, Status: control.ServerRunning, Primary: control.PrimaryNo, Behind: &behind},
	}}, f.called(ctx, "ping")
}

func (f *fake) Status(ctx context.Context) (control.StatusResponse, error) {
	return control.StatusResponse{Status: control.StatusRunning, Standbys: map[string]control.Standby{
		"two":   {Readable: true, WALReceiverStatus: "streaming"},
		"three": {},
	}}, f.called(ctx, "status")
}

func (f *fake) StatusDetails(ctx context.Context) (control.StatusDetailsResponse, error) {
	return control.StatusDetailsResponse{Limits: []control.Limit{{Database: "a<b"}}}, f.called(ctx, "status details")
}

func (f *fake) Shutdown(ctx context.Context, mode ShutdownMode, timeout *time.Duration) (control.ShutdownResponse, error) {
	f.mu.Lock()
	if f.onShutdown != nil {
		f.onShutdown()
	}
	f.mu.Unlock()
	text := "default"
	if timeout != nil {
		text = timeout.String()
	}
	return control.ShutdownResponse{Next: "it ends"}, f.called(ctx, "shutdown %s %s", mode, text)
}

func (f *fake) Events(ctx context.Context, o EventsOrder) (control.EventsResponse, error) {
	after := "-"
	if o.After != nil {
		after = fmt.Sprint(*o.After)
	}
	return control.EventsResponse{}, f.called(ctx, "events %d %s %t", o.Count, after, o.Follow)
}

func (f *fake) SwitchTo(ctx context.Context, server string, force bool, timeout *time.Duration) (control.FailoverAnswer, error) {
	text := "default"
	if timeout != nil {
		text = timeout.String()
	}
	return control.FailoverAnswer{Next: "rest"}, f.called(ctx, "switch-to %s %t %s", server, force, text)
}

func (f *fake) SwitchDatabase(ctx context.Context, database string, disable bool) (control.DatabasesResponse, error) {
	return control.DatabasesResponse{Databases: []control.Database{{Database: database, Enabled: !disable}}}, f.called(ctx, "database %s %t", database, disable)
}

func (f *fake) Flush(ctx context.Context, o FlushOrder) (control.FlushResponse, error) {
	text := "default"
	if o.Timeout != nil {
		text = o.Timeout.String()
	}
	return control.FlushResponse{Closed: 2}, f.called(ctx, "flush %s %s %s", o.Mode, o.Database, text)
}

func (f *fake) Pause(ctx context.Context, o PauseOrder) (control.PauseResponse, error) {
	text := "default"
	if o.Timeout != nil {
		text = o.Timeout.String()
	}
	return control.PauseResponse{Paused: "all", Next: "no connection is left"}, f.called(ctx, "pause %s/%s %s", o.Server, o.Database, text)
}

func (f *fake) Upgrade(ctx context.Context) (control.UpgradeResponse, error) {
	return control.UpgradeResponse{From: "1", To: "2", Next: "clients stay"}, f.called(ctx, "upgrade")
}

func (f *fake) Resume(ctx context.Context, o PauseOrder) (control.PauseResponse, error) {
	return control.PauseResponse{Paused: "all", Next: "clients go on"}, f.called(ctx, "resume %s/%s", o.Server, o.Database)
}

func (f *fake) Clients(ctx context.Context) (control.ClientsResponse, error) {
	return control.ClientsResponse{Clients: []control.Client{{ID: 7, State: "idle", Database: "shop", Username: "u", Client: "192.0.2.7:5", Worker: 12}}}, f.called(ctx, "clients")
}

func (f *fake) Servers(ctx context.Context) (control.ServersResponse, error) {
	return control.ServersResponse{Servers: []control.ServerLine{{Server: control.Server{Server: "one", State: "Primary"}, Probe: "primary", Active: 2}}}, f.called(ctx, "servers")
}

func (f *fake) Pools(ctx context.Context) (control.PoolsResponse, error) {
	return control.PoolsResponse{Pools: []control.Pool{{Database: "shop", Username: "u", Active: 2, Waiting: 1, Waited: 3}}}, f.called(ctx, "pools")
}

func (f *fake) Kick(ctx context.Context, client uint64) error {
	return f.called(ctx, "kick %d", client)
}

func (f *fake) Recycle(ctx context.Context, which string) (control.RecycleResponse, error) {
	return control.RecycleResponse{Workers: 2, Moved: 5, Left: 1}, f.called(ctx, "recycle %s", which)
}

func (f *fake) ClearFigures(ctx context.Context) error { return f.called(ctx, "clear figures") }

func (f *fake) ClearServer(ctx context.Context, server string, force bool) error {
	return f.called(ctx, "clear %s %t", server, force)
}

func (f *fake) Failover(ctx context.Context, o FailoverOrder) (control.FailoverAnswer, error) {
	return control.FailoverAnswer{Next: "rest"}, f.called(ctx, "failover %s %s %t", o.Word, o.Server, o.Force)
}

func (f *fake) FailoverRehearse(ctx context.Context) (control.RehearsalResponse, error) {
	return control.RehearsalResponse{Well: true}, f.called(ctx, "failover rehearse")
}

func (f *fake) ConfList(ctx context.Context) (control.ConfListResponse, error) {
	return control.ConfListResponse{Main: "/etc/pgagroal/pgagroal.conf"}, f.called(ctx, "conf ls")
}

func (f *fake) ConfReload(ctx context.Context) (control.ReloadResponse, error) {
	return control.ReloadResponse{}, f.called(ctx, "conf reload")
}

func (f *fake) ConfGet(ctx context.Context, key string) (any, map[string]string, error) {
	sources := map[string]string{"port": "f:1"}
	if key == "" {
		return map[string]any{"port": 2345}, sources, f.called(ctx, "conf get")
	}
	return 2345, sources, f.called(ctx, "conf get %s", key)
}

func (f *fake) ConfSet(ctx context.Context, key, value string, persist bool) (control.SetResponse, error) {
	return control.SetResponse{}, f.called(ctx, "conf set %s %s %t", key, value, persist)
}

func (f *fake) ConfReset(ctx context.Context, key string) (control.ReloadResponse, error) {
	return control.ReloadResponse{}, f.called(ctx, "conf reset %s", key)
}

func (f *fake) ConfAlias(ctx context.Context) (control.AliasResponse, error) {
	return control.AliasResponse{}, f.called(ctx, "conf alias")
}

func (f *fake) FailoverStatus(ctx context.Context) (control.FailoverStatusResponse, error) {
	return control.FailoverStatusResponse{FailoverSummary: control.FailoverSummary{Phase: "Serving"}}, f.called(ctx, "failover status")
}

func (f *fake) FailoverHistory(ctx context.Context, n int) ([]json.RawMessage, error) {
	if err := f.called(ctx, "failover history %d", n); err != nil || f.history == 0 {
		return nil, err
	}
	entry := fmt.Sprintf(`{"reason":%q}`, strings.Repeat("x", f.history))
	return []json.RawMessage{json.RawMessage(entry)}, nil
}
