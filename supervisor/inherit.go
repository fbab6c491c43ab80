package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// becomeNext executes the installed program in this process. It returns only if that
// fails; then nothing has changed.
func (s *supervisor) becomeNext() error {
	u := &s.service.upgrade
	if err := s.lookLast(); err != nil {
		return err
	}
	h, err := s.makeHeritage(false)
	if err != nil {
		return err
	}
	b, err := h.pack()
	if err != nil {
		return err
	}
	left, err := written(b)
	if err != nil {
		return err
	}
	defer left.Close()
	fd, err := numberOf(left)
	if err != nil {
		return err
	}
	s.log.Info("upgrade: the new version goes on in this process", "version", u.version, "path", u.program, "workers", len(h.Workers), "clients", s.clients.total)
	logline.Flush(s.log)
	u.flush()
	defer s.listenToSignals()
	if s.stopListening() {
		return errors.New("a signal to shut down has just arrived")
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d", HeritageVariable, fd))
	return execute(u.program, env, append(h.fds(), fd))
}

// lookLast returns an error if the next program would find other files than the trial, which may have been a
// while ago. It reads them in the loop, for the next program reads them right after it.
func (s *supervisor) lookLast() error {
	u := &s.service.upgrade
	if !u.isTried() {
		return fmt.Errorf("%s has changed since the trial", u.program)
	}
	if err := notInEffect(s.cfg, u.set); err != nil {
		return err
	}
	console, err := openConsole(s.cfg)
	if err != nil {
		return err
	}
	if console != nil {
		console.Close()
	}
	return nil
}

// execute replaces the program. keep are the descriptors that stay open.
func execute(program string, env []string, keep []int) error {
	syscall.ForkLock.Lock() // no child may inherit them meanwhile
	defer syscall.ForkLock.Unlock()
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep descriptor %d open: %w", fd, err)
		}
		defer unix.CloseOnExec(fd)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	err := syscall.Exec(program, os.Args, env) // gives the limit back that Go had raised
	return errors.Join(fmt.Errorf("execute %s: %w", program, err), unix.Setrlimit(unix.RLIMIT_NOFILE, &files))
}

// stopListening leaves every signal that comes from now on to the kernel, and reports whether one
// that asks for a shutdown has come before: the next program would never hear of it.
func (s *supervisor) stopListening() bool {
	// These would end a program that doesn't listen to them yet. It reads files and opens the log anyway.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	signal.Stop(s.signals) // waits until what has come is in the channel
	asked := false
	for range len(s.signals) {
		sig := <-s.signals
		asked = asked || sig != syscall.SIGCHLD
		s.signals <- sig
	}
	return asked
}

func numberOf(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(d uintptr) { fd = int(d) })
	}
	return fd, err
}

// goOn is Run in a process in which another program has run before.
func goOn(opt Options) error {
	limitThreads()
	h, err := readHeritage(os.NewFile(uintptr(opt.Heritage), "heritage"))
	if err != nil {
		return err
	}
	if err := proc.SealDescriptors(); err != nil {
		return err
	}
	if err := takeStandardError(h.Console); err != nil {
		return err
	}
	k, err := listen.Inherit(h.Sockets)
	if err != nil {
		return err
	}
	defer k.Close()
	c, err := configured(opt.Config, h, reloadEnv(k))
	if err != nil {
		return err
	}
	opt.Config = c
	logging, err := openLogAgain(opt, h)
	if err != nil {
		return err
	}
	dir := statedir.Dir{Path: h.State.Path, Ours: h.State.Ours, Usable: h.State.Usable, Damage: h.State.Damage}
	if h.State.Lock >= 0 {
		dir.Lock = os.NewFile(uintptr(h.State.Lock), proc.LockName)
	}
	defer dir.Close()
	defer statedir.RemovePIDFile(h.PIDFile)
	if err := errors.Join(proc.Conceal(), proc.Subreaper()); err != nil {
		return err
	}
	program, err := openConsole(c)
	if err != nil {
		return err
	}
	defer program.Close()
	s, err := goingOn(opt, h, dir)
	if err != nil {
		return err
	}
	s.service.logging = logging
	s.console.program, s.console.listeners = program, k.Console()
	s.reload.env = reloadEnv(k)
	if s.workers.starter, err = inheritStarter(h.Starter, opt.Program); err != nil {
		return err
	}
	defer s.workers.starter.Close()
	s.service.upgrade.heritage, s.service.upgrade.pidFile, s.clients.ports.open = h, h.PIDFile, k
	return s.serve(k)
}

