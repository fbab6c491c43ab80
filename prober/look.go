package prober

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
)

var errAddress = errors.New("not a numeric address or a path")

// lookOf returns the number of a request and the function that answers it, or nil if m
// isn't a request.
func (p *prober) lookOf(m ipc.Message) (id uint64, look func(context.Context) ipc.Message) {
	switch m := m.(type) {
	case *ipc.ProbeRequest:
		return m.ID, func(ctx context.Context) ipc.Message { return p.probe(ctx, m) }
	case *ipc.BackendsRequest:
		return m.ID, func(ctx context.Context) ipc.Message { return p.backends(ctx, m) }
	case *ipc.SettingsRequest:
		return m.ID, func(ctx context.Context) ipc.Message { return p.settings(ctx, m) }
	case *ipc.QuestionRequest:
		return m.ID, func(ctx context.Context) ipc.Message { return p.question(ctx, m) }
	case *ipc.LookUpRequest:
		turn := p.lookUps.Turn(m.Target.Server) // now: a stop may follow at once
		return m.ID, func(ctx context.Context) ipc.Message { return p.lookUp(ctx, turn, m) }
	case *ipc.ServerCancel:
		return m.ID, func(ctx context.Context) ipc.Message { return p.cancel(ctx, m) }
	}
	return 0, nil
}

// failed returns the answer to a request that couldn't be carried out.
func failed(request ipc.Message, err error) ipc.Message {
	switch m := request.(type) {
	case *ipc.ProbeRequest:
		return &ipc.ProbeDone{ID: m.ID, Outcome: ipc.SawNothing, Code: text(err.Error())}
	case *ipc.BackendsRequest:
		return &ipc.BackendsDone{ID: m.ID, Error: text(err.Error())}
	case *ipc.SettingsRequest:
		return &ipc.SettingsDone{ID: m.ID, Error: text(err.Error())}
	case *ipc.QuestionRequest:
		return &ipc.QuestionDone{ID: m.ID, Error: text(err.Error())}
	case *ipc.LookUpRequest:
		return &ipc.LookUpDone{ID: m.ID, Error: text(err.Error())}
	case *ipc.ServerCancel:
		return &ipc.ServerCancelDone{ID: m.ID, Error: text(err.Error())}
	}
	return nil
}

func (p *prober) probe(ctx context.Context, m *ipc.ProbeRequest) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	done := health.Probe(ctx, t)
	o := &done.Obs
	for _, s := range []*string{&done.Code, &done.Words, &done.Version, &o.ReceiverWord, &o.SlotName, &o.SenderHost, &o.SenderPort} {
		*s = text(*s)
	}
	for i := range o.SyncStandbys {
		o.SyncStandbys[i] = text(o.SyncStandbys[i])
	}
	return &done
}

func (p *prober) backends(ctx context.Context, m *ipc.BackendsRequest) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	shown, err := health.Backends(ctx, t, m.PIDs)
	if err != nil {
		return failed(m, err)
	}
	// A server may return any processes; keep only those that were asked for.
	shown = slices.DeleteFunc(shown, func(pid uint32) bool { return !slices.Contains(m.PIDs, pid) })
	slices.Sort(shown)
	return &ipc.BackendsDone{ID: m.ID, PIDs: slices.Compact(shown)}
}

func (p *prober) settings(ctx context.Context, m *ipc.SettingsRequest) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	found, err := health.Settings(ctx, t, m.Names)
	if err != nil {
		return failed(m, err)
	}
	values := map[string]string{}
	for _, name := range m.Names {
		if v, ok := found[name]; ok {
			values[name] = cut(v, ipc.MaxSetting)
		}
	}
	return &ipc.SettingsDone{ID: m.ID, Values: values}
}

func (p *prober) question(ctx context.Context, m *ipc.QuestionRequest) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	q, err := health.Ask(ctx, t)
	if err != nil {
		return failed(m, err)
	}
	return &ipc.QuestionDone{ID: m.ID, Question: q}
}

func (p *prober) lookUp(ctx context.Context, turn health.Turn, m *ipc.LookUpRequest) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	stored, err := p.lookUps.Stored(ctx, turn, t, m.Statement, m.User, m.Keep)
	if err != nil {
		return &ipc.LookUpDone{ID: m.ID, Error: text(err.Error()), NoDatabase: health.NoDatabase(err)}
	}
	return &ipc.LookUpDone{ID: m.ID, Stored: ipc.Secret(stored)}
}

func (p *prober) cancel(ctx context.Context, m *ipc.ServerCancel) ipc.Message {
	t, err := p.target(m.ID, m.Target)
	if err != nil {
		return failed(m, err)
	}
	ctx, stop := context.WithTimeout(ctx, t.Timeout)
	defer stop()
	if err := health.Cancel(ctx, t, m.PID, []byte(m.Key.Reveal())); err != nil {
		return failed(m, err)
	}
	return &ipc.ServerCancelDone{ID: m.ID}
}

// target checks and converts the target of a request. Its address must be numeric or a
// path, because a confined process can't reach a resolver.
func (p *prober) target(id uint64, t ipc.Target) (health.Target, error) {
	if _, err := netip.ParseAddrPort(t.Address); t.Network != "unix" && (t.Network != "tcp" || err != nil) {
		return health.Target{}, errAddress
	}
	h := health.Target{ID: id, TLS: p.tls[t.Server], Network: t.Network, Address: t.Address, Timeout: time.Duration(t.TimeoutMS) * time.Millisecond, Methods: t.Methods}
	for _, l := range t.Logins {
		h.Logins = append(h.Logins, health.Login{User: l.User, Database: l.Database, Password: l.Password.Reveal()})
	}
	return h, nil
}

// text cuts s to the length that the supervisor accepts, which is longer than any name
// or version.
func text(s string) string { return cut(s, ipc.MaxServerText) }

func cut(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }
