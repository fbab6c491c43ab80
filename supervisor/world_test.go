package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// world is a supervisor whose outside world is the test: time stands still until advance,
// and background work runs only when the test lets it run.
type world struct {
	// question is what the servers ask any user; with questionErr the prober fails to ask.
	question    ipc.Question
	questionErr error
	newSalts    bool // the servers make up a salt for each login
	t           *testing.T
	s           *supervisor
	now         time.Duration
	work        []func() func()
	children    []*fakeChild
	startErr    error
	requests    uint64 // of lease
	machine     *fakeMachine
	notified    []string
	prober      *fakeProber
	canceled    []uint32
	canceling   func()                   // called while a CancelRequest is under way
	shown       func() ([]uint32, error) // backends that a server shows
	asked       [][]uint32               // those that were looked for, by look
	refusing    []string                 // addresses that refuse everything but probes

	saveErr    error
	saves      [][]byte
	lockHeld   bool
	lockedBy   []proc.Process
	groupEmpty bool
	strangers  bool // a child is left that the supervisor does not know
	scans      int  // of /proc, for zombies
	zombies    []int
	reaped     []int
	signals    []bool // kill or not
	lookups    map[string][]string
	names      map[string][]string // of addresses
	looks      int                 // for names of addresses
	own        []netip.Prefix
	probed     []ipc.Target
	sees       map[string]ipc.Outcome // of a probe, by address; else it is refused
	settings   func(ipc.Target) (map[string]string, error)
	starving   []int                 // processes that /proc shows to starve
	cpu        map[int]time.Duration // by process
}

// fakeChild is a process that does what the test says.
type fakeChild struct {
	spec    startSpec
	sent    []ipc.Message
	fds     []int
	unread  []ipc.Envelope
	length  int
	full    bool
	killed  bool
	closed  bool
	message func(ipc.Message, ...int)
	ended   func(error)
	exited  func(string)
}

func (f *fakeChild) Send(m ipc.Message, fds ...int) error {
	if f.full {
		return ipc.ErrQueueFull
	}
	f.sent, f.fds = append(f.sent, m), append(f.fds, fds...)
	return nil
}

func (f *fakeChild) Len() int { return f.length }

// fakeMachine records events and answers them with what the test has put in.
type fakeMachine struct {
	events   []failover.Event
	react    func(failover.Event) []failover.Action
	status   failover.Status
	findings []failover.Finding
	due      time.Duration
	wants    bool
	refuses  string
}

func (m *fakeMachine) Step(_ time.Duration, ev failover.Event) []failover.Action {
	m.events = append(m.events, ev)
	if m.react != nil {
		return m.react(ev)
	}
	return nil
}

func (m *fakeMachine) Deadline() (time.Duration, bool)      { return m.due, m.wants }
func (m *fakeMachine) Status(time.Duration) failover.Status { return m.status }

func (m *fakeMachine) Refuses(failover.Config) string { return m.refuses }

func (m *fakeMachine) Outlook() *failover.Rehearsal {
	return &failover.Rehearsal{Findings: slices.Clone(m.findings)}
}

// eventsOf returns the events of one type that the machine got.
func eventsOf[T failover.Event](w *world) []T {
	var list []T
	for _, ev := range w.machine.events {
		if e, ok := ev.(T); ok {
			list = append(list, e)
		}
	}
	return list
}

// messagesOf returns the messages of one type that a child was sent.
func messagesOf[T ipc.Message](f *fakeChild) []T {
	var list []T
	for _, m := range f.sent {
		if x, ok := m.(T); ok {
			list = append(list, x)
		}
	}
	return list
}