// takeStandardError puts the standard error of the start back: the program before had
// directed it to the log.
func takeStandardError(console int) error {
	if console < 0 {
		return nil
	}
	if err := unix.Dup3(console, unix.Stderr, 0); err != nil {
		return fmt.Errorf("take over standard error: %w", err)
	}
	return nil
}

// configured returns the configuration of the files with what commands have set.
func configured(c *config.Config, h *heritage, env config.CheckEnv) (*config.Config, error) {
	c = c.Clone()
	for key, value := range h.Set {
		if err := c.Set(key, value); err != nil {
			return nil, fmt.Errorf("set again what a command had set: %w", err)
		}
	}
	env.FileLimit = fileLimit()
	return c, errors.Join(c.Check(env)...)
}

// openLogAgain opens the log, and never empties it.
func openLogAgain(opt Options, h *heritage) (sharedLog, error) {
	x := sharedLog{console: h.Console}
	settings := logs.SettingsOf(opt.Config, h.Console)
	settings.Create = false
	var err error
	if x.open, err = logs.Open(settings, time.Now()); err != nil {
		return x, err
	}
	fd, err := x.open.Copy()
	if err != nil {
		return x, err
	}
	logline.Follow(opt.Log, x.style(opt.Config), []int{fd})
	logline.AddLines(opt.Log, h.Lines)
	return x, nil
}

// goingOn makes everything that the loop owns of a heritage.
func goingOn(opt Options, h *heritage, dir statedir.Dir) (*supervisor, error) {
	c := opt.Config
	s := &supervisor{
		configuration: configuration{generation: generation{cfg: c}}, build: opt.Build, log: opt.Log, dir: dir,
		inbox: make(chan arrival, 256), calls: make(chan func(), 64), signals: make(chan os.Signal, 16), ended: make(chan struct{}),
	}
	events := newEvents(time.Now())
	logline.Tap(opt.Log, events.add)
	s.env = s.realEnv(time.Now().Add(-h.Now - (proc.SinceBoot() - h.Boot)))
	s.loadState(statedir.LookAtRecord)
	machine, err := failover.Continue(machineConfig(c), h.Machine, s.env.now())
	if err != nil {
		return nil, err
	}
	s.servers = newServers(c, machine)
	s.makeAides()
	g, err := newGeneration(h.Gen+1, c, ipc.Secret(h.Salt), h.generation())
	if err != nil {
		return nil, err
	}
	s.generation, s.follow.read = *g, c.CredentialsRead()
	s.clients.budget = clientBudget(c, fileLimit())
	s.service = service{
		ready: true, watchdog: watchdogInterval(), scramSalt: ipc.Secret(h.Salt), events: events, remote: remote{conns: make(chan *ipc.Conn)},
		upgrade: upgrade{program: opt.Program, count: h.Upgrades, began: time.UnixMilli(h.Began), set: map[string]string{}},
	}
	maps.Copy(s.service.upgrade.set, h.Set)
	if err := s.inheritLedger(h); err != nil {
		return nil, err
	}
	s.inheritClients(h)
	s.inheritServers(h)
	s.inheritFigures(h)
	return s, nil
}

// generation is what a generation has to know of the one before, to use its verifiers.
func (h *heritage) generation() *generation {
	g := &generation{cfg: &config.Config{}}
	for _, u := range h.Users {
		c := config.Credential{Name: u.Name, Password: config.Secret(u.Password)}
		if u.Kind == ipc.UserFrontend {
			g.cfg.FrontendUsers = append(g.cfg.FrontendUsers, c)
		} else {
			g.cfg.Users = append(g.cfg.Users, c)
		}
		g.users = append(g.users, ipc.ConfigUser{Kind: u.Kind, Name: u.Name, Verifier: ipc.Secret(u.Verifier)})
	}
	return g
}

