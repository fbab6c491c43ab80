package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// operator answers pgagroal-cli. Each method runs its work in the loop and waits for
// the answer.
type operator struct{ s *supervisor }

var errEnded = errors.New("pgagroal is ending")

// ask runs f in the loop. f calls its argument once, at once or later, with the answer.
func ask[T any](ctx context.Context, s *supervisor, f func(answer func(T, error))) (T, error) {
	type result struct {
		v   T
		err error
	}
	got := make(chan result, 1)
	var none T
	call := func() {
		f(func(v T, err error) {
			select {
			case got <- result{v, err}:
			default: // f must answer only once; if it doesn't, this must not block the loop
			}
		})
	}
	select {
	case s.calls <- call:
	case <-s.ended:
		return none, errEnded
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-got:
		return r.v, r.err
	case <-s.ended:
		return none, errEnded
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Ping returns which servers can be reached, according to probes and logins.
func (o operator) Ping(ctx context.Context) (control.PingResponse, error) {
	return ask(ctx, o.s, func(answer func(control.PingResponse, error)) { answer(o.s.pingResponse(), nil) })
}

// Status returns the state of the pooler, its servers and its failover.
func (o operator) Status(ctx context.Context) (control.StatusResponse, error) {
	return ask(ctx, o.s, func(answer func(control.StatusResponse, error)) {
		o.s.askReports(false, func(r *report) { answer(o.s.statusResponse(r), nil) })
	})
}

// StatusDetails is Status with limits, databases and connections.
func (o operator) StatusDetails(ctx context.Context) (control.StatusDetailsResponse, error) {
	return ask(ctx, o.s, func(answer func(control.StatusDetailsResponse, error)) {
		o.s.askReports(true, func(r *report) { answer(o.s.detailsResponse(r), nil) })
	})
}

// Shutdown starts or cancels a shutdown. The immediate one is put off until the
// answer is on its way.
func (o operator) Shutdown(ctx context.Context, mode controlsocket.ShutdownMode, timeout *time.Duration) (control.ShutdownResponse, error) {
	return ask(ctx, o.s, func(answer func(control.ShutdownResponse, error)) {
		answer(o.s.shutdownBy(mode, timeout))
	})
}

func (s *supervisor) shutdownBy(mode controlsocket.ShutdownMode, timeout *time.Duration) (r control.ShutdownResponse, err error) {
	switch mode {
	case controlsocket.ShutdownGraceful:
		limit := s.cfg.FlushTimeout
		if timeout != nil {
			limit = *timeout
		}
		s.after(0, func() { s.shutGracefully(limit) })
		r = s.shutdownAnswer(limit)
	case controlsocket.ShutdownImmediate:
		s.after(0, s.shutNow)
	case controlsocket.ShutdownCancel:
		err = s.cancelShutdown()
	default:
		err = fmt.Errorf("unknown kind of shutdown %d", mode)
	}
	return r, err
}

// SwitchDatabase disables or enables a database for new clients.
func (o operator) SwitchDatabase(ctx context.Context, database string, disable bool) (control.DatabasesResponse, error) {
	return ask(ctx, o.s, func(answer func(control.DatabasesResponse, error)) { answer(o.s.switchDatabase(database, disable)) })
}

// SwitchTo makes the server the primary.
func (o operator) SwitchTo(ctx context.Context, server string, force bool, timeout *time.Duration) (control.FailoverAnswer, error) {
	next, err := o.command(ctx, server, func(tag uint64) failover.Event {
		ev := failover.SwitchTo{Tag: tag, Name: server, Force: force}
		if timeout != nil {
			ev.Timeout = max(*timeout, 1) // 0 means no time at all, not the default
		}
		return ev
	})
	return control.FailoverAnswer{Next: next}, err
}

// ClearServer makes a Failed server usable again once it has been probed.
func (o operator) ClearServer(ctx context.Context, server string, force bool) error {
	_, err := o.command(ctx, server, func(tag uint64) failover.Event {
		return failover.ClearServer{Tag: tag, Name: server, Force: force}
	})
	return err
}

// Failover pauses, resumes, resets or triggers the failover.
func (o operator) Failover(ctx context.Context, order controlsocket.FailoverOrder) (control.FailoverAnswer, error) {
	next, err := o.command(ctx, order.Server, func(tag uint64) failover.Event {
		switch order.Word {
		case controlsocket.OrderPause:
			return failover.Pause{Tag: tag}
		case controlsocket.OrderResume:
			return failover.Resume{Tag: tag}
		case controlsocket.OrderReset:
			return failover.Reset{Tag: tag}
		}
		return failover.Trigger{Tag: tag, To: order.Server, Force: order.Force}
	})
	return control.FailoverAnswer{Next: next}, err
}

// command gives the machine a command and waits for its Reply, which says what happens
// next. server is empty for a command that names no server.
func (o operator) command(ctx context.Context, server string, ev func(tag uint64) failover.Event) (string, error) {
	s := o.s
	return ask(ctx, s, func(answer func(string, error)) {
		if server != "" && !s.hasServer(server) {
			answer("", fmt.Errorf("%s: %w", server, controlsocket.ErrUnknownServer))
			return
		}
		s.servers.nextTag++
		tag := s.servers.nextTag
		s.servers.replies[tag] = func(r failover.Reply) { answer(r.Next, r.Err) }
		s.feed(ev(tag))
	})
}

func (s *supervisor) hasServer(name string) bool {
	for _, sv := range s.cfg.Servers {
		if sv.Name == name {
			return true
		}
	}
	return false
}

// ConfList returns the paths of the files in use.
func (o operator) ConfList(ctx context.Context) (control.ConfListResponse, error) {
	return ask(ctx, o.s, func(answer func(control.ConfListResponse, error)) {
		answer(controlsocket.ConfFiles(o.s.cfg.Paths), nil)
	})
}

// ConfGet returns the value of a key or section; for the empty key, everything.
func (o operator) ConfGet(ctx context.Context, key string) (any, map[string]string, error) {
	c, err := ask(ctx, o.s, func(answer func(*config.Config, error)) { answer(o.s.cfg, nil) })
	if err != nil {
		return nil, nil, err
	}
	value, err := controlsocket.ConfValue(c, key) // a configuration in use never changes
	return value, controlsocket.ConfSources(c, key), err
}

// ConfAlias returns the lines of the databases file.
func (o operator) ConfAlias(ctx context.Context) (control.AliasResponse, error) {
	return ask(ctx, o.s, func(answer func(control.AliasResponse, error)) { answer(controlsocket.ConfAliases(o.s.cfg), nil) })
}

// ConfSet changes the value of a key until the next reload, or for good if it persists.
func (o operator) ConfSet(ctx context.Context, key, value string, persist bool) (control.SetResponse, error) {
	return ask(ctx, o.s, func(answer func(control.SetResponse, error)) { o.s.confSet(key, value, persist, answer) })
}

// ConfReset gives a key, or all of them for all, the value of the files again.
func (o operator) ConfReset(ctx context.Context, key string) (control.ReloadResponse, error) {
	return ask(ctx, o.s, func(answer func(control.ReloadResponse, error)) { o.s.confReset(key, answer) })
}

// ConfReload reads the files again and puts them in effect.
func (o operator) ConfReload(ctx context.Context) (control.ReloadResponse, error) {
	return ask(ctx, o.s, o.s.startReload)
}

// FailoverStatus returns everything that is known about the failover.
func (o operator) FailoverStatus(ctx context.Context) (control.FailoverStatusResponse, error) {
	return ask(ctx, o.s, func(answer func(control.FailoverStatusResponse, error)) {
		answer(o.s.failoverStatus(), nil)
	})
}

// FailoverHistory returns the last n entries, oldest first; 0 is all of them.
func (o operator) FailoverHistory(ctx context.Context, n int) ([]json.RawMessage, error) {
	return ask(ctx, o.s, func(answer func([]json.RawMessage, error)) {
		all := o.s.history.entries
		if n > 0 && n < len(all) {
			all = all[len(all)-n:]
		}
		answer(append([]json.RawMessage(nil), all...), nil)
	})
}
