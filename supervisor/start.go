package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// Options of Run.
type Options struct {
	Config *config.Config
	Build  string // the release, for pgagroal-cli
	Log    *slog.Logger
	// Background says that whoever started this process waits no longer than for Ready, and
	// then for the end of its standard error, unless that is the log.
	Background bool
	// Program is what an upgrade executes: the path that this process was started as, "" if unknown.
	Program string
	// Heritage is the descriptor with what another program in this process has left, 0 for none.
	Heritage int
	// Ready, if not nil, is called once, when clients are served.
	Ready func()
}

// Run runs the supervisor until its end. It returns nil after an orderly end. Otherwise it
// returns everything that kept it from starting, or why it had to end.
func Run(opt Options) error {
	if opt.Heritage > 0 {
		return goOn(opt)
	}
	base := time.Now()
	limitThreads()
	c, log := opt.Config, opt.Log
	k, err := listen.Passed()
	if err != nil {
		return err
	}
	defer k.Close()
	// Names of servers are not resolved here: a start doesn't wait for name servers.
	if errs := check(c, config.CheckEnv{TCPPassed: k.TCPPassed(), UnixPassed: k.UnixPassed()}); len(errs) > 0 {
		return errors.Join(errs...)
	}
	program, err := openPorts(c, k, log)
	if err != nil {
		return err
	}
	account, starter, err := giveUpRoot(opt, program)
	if err != nil {
		return err
	}
	defer starter.Close()
	logging, err := openLog(opt, starter)
	if err != nil {
		return err
	}
	dir, err := statedir.Open(c, account, log)
	if err != nil {
		return err
	}
	defer dir.Close()
	pidFile := c.EffectivePIDFile()
	if err := statedir.WritePIDFile(pidFile, log); err != nil {
		return err
	}
	defer statedir.RemovePIDFile(pidFile)
	if err := k.ListenUnix(c, log); err != nil {
		return err
	}
	if err := errors.Join(proc.Conceal(), proc.Subreaper()); err != nil {
		return err
	}
	warnAtStart(c, log)
	for _, p := range k.Names() {
		log.Info("socket of the service manager", "socket", p)
	}
	s, err := newSupervisor(opt, dir, starter, base)
	if err != nil {
		return err
	}
	s.service.logging = logging
	s.console.program, s.console.listeners = program, k.Console()
	s.clients.ports.open, s.service.upgrade.pidFile = k, pidFile
	s.reload.env = reloadEnv(k)
	return s.serve(k)
}

// limitThreads leaves Go one thread for goroutines. With more threads, each result that one
// goroutine hands to another would wake a thread. Nothing here computes for long once clients are
// served.
func limitThreads() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// reloadEnv is what the checks of a reload have to know. This process already is who it
// will be.
func reloadEnv(k *listen.Sockets) config.CheckEnv {
	env := config.CheckEnv{UID: uint32(os.Geteuid()), GIDs: []uint32{uint32(os.Getegid())}, TCPPassed: k.TCPPassed(), UnixPassed: k.UnixPassed()}
	groups, err := os.Getgroups()
	if err != nil {
		return env
	}
	for _, g := range groups {
		env.GIDs = append(env.GIDs, uint32(g))
	}
	return env
}

// openPorts opens what may need root: the ports, and the program of the console, which is
// nil if there is no console. The caller closes it.
func openPorts(c *config.Config, k *listen.Sockets, log *slog.Logger) (*os.File, error) {
	if err := k.ListenTCP(c, log); err != nil {
		return nil, err
	}
	if err := k.ListenConsole(c, log); err != nil {
		return nil, err
	}
	return openConsole(c)
}

// warnAtStart warns of what is unsafe or incomplete and keeps nothing from working now.
func warnAtStart(c *config.Config, log *slog.Logger) {
	if !proc.Concealed() {
		log.Warn("every process of this user can read the passwords in the memory of pgagroal, and core files hold them", "variable", proc.CoresVariable)
	}
	if why := c.ProbeUserUnknown(); why != "" {
		log.Warn("health_check_user has no password", "error", why)
	}
}

