package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/prober/health"
)

const (
	// setupLimit is how long the supervisor may take to configure us.
	setupLimit = 10 * time.Second
	// stallLimit is how long one answer may wait for space in the link.
	stallLimit = 5 * time.Second
)

// prober is the process. The goroutine that reads the link owns every field that isn't
// marked otherwise.
type prober struct {
	log  *slog.Logger // safe for concurrent use
	conn *ipc.Conn
	out  *ipc.Outbox // safe for concurrent use
	// tls is how servers are spoken to in TLS, by index; it doesn't change after the set-up.
	tls map[int]*tlsdial.Server
	// running maps the id of each look in progress to the function that cancels it. The
	// id of a look that has ended waits in ended until the next message comes.
	running map[uint64]context.CancelFunc
	ended   chan uint64 // with room for MaxLooks ids
	lookUps *health.LookUps
}

// Main runs a prober on its link and returns the exit code of the process. lock is
// the lock of state_dir, held open until the process ends; it may be nil.
func Main(linkFD int, lock *os.File) int {
	if lock != nil {
		defer lock.Close()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// Looks wait nearly all the time. With more than one processor a goroutine that
		// hands work to another one would wake another thread each time.
		runtime.GOMAXPROCS(1)
	}
	lines := logline.NewQueue(os.Stderr)
	defer lines.Close(logline.FlushLimit)
	log := logline.New(lines, "%Y-%m-%d %H:%M:%S", slog.LevelInfo, "prober")
	_ = time.Now().Local().String() // reads the time zone now; confinement forbids it later
	if err := proc.NoNewPrivs(); err != nil {
		log.Error("prober can't give up its rights", "error", err)
		return 1
	}
	conn, err := ipc.FromFD(linkFD, ipc.RoleProber, ipc.RoleSupervisor, log)
	if err != nil {
		log.Error("prober can't use its link", "error", err)
		return 1
	}
	defer conn.Close()
	p := newProber(conn, log)
	if err := p.setup(); err != nil {
		p.log.Error("prober can't start", "error", err)
		return 1
	}
	if err := p.serve(); err != nil {
		p.log.Error("prober ends", "error", err)
		return 1
	}
	return 0
}

func newProber(conn *ipc.Conn, log *slog.Logger) *prober {
	return &prober{log: log, conn: conn, running: map[uint64]context.CancelFunc{}, tls: map[int]*tlsdial.Server{}, ended: make(chan uint64, ipc.MaxLooks), lookUps: health.NewLookUps()}
}

// setup says hello, takes the configuration and is confined by it.
func (p *prober) setup() error {
	if err := p.conn.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return err
	}
	if err := p.conn.Send(&ipc.ProberHello{Version: ipc.Version, PID: os.Getpid()}); err != nil {
		return err
	}
	c, err := p.configuration()
	if err != nil {
		return err
	}
	held, err := confineProber(c)
	if err != nil {
		return err
	}
	if err := p.conn.Send(&ipc.ProberReady{Confined: held.InForce, Unconfined: held.Lacking}); err != nil {
		return err
	}
	p.conn.SetPhase(ipc.PhaseRunning)
	return p.conn.SetDeadline(time.Time{})
}

// configuration receives what TLS to the servers needs, and then the rest.
func (p *prober) configuration() (*ipc.ProberConfigure, error) {
	parts := map[int]*ipc.ServerTLS{}
	for {
		env, err := p.conn.Receive()
		if err != nil {
			return nil, fmt.Errorf("wait for the configuration: %w", err)
		}
		switch m := env.Message.(type) {
		case *ipc.ProberLog:
			p.onLog(m, env.FDs)
		case *ipc.ProberTLS:
			t := parts[m.Part.Server]
			if t == nil {
				t = &ipc.ServerTLS{}
				parts[m.Part.Server] = t
			}
			t.Join(m.Part)
		case *ipc.ProberConfigure:
			for i, t := range parts {
				if p.tls[i], err = tlsdial.New(t); err != nil {
					return nil, fmt.Errorf("server %d: %w", i, err)
				}
			}
			return m, nil
		default:
			return nil, fmt.Errorf("%s instead of the configuration", ipc.Name(m.Number()))
		}
	}
}

// confineProber takes from this process every right that looks don't need. It runs
// before the first byte of a server is read.
func confineProber(c *ipc.ProberConfigure) (confine.Report, error) {
	hidden := proc.Concealed() // can't be read once the process is confined
	r, err := confine.Apply(confine.Policy{Ports: c.Ports, SocketDirs: c.SocketDirs})
	if err != nil {
		return r, err
	}
	if hidden {
		r.InForce = append(r.InForce, "hidden memory")
	} else {
		r.Lacking = append(r.Lacking, "hidden memory ("+proc.CoresVariable+" is on)")
	}
	return r, nil
}

// serve handles requests until the link ends, which isn't an error. When it returns,
// all looks have been told to stop.
func (p *prober) serve() error {
	// A failed write closes the link, which ends Receive as well.
	p.out = ipc.NewOutbox(p.conn, 2*ipc.MaxLooks, stallLimit, func(error) { p.conn.Close() })
	defer p.out.Close()
	defer p.lookUps.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for {
		env, err := p.conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.onMessage(ctx, env)
		}
		if err != nil {
			return fmt.Errorf("link to the supervisor: %w", err)
		}
	}
}

// onLog continues with a log that the supervisor has opened, or another style of lines.
func (p *prober) onLog(m *ipc.ProberLog, fds []int) {
	l := m.Log
	logline.Follow(p.log, logline.Settings{Kind: logline.Kind(l.Kind), Level: slog.Level(l.Level), Prefix: l.Prefix, JSON: l.JSON}, fds)
}

// onMessage starts or stops a look.
func (p *prober) onMessage(ctx context.Context, env ipc.Envelope) error {
	p.forgetEnded()
	m := env.Message
	switch m := m.(type) {
	case *ipc.ProberLog:
		p.onLog(m, env.FDs)
		return nil
	case *ipc.ServerCancelStop:
		if stop := p.running[m.ID]; stop != nil {
			stop()
		}
		return nil
	case *ipc.LookUpStop:
		p.lookUps.Stop(m.Server)
		return nil
	}
	id, look := p.lookOf(m)
	switch {
	case look == nil:
		return fmt.Errorf("%s at the wrong time", ipc.Name(m.Number()))
	case p.running[id] != nil:
		return fmt.Errorf("a second request with number %d", id)
	case len(p.running) >= ipc.MaxLooks:
		return fmt.Errorf("more than %d requests at a time", ipc.MaxLooks)
	}
	ctx, stop := context.WithCancel(ctx)
	p.running[id] = stop
	go func() {
		answer := p.guarded(func() ipc.Message { return look(ctx) }, m)
		stop()
		p.ended <- id          // before the answer, because the next request may follow the answer at once
		_ = p.out.Send(answer) // fails only if the supervisor doesn't read; the link is closed then
	}()
	return nil
}

func (p *prober) forgetEnded() {
	for range len(p.ended) {
		delete(p.running, <-p.ended)
	}
}

// guarded answers with a failure if look panics, which is a bug in this program.
func (p *prober) guarded(look func() ipc.Message, request ipc.Message) (answer ipc.Message) {
	err := logline.Guarded(p.log, func() error { answer = look(); return nil })
	if err != nil {
		answer = failed(request, err)
	}
	if d, ok := answer.(*ipc.ProbeDone); ok {
		d.Logged = logline.Lines(p.log)
	}
	return answer
}