// newWorld makes a supervisor of so many workers and two servers, not begun.
func newWorld(t *testing.T, workers int, change ...func(*config.Config)) *world {
	t.Helper()
	c := config.New()
	c.Workers, c.MaxConnections, c.StateDir = workers, 4, t.TempDir()
	c.Servers = []config.Server{
		{Name: "one", Host: "127.0.0.1", Port: 5001, Primary: true, TLS: config.TLSOff, FailoverCandidate: true},
		{Name: "two", Host: "name.test", Port: 5002, TLS: config.TLSOff, FailoverCandidate: true},
	}
	for _, f := range change {
		f(c)
	}
	w := &world{t: t, now: time.Hour, machine: &fakeMachine{status: failover.Status{
		Phase: "open", Primary: -1, Servers: []failover.ServerStatus{{Name: "one"}, {Name: "two"}},
	}}}
	w.s = &supervisor{
		configuration: configuration{generation: generation{cfg: c}}, log: slog.New(slog.DiscardHandler), ledger: newLedger(c), dir: statedir.Dir{Path: c.StateDir, Usable: true},
		inbox: make(chan arrival, 1024), calls: make(chan func(), 1024), ended: make(chan struct{}),
	}
	g, err := newGeneration(1, c, newSalt(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.s.generation = *g
	w.s.env = w.env()
	w.s.servers = newServers(c, w.machine)
	w.s.clients.gate = listen.NewGate(nil, 1000)
	w.s.makeAides()
	w.s.startAide(&w.s.servers.prober.aide)
	return w
}

func (w *world) env() env {
	return env{
		now: func() time.Duration { return w.now }, wall: func() time.Time { return time.Unix(1e9, 0).Add(w.now) },
		background: func(work func() func()) { w.work = append(w.work, work) },
		start:      w.start,
		dial: func(context.Context, string) (*started, error) {
			return w.start(startSpec{role: proc.RoleRunner, peer: ipc.RoleRunner})
		},
		lookup: func(_ context.Context, host string) ([]string, error) {
			if ips := w.lookups[host]; ips != nil {
				return ips, nil
			}
			return nil, errors.New("no such host")
		},
		lookupAddr: func(_ context.Context, address string) ([]string, error) {
			w.looks++
			if names := w.names[address]; names != nil {
				return names, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}
		},
		interfaces:  func() ([]netip.Prefix, error) { return w.own, nil },
		relock:      func(*os.File) (bool, error) { return w.lockHeld, nil },
		lockHolders: func(*os.File) ([]proc.Process, error) { return w.lockedBy, nil },
		writeRecord: func(_ string, data []byte) error {
			w.saves = append(w.saves, data)
			return w.saveErr
		},
		appendHistory: func(string, []byte) error { return nil },
		sinceBoot:     func() time.Duration { return w.now + 24*time.Hour },
		prove:         func(string) (ipc.Secret, error) { return "secret", nil },
		groupEmpty:    func(int) bool { return w.groupEmpty },
		noStrangers:   func([]int) bool { return !w.strangers },
		signalGroup:   func(_ int, kill bool) error { w.signals = append(w.signals, kill); return nil },
		zombies:       func() ([]int, error) { w.scans++; return w.zombies, nil },
		reap:          func(pid int) error { w.reaped = append(w.reaped, pid); return nil },
		notify:        func(s string) { w.notified = append(w.notified, s) },
		usage:         func(list []processUse) ([]processUse, error) { return list, nil },
		cpuTime:       func(pid int) time.Duration { return w.cpu[pid] },
		starves:       func(pid int) bool { return slices.Contains(w.starving, pid) },
	}
}

func (w *world) start(spec startSpec) (*started, error) {
	if w.startErr != nil {
		return nil, w.startErr
	}
	if spec.role == proc.RoleProber {
		return w.startProber(), nil
	}
	f := &fakeChild{spec: spec}
	w.children = append(w.children, f)
	return &started{
		pid: 1000 + len(w.children), link: f,
		kill: func() { f.killed = true }, close: func() { f.closed = true },
		unread: func() []ipc.Envelope { return f.unread },
		listen: func(message func(ipc.Message, ...int), ended func(error), exited func(string)) {
			f.message, f.ended, f.exited = message, ended, exited
		},
	}, nil
}

// settle runs what waits, at this point in time, until nothing does.
func (w *world) settle() {
	for {
		select {
		case a := <-w.s.inbox:
			w.s.dispatch(a)
			continue
		case f := <-w.s.calls:
			f()
			continue
		default:
		}
		if len(w.work) == 0 {
			return
		}
		job := w.work[0]
		w.work = w.work[1:]
		if f := job(); f != nil {
			f()
		}
	}
}

// advance lets time pass, from deadline to deadline.
func (w *world) advance(d time.Duration) {
	end := w.now + d
	for {
		w.settle()
		next, ok := w.s.timers.next()
		if !ok || next > end {
			break
		}
		w.now = max(next, w.now)
		w.s.timers.run(w.now)
	}
	w.now = end
	w.settle()
}

// live lets time pass for workers that answer their pings.
func (w *world) live(d time.Duration) {
	for end := w.now + d; w.now < end; {
		for _, f := range w.children {
			if f.spec.role == proc.RoleWorker {
				w.say(f, &ipc.Pong{})
			}
		}
		w.advance(min(pingInterval, end-w.now))
	}
}

// up begins, brings all workers up and opens the primary.
func (w *world) up() {
	w.t.Helper()
	w.s.startWorkers()
	w.settle()
	for _, f := range slices.Clone(w.children) {
		w.hello(f)
	}
	w.s.publish(openAt(0, 1))
	w.s.checkKnown()
	w.settle()
}

func (w *world) hello(f *fakeChild) {
	f.message(&ipc.WorkerHello{Version: ipc.Version})
	f.message(&ipc.ConfigDone{Gen: 1})
	w.settle()
}

// say has a child send a message. If the message asks for something for a client, the
// child gets a new client before.
func (w *world) say(f *fakeChild, m ipc.Message, fds ...int) {
	switch m.(type) {
	case *ipc.LeaseRequest, *ipc.CancelRequest:
		w.letIn(f)
	}
	f.message(m, fds...)
	w.settle()
}

// letIn gives a worker a client.
func (w *world) letIn(f *fakeChild) {
	for _, sl := range w.s.workers.slots {
		if c := sl.child; c != nil && c.started != nil && c.started.link == link(f) {
			w.s.clients.nextID++
			w.s.clients.total++
			c.clients[w.s.clients.nextID] = true
		}
	}
}

// lease has a worker ask for a backend of a pool, which it is granted.
func (w *world) lease(f *fakeChild, key ipc.PoolKey) uint64 {
	w.t.Helper()
	w.requests++
	w.say(f, &ipc.LeaseRequest{ID: 1000 + w.requests, Key: key})
	g := messagesOf[*ipc.LeaseGrant](f)
	if len(g) == 0 || g[len(g)-1].ID != 1000+w.requests {
		w.t.Fatal("no lease was granted")
	}
	return g[len(g)-1].Lease
}

func (w *world) die(f *fakeChild) {
	f.exited("exit status 1")
	w.settle()
}

func openAt(primary int, epoch uint64) failover.Snapshot {
	return failover.Snapshot{Gen: 1, Epoch: epoch, Open: true, Primary: primary, Servers: make([]failover.ServerView, 2)}
}

func key(user string) ipc.PoolKey { return ipc.PoolKey{Database: "d", User: user} }