// inheritLedger opens the books with the servers and rules that there are now.
func (s *supervisor) inheritLedger(h *heritage) error {
	for i := range h.Books.Leases {
		l := &h.Books.Leases[i]
		if l.Server < 0 || l.Server >= len(h.Names) {
			return fmt.Errorf("a lease of server %d, which there was not", l.Server)
		}
		l.Server = slices.IndexFunc(s.cfg.Servers, func(sv config.Server) bool { return sv.Name == h.Names[l.Server] })
	}
	s.ledger = pool.Reopened(s.cfg.MaxConnections, rulesOf(s.cfg), h.Books, func(key pool.Key, rule int) int {
		if rule >= 0 && rule < len(h.Rules) {
			was := h.Rules[rule]
			i := slices.IndexFunc(s.cfg.Limits, func(l config.Limit) bool { return l.Database.String() == was.Database && l.User.String() == was.User })
			if i >= 0 {
				return i
			}
		}
		return config.FindLimit(s.cfg.Limits, key.Database, key.User)
	})
	return nil
}

func (s *supervisor) inheritClients(h *heritage) {
	x := &s.clients
	x.nextID = h.NextID
	for _, w := range h.Workers {
		x.total += len(w.Clients)
	}
	for _, c := range h.Waiting {
		x.waiting = append(x.waiting, listen.Client(c))
	}
	for _, id := range h.Pending {
		x.census.wait(id)
	}
	for _, n := range h.Named {
		x.census.count(n.ID, clientNames{n.User, n.Database})
	}
	x.disabled.all = h.Disabled.All
	for _, name := range h.Disabled.Except {
		if x.disabled.except == nil {
			x.disabled.except = map[string]bool{}
		}
		x.disabled.except[name] = true
	}
	if len(h.Pauses) > 0 {
		x.pauses = pauses{}
	}
	for _, p := range h.Pauses {
		x.pauses[p.Database] = &pause{began: p.Began}
	}
}

func (s *supervisor) inheritServers(h *heritage) {
	s.servers.gen, s.rounds.lastID, s.servers.phase = h.States, h.Rounds, h.Figures.Phase
	s.fence = fence{asked: h.Fence.Asked, done: true, epoch: h.Fence.Epoch, upTo: h.Fence.UpTo, seq: h.Fence.Seq}
	for i, sv := range s.cfg.Servers {
		j := slices.Index(h.Names, sv.Name)
		if j < 0 {
			continue
		}
		if j < len(h.Versions) {
			s.servers.versions[i] = h.Versions[j]
		}
		if w := s.servers.where[i]; !w.literal && j < len(h.Where) {
			for _, a := range h.Where[j].Addresses {
				w.addresses = append(w.addresses, address{h.Where[j].Network, a})
			}
		}
	}
}

func (s *supervisor) inheritFigures(h *heritage) {
	f, x := &s.console.figures, &h.Figures
	f.fenced, f.phase, f.entered, f.phases, f.changes, f.lasted = x.Fenced, x.Phase, x.Entered, x.Phases, x.Changes, x.Lasted
	if x.Last != 0 {
		f.last = time.Unix(x.Last, 0)
	}
	for _, r := range x.Runs {
		if f.runs == nil {
			f.runs = map[ipc.RunCount]uint64{}
		}
		f.runs[ipc.RunCount{Hook: r.Hook, Outcome: r.Outcome}] = r.N
	}
	for i, probes := range x.Probes {
		if probes == nil {
			probes = map[string]uint64{}
		}
		f.servers = append(f.servers, serverFigures{probes: probes, took: x.Took[i]})
	}
	for _, part := range h.Base {
		var w ipc.WorkerStats
		if err := part.Unpack(&w); err == nil {
			s.console.base.Add(&w)
		}
	}
	s.console.usage.note(nil)
	for name, cpu := range h.Usage {
		s.console.usage.gone[name] = time.Duration(cpu)
	}
}

