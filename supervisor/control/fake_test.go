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
		<-ctx.Done()
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

func (f *fake) Shutdown(ctx context.Context, mode ShutdownMode, timeout *time.Duration) error {
	f.mu.Lock()
	if f.onShutdown != nil {
		f.onShutdown()
	}
	f.mu.Unlock()
	text := "default"
	if timeout != nil {
		text = timeout.String()
	}
	return f.called(ctx, "shutdown %s %s", mode, text)
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
