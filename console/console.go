package console

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// setupLimit is how long the supervisor may take to configure us.
	setupLimit = 10 * time.Second
	// stallLimit is how long a request may wait for space in the link.
	stallLimit = 5 * time.Second
)

// console is the process.
type console struct {
	log       *slog.Logger
	conn      *ipc.Conn
	build     string
	cfg       *ipc.ConsoleConfigure
	tls       ipc.ServerTLS
	forAdmins map[int]*ipc.ServerTLS // by index, of the management port
	listeners []net.Listener         // of the key metrics
	pages     []net.Listener         // of the key console
	remote    []net.Listener         // of the key management
	certs     []certificate
}

// Main runs the console on its link and returns the exit code of the process.
func Main(linkFD int, build string) int {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1) // a scrape must not take two processors from the workers
	}
	lines := logline.NewQueue(os.Stderr)
	defer lines.Close(logline.FlushLimit)
	log := logline.New(lines, "%Y-%m-%d %H:%M:%S", slog.LevelInfo, "console")
	_ = time.Now().Local().String() // reads the time zone now; confinement forbids it later
	if err := proc.NoNewPrivs(); err != nil {
		log.Error("console can't give up its rights", "error", err)
		return 1
	}
	conn, err := ipc.FromFD(linkFD, ipc.RoleConsole, ipc.RoleSupervisor, log)
	if err != nil {
		log.Error("console can't use its link", "error", err)
		return 1
	}
	defer conn.Close()
	c := &console{log: log, conn: conn, build: build, forAdmins: map[int]*ipc.ServerTLS{}}
	if err := c.run(); err != nil {
		c.log.Error("console ends", "error", err)
		return 1
	}
	return 0
}

// run takes the configuration, is confined by it, and serves until the link ends.
func (c *console) run() error {
	if err := c.setup(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	// A failed write closes the link, which ends receive as well.
	out := ipc.NewOutbox(c.conn, 4+maxRemote, stallLimit, func(error) { c.conn.Close() })
	defer out.Close()
	f := newFeed(c.log, func(m ipc.Message) error { return out.Send(m) }, c.cfg.Detail == detailConnection)
	s, err := newServer(c.log, c.cfg, c.tls, f)
	if err != nil {
		return err
	}
	s.about = about{build: c.build, kernel: kernelRelease(), certs: c.certs}
	f.page = len(c.pages) > 0
	admins, opens, err := c.newRemote(func(m ipc.Message) error { return out.Send(m) })
	if err != nil {
		return err
	}
	page := newWeb(s, newNames(c.cfg.Names, c.tls.Certificate))
	held, err := c.confine()
	if err != nil {
		return err
	}
	if err := c.conn.Send(&ipc.ConsoleReady{Confined: held.InForce, Unconfined: held.Lacking}); err != nil {
		return err
	}
	c.conn.SetPhase(ipc.PhaseRunning)
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	defer s.start(c.listeners, s.handler(), maxClients)()
	defer s.start(c.pages, page.handler(), maxPageClients)()
	defer admins.start(c.remote)()
	return c.receive(f, opens)
}

// newRemote makes ready what serves the management port.
func (c *console) newRemote(send func(ipc.Message) error) (*remote, *links, error) {
	l := &links{log: c.log, send: send, waiting: map[uint64]chan linkAnswer{}}
	t := c.cfg.Management
	r := &remote{log: c.log, limit: time.Duration(c.cfg.RequestMS) * time.Millisecond, required: t.Required, open: l.open}
	if t.Pairs == 0 {
		return r, l, nil
	}
	m, err := tlsdial.ClientMaterial(t, c.forAdmins)
	if err != nil {
		return nil, nil, err
	}
	r.tls, err = m.Listen(tlsdial.Options(t.Options), tlspolicy.Tickets{})
	return r, l, err
}

// setup says hello and takes the configuration.
func (c *console) setup() error {
	if err := c.conn.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return err
	}
	if err := c.conn.Send(&ipc.ConsoleHello{Version: ipc.Version, PID: os.Getpid(), Build: c.build}); err != nil {
		return err
	}
	for c.cfg == nil {
		env, err := c.conn.Receive()
		if err != nil {
			return fmt.Errorf("wait for the configuration: %w", err)
		}
		if err := c.onSetup(env); err != nil {
			return err
		}
	}
	if n := len(c.listeners) + len(c.pages) + len(c.remote); n != c.cfg.Listeners {
		return fmt.Errorf("%d listening sockets instead of %d", n, c.cfg.Listeners)
	}
	return nil
}

func (c *console) onSetup(env ipc.Envelope) error {
	switch m := env.Message.(type) {
	case *ipc.ConsoleListen:
		if len(env.FDs) != 1 {
			return errors.New("no descriptor was free for a listening socket")
		}
		f := os.NewFile(uintptr(env.FDs[0]), m.Key)
		defer f.Close()
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("use a listening socket: %w", err)
		}
		switch m.Key {
		case "console":
			c.pages = append(c.pages, l)
		case "management":
			c.remote = append(c.remote, l)
		default:
			c.listeners = append(c.listeners, l)
		}
	case *ipc.ConsoleLog:
		c.onLog(m, env.FDs)
	case *ipc.ConsoleCertificate:
		c.certs = append(c.certs, newCertificate(m))
	case *ipc.ConsoleTLS:
		c.join(m.Part)
	case *ipc.ConsoleConfigure:
		c.cfg = m
	default:
		return fmt.Errorf("%s instead of the configuration", ipc.Name(m.Number()))
	}
	return nil
}

// join adds a part of what TLS needs.
func (c *console) join(part ipc.ServerTLS) {
	if part.Server > ipc.ForClients {
		c.tls.Join(part)
		return
	}
	if c.forAdmins[part.Server] == nil {
		c.forAdmins[part.Server] = &ipc.ServerTLS{}
	}
	c.forAdmins[part.Server].Join(part)
}

// onLog continues with a log that the supervisor has opened, or another style of lines.
func (c *console) onLog(m *ipc.ConsoleLog, fds []int) {
	l := m.Log
	logline.Follow(c.log, logline.Settings{Kind: logline.Kind(l.Kind), Level: slog.Level(l.Level), Prefix: l.Prefix, JSON: l.JSON}, fds)
}

// confine takes from this process every right that it doesn't need. It runs before the
// first byte of a client is read.
func (c *console) confine() (confine.Report, error) {
	hidden := proc.Concealed() // can't be read once the process is confined
	r, err := confine.Apply(confine.Policy{Accept: true})
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

// receive hands messages to the feed and to links until the link ends, which isn't an error.
func (c *console) receive(f *feed, l *links) error {
	for {
		env, err := c.conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if m, ok := env.Message.(*ipc.ConsoleLog); ok {
			c.onLog(m, env.FDs)
			continue
		}
		if err == nil && !l.take(env) {
			err = f.take(env.Message)
		}
		if err != nil {
			return fmt.Errorf("link to the supervisor: %w", err)
		}
	}
}