// newSupervisor makes everything that the loop owns. starter may be nil.
func newSupervisor(opt Options, dir statedir.Dir, starter *proc.Starter, base time.Time) (*supervisor, error) {
	c := opt.Config
	s := &supervisor{
		configuration: configuration{generation: generation{cfg: c}}, build: opt.Build, log: opt.Log, dir: dir, ledger: newLedger(c),
		inbox: make(chan arrival, 256), calls: make(chan func(), 64),
		signals: make(chan os.Signal, 16), ended: make(chan struct{}),
	}
	events := newEvents(base)
	logline.Tap(opt.Log, events.add)
	s.workers.starter = starter
	s.env = s.realEnv(base)
	saved := s.loadState(statedir.ReadRecord)
	s.servers = newServers(c, failover.New(machineConfig(c), saved, s.env.now()))
	s.makeAides()
	salt := newSalt()
	g, err := newGeneration(1, c, salt, nil)
	if err != nil {
		return nil, err
	}
	s.generation, s.follow.read = *g, c.CredentialsRead()
	s.clients.budget = clientBudget(c, fileLimit())
	s.service = service{
		watchdog: watchdogInterval(), onReady: opt.Ready, scramSalt: salt, events: events, remote: remote{conns: make(chan *ipc.Conn)},
	}
	s.service.upgrade = upgrade{program: opt.Program, began: time.Now(), set: map[string]string{}}
	return s, nil
}

// loadState reads what the previous supervisor has left in state_dir.
func (s *supervisor) loadState(read func(dir string) (*failover.Record, error)) *failover.Record {
	if !s.dir.Usable {
		return nil
	}
	old, err := statedir.ReadHistory(s.dir.Path)
	if err != nil {
		s.log.Warn("history can't be read", "error", err)
	}
	for _, entry := range old {
		s.history.keep(entry)
	}
	saved, damage := read(s.dir.Path)
	if damage != nil {
		s.dir.Damage = damage.Error()
		s.log.Error("the state file is damaged", "error", damage)
	}
	if saved == nil && damage != nil {
		saved = &failover.Record{Version: failover.RecordVersion, Damaged: true}
	}
	s.runner.inherits.id = underWay(saved)
	return saved
}

// underWay returns the id of the run that, according to the record, may still have
// processes.
func underWay(saved *failover.Record) string {
	switch {
	case saved == nil:
		return ""
	case saved.Run != nil && saved.Run.Phase == "started":
		return saved.Run.ID
	}
	return saved.Blocker
}

func newSalt() ipc.Secret {
	b := make([]byte, 16)
	rand.Read(b)
	return ipc.Secret(b)
}

// realEnv is the outside world of a supervisor that isn't in a test.
func (s *supervisor) realEnv(base time.Time) env {
	now := func() time.Duration { return time.Since(base) }
	return env{
		now: now, wall: time.Now,
		background: func(work func() func()) {
			go func() {
				if f := work(); f != nil {
					s.post(f)
				}
			}()
		},
		start: func(spec startSpec) (*started, error) { return startChild(spec, s.workers.starter, s.log) },
		dial: func(ctx context.Context, path string) (*started, error) {
			return dialRunner(ctx, path, s.log)
		},
		lookup:      net.DefaultResolver.LookupHost,
		lookupAddr:  net.DefaultResolver.LookupAddr,
		interfaces:  interfaces,
		relock:      proc.Relock,
		lockHolders: proc.LockHolders,
		writeRecord: statedir.WriteRecord, appendHistory: statedir.AppendHistory,
		sinceBoot: proc.SinceBoot,
		prove: func(dir string) (ipc.Secret, error) {
			secret, err := proc.Prove(dir)
			return ipc.Secret(secret), err
		},
		groupEmpty: proc.GroupEmpty, noStrangers: noStrangers,
		signalGroup: signalGroup,
		zombies:     proc.Zombies, reap: proc.Reap,
		notify: func(string) {}, usage: readUsage, starves: proc.Starves,
		cpuTime: func(pid int) time.Duration { used, _ := proc.CPUTime(pid); return used }, // 0 once it has ended
	}
}