// beginAgain is begin in a process in which another program has run before.
func (s *supervisor) beginAgain(h *heritage) {
	s.startWatchdog()
	s.watchLog()
	for _, a := range s.aides() {
		s.startAide(a)
	}
	s.adoptWorkers(h)
	s.openAgain()
	for _, p := range h.Pauses {
		s.limitPause(p)
	}
	s.linkRunner()
	s.startServers()
	if len(s.clients.pauses) > 0 {
		s.pausesChanged()
	}
	s.rewatch(h)
	s.env.notify(fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=%s", os.Getpid(), s.service.status))
	s.log.Info("upgrade: this version goes on", "version", s.build, "before", h.Build, "workers", len(h.Workers), "clients", s.clients.total,
		"took", (proc.SinceBoot() - h.Boot).Round(time.Millisecond))
	s.reapStrays() // prober, console and runner of the program before
	s.placeClients()
	s.lookSoon()
}

// openAgain puts in force at once what the machine is about to publish, because messages of the
// workers are about that, and the machine may have to save its record first.
func (s *supervisor) openAgain() {
	st := s.servers.machine.Status(s.env.now())
	snap := failover.Snapshot{Epoch: st.Epoch, Open: true, Primary: st.Primary}
	for _, sv := range st.Servers {
		snap.Servers = append(snap.Servers, failover.ServerView{Name: sv.Name, State: sv.State, Qualifier: sv.Qualifier})
	}
	s.servers.snapshot, s.servers.published, s.servers.known = snap, true, true
	s.carryOut(s.ledger.SetTarget(snap.Primary, snap.Epoch, true))
}

// adoptWorkers makes the workers of the program before ours, and starts others in their places.
func (s *supervisor) adoptWorkers(h *heritage) {
	s.workers.anyUp = true
	for _, w := range h.Workers {
		for len(s.workers.slots) <= w.Index {
			s.workers.slots = append(s.workers.slots, &slot{place: -1, retired: &retirement{}})
		}
		s.adoptWorker(w)
	}
	for _, w := range h.Workers {
		if sl := s.workers.slots[w.Index]; sl.child != nil && sl.retired == nil {
			s.replaceWorker(sl.child)
		}
	}
}

func (s *supervisor) adoptWorker(w inheritedWorker) {
	c := &child{
		index: w.Index, state: childReady, born: w.Born, greeted: true, up: true, ponged: s.env.now(), pings: w.Pings,
		clients: map[uint64]bool{}, flight: flight{sent: w.Sent, read: w.Read}, stats: stats{last: w.Stats}, build: w.Build,
		leaving: w.Leaving, drained: w.Drained,
	}
	for _, id := range w.Clients {
		c.clients[id] = true
	}
	sl := &slot{child: c, place: w.Place, everUp: true}
	s.workers.slots[w.Index] = sl
	st, err := adoptChild(&w, s.workerSpec(w.Index), s.workers.starter, s.log)
	if err != nil {
		s.log.Error("a worker of the version before can't be taken over", "worker", w.Index, "error", err)
		s.fail(err)
		return
	}
	c.started = st
	s.listenTo(c)
	if w.Why == "" {
		s.carryOut(s.ledger.WorkerReady(c.index))
	} else {
		sl.retired = &retirement{why: w.Why, since: w.Since, pass: passage{moved: w.Moved, until: w.Passes, leave: w.Leave}}
		s.carryOut(s.ledger.WorkerRetires(c.index))
		s.limitRetirement(c, w.Until)
	}
	if c.leaving {
		s.after(drainLimit+exitLimit, func() { s.killWorker(c, "it did not end in time") })
	}
	s.askLanded(c) // the answer to the question of the program before is not for us
	s.schedulePing(c)
}

func (s *supervisor) limitPause(x inheritedPause) {
	p := s.clients.pauses[x.Database]
	if x.Until > 0 {
		most := x.Until - x.Began
		p.limit = s.timers.at(x.Until, func() { s.pauseForgotten(x.Database, p, most) })
	}
}

// rewatch goes on with what the program before was waiting for.
func (s *supervisor) rewatch(h *heritage) {
	var orphans []pool.Orphan
	for _, l := range h.Books.Leases {
		if l.Worker < 0 {
			orphans = append(orphans, pool.Orphan{Lease: l.ID, Key: l.Key, Server: l.Server, Epoch: l.Epoch, PID: l.PID, Cancel: l.Cancel})
		}
	}
	s.watchAll(orphans)
	for _, x := range h.Hasty {
		if c := s.readyAt(x.Worker); c != nil && s.ledger.Asked(x.Worker, x.ID) {
			s.makeHasty(c, x.ID)
		}
	}
}