// noStrangers reports whether all our living children are among known.
func noStrangers(known []int) bool {
	below, err := proc.Descendants()
	if err != nil {
		return false
	}
	self := os.Getpid()
	return !slices.ContainsFunc(below, func(p proc.Process) bool { return p.PPID == self && !slices.Contains(known, p.PID) })
}

func signalGroup(pgid int, kill bool) error {
	sig := unix.SIGTERM
	if kill {
		sig = unix.SIGKILL
	}
	if err := unix.Kill(-pgid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process group %d: %w", pgid, err)
	}
	return nil
}

// serve runs the loop with its helpers: the accepting goroutines, the control socket
// and the notifier. All have ended when it returns.
func (s *supervisor) serve(k *listen.Sockets) error {
	n := startNotifier()
	defer n.stop()
	s.env.notify = n.send
	s.service.upgrade.flush = func() { n.flush(logline.FlushLimit) }
	s.listenToSignals()
	defer signal.Stop(s.signals)
	signal.Ignore(syscall.SIGPIPE)

	ctx, cancel := context.WithCancel(context.Background())
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer k.Close()
	defer cancel()
	listeners, err := k.ForClients(s.cfg, s.log)
	if err != nil {
		return err
	}
	s.clients.gate = listen.NewGate(listeners, max(1, s.clients.budget/2))
	defer s.clients.gate.Shut()
	s.clients.ports.accept = func(l *listen.Listener) {
		a := s.acceptor(l)
		s.log.Info("listening", "network", l.Addr().Network(), "address", l.Addr().String())
		helpers.Go(func() { a.Run(ctx) })
	}
	s.clients.ports.answer = func(l *net.UnixListener) { helpers.Go(func() { s.serveControl(ctx, l) }) }
	for _, l := range listeners {
		s.clients.ports.accept(l)
	}
	if l := k.Control(); l != nil {
		s.clients.ports.answer(l)
	}
	helpers.Go(func() {
		control.ServeRemote(ctx, s.service.remote.conns, operator{s}.admit, operator{s}, control.Options{Version: s.build, Log: s.log})
	})
	if st := s.workers.starter; st != nil {
		helpers.Go(func() { s.watchStarter(ctx, st) })
	}
	return s.run()
}

// listenToSignals has signals come to the loop.
func (s *supervisor) listenToSignals() {
	signal.Notify(s.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGTRAP, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCHLD)
}

// acceptor hands the clients of one socket to the loop.
func (s *supervisor) acceptor(l *listen.Listener) *listen.Acceptor {
	return &listen.Acceptor{
		Accept: l.Next, Gate: s.clients.gate,
		Take:      func(c listen.Client) bool { return s.post(func() { s.onAccepted(c) }) },
		Fail:      func(err error) { s.post(func() { s.onAcceptFailed(err) }) },
		Recovered: func(p any) error { return logline.Recovered(s.log, p) },
	}
}

// serveControl answers pgagroal-cli on a socket until ctx ends, or a reload has closed the socket
// and everybody who came by it has an answer.
func (s *supervisor) serveControl(ctx context.Context, l *net.UnixListener) {
	if err := logline.Guarded(s.log, func() error {
		return control.Serve(ctx, l, operator{s}, control.Options{Version: s.build, Log: s.log, Serving: &s.service.upgrade.serving, Kin: operator{s}.kin})
	}); err != nil {
		s.log.Error("control socket failed", "error", err)
	}
}
