package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

const (
	// setupLimit is how long the supervisor may take to send the configuration.
	setupLimit = 10 * time.Second
	// queueLimit is how many messages to the supervisor may wait. A supervisor that lets
	// so many wait hangs, and a worker can do nothing without it.
	queueLimit = 64 << 10
	// lostLimit is how long clients get to read their error after the supervisor has
	// died, before the process ends.
	lostLimit = 500 * time.Millisecond
)

// worker is the state of the process. Everything in it belongs to the event loop's
// goroutine, except where marked.
type worker struct {
	log  *slog.Logger
	loop *reactor.Loop
	conn *ipc.Conn
	out  *ipc.Outbox
	// receiving says that receive continues in the loop's next turn.
	receiving bool

	cfg *config // goroutines get it, or parts of it, as an argument
	incoming
	servers ipc.ServerState
	epochs

	setups
	clients  map[uint64]*client  // by the supervisor's id, from hand-over to end
	sessions int                 // how many clients are sessions
	cancels  map[uint64]*session // by cancelKey.id
	backends map[uint64]*backend // established, by lease
	// outbounds are the connections to servers that goroutines use.
	outbounds map[*outbound]struct{}
	// shelf has the idle backends and the waiting clients.
	shelf  *pool.Shelf
	nextID uint64
	born   time.Time // never changes
	// goneIDs are the clients that have left but were not reported to the supervisor yet.
	goneIDs []uint64
	expired expired
	signs
	requests cancelRequests
	timers   timers

	shared *relay.Shared // shared by all conversations
	questions

	burst proc.Burst
	stats stats
	departure
	exit int // exit code, also during the end
}

// departure is how the worker gets rid of everything that it has.
type departure struct {
	passing  passing
	draining bool
	emptied  bool // Drained was sent
}

// setups are what the set-ups of clients share.
type setups struct {
	coroutines coroutines
	guesses    guesses
}

// questions are open questions to the supervisor about things that this process must not
// know or can't find out.
type questions struct {
	// secrets answer the questions of servers during logins.
	secrets *secrets
	// stored are questions about the stored passwords of users.
	stored *storedUsers
	// peers are questions about clients' addresses.
	peers peers
	// admissions are what to do with the answers about clients, by client.
	admissions map[uint64]func(*ipc.AdmitAnswer)
}

// signs are signs of life of servers, and of their death.
type signs struct {
	// lastByte has the time of the last byte from each server, by index.
	lastByte []time.Time
	// hinted has the hints that were sent in this turn.
	hinted map[hinted]bool
	// doubted has the time of the last hint about each server, by index.
	doubted map[int]time.Time
}

// epochs are the epochs whose backends end.
type epochs struct {
	// fenced is the highest epoch that was fenced and hasn't been opened again.
	fenced uint64
	// quiescing is the highest epoch whose sessions give up their backends at the end of
	// their transactions, 0 for none.
	quiescing uint64
}

// Main runs a worker on its link and returns the exit code of the process. lock is the
// lock of state_dir, which stays open until the process ends; it may be nil.
func Main(linkFD int, lock *os.File) int {
	if lock != nil {
		defer lock.Close()
	}
	lines := logline.NewQueue(os.Stderr)
	defer lines.Close(logline.FlushLimit)
	log := logline.New(lines, "%Y-%m-%d %H:%M:%S", slog.LevelInfo, "worker")
	_ = time.Now().Local().String() // reads the time zone, whose file can't be opened later
	if err := proc.Unprivileged(); err != nil {
		log.Error("worker can't give up its rights", "error", err)
		return 1
	}
	conn, err := ipc.FromFD(linkFD, ipc.RoleWorker, ipc.RoleSupervisor, log)
	if err != nil {
		log.Error("worker can't use its link", "error", err)
		return 1
	}
	w := newWorker(log, conn)
	if err := w.setup(); err != nil {
		w.log.Error("worker can't start", "error", err)
		return 1
	}
	w.run()
	return w.exit
}

func newWorker(log *slog.Logger, conn *ipc.Conn) *worker {
	w := &worker{
		log: log, conn: conn,
		clients: make(map[uint64]*client),
		cancels: make(map[uint64]*session), shelf: pool.NewShelf(pool.Limits{}),
		backends: make(map[uint64]*backend), outbounds: make(map[*outbound]struct{}),
		requests: newCancelRequests(), signs: signs{hinted: make(map[hinted]bool), doubted: make(map[int]time.Time)},
		servers: ipc.ServerState{Primary: -1}, born: time.Now(), shared: relay.NewShared(),
		questions: questions{newSecrets(), newStoredUsers(), newPeers(), map[uint64]func(*ipc.AdmitAnswer){}},
		setups:    setups{guesses: newGuesses()},
	}
	w.burst.After = func(d time.Duration, f func()) { w.loop.After(d, f) }
	w.burst.Free = func() {
		w.loop.Post(func() {
			w.coroutines.end()
			w.loop.Trim()
		})
		debug.FreeOSMemory()
	}
	return w
}

// setup sends WorkerHello and waits for the first configuration.
func (w *worker) setup() error {
	if err := w.conn.SetDeadline(time.Now().Add(setupLimit)); err != nil {
		return err
	}
	if err := w.conn.Send(&ipc.WorkerHello{Version: ipc.Version, PID: os.Getpid()}); err != nil {
		return err
	}
	var cfg *config
	for cfg == nil {
		env, err := w.conn.Receive()
		if err != nil {
			return fmt.Errorf("wait for the configuration: %w", err)
		}
		if _, ok := env.Message.(*ipc.Drain); ok {
			return errors.New("told to end before the configuration was complete")
		}
		if m, ok := env.Message.(*ipc.WorkerLog); ok {
			w.onLog(m, env.FDs)
			continue
		}
		if cfg, err = w.onConfig(env.Message); err != nil {
			return err
		}
	}
	w.draft = nil
	w.putInEffect(cfg)
	var err error
	logline.Rename(w.log, fmt.Sprintf("worker %d", cfg.Worker))
	if w.loop, err = w.newLoop(cfg.EvBackend); err != nil {
		return err
	}
	if err := tlsmem.CanGiveBack(); cfg.tls != nil && err != nil {
		w.log.Warn("idle clients with TLS keep 22 KiB each, because this version of crypto/tls is unknown", "error", err)
	}
	held, bounds, err := confineWorker(cfg, w.loop.Name(), w.conn)
	if err != nil {
		return err
	}
	w.bounds = bounds
	done := &ipc.ConfigDone{Gen: cfg.Gen, Reactor: w.loop.Name(), Confined: held.InForce, Unconfined: held.Lacking}
	if err := w.conn.Send(done); err != nil {
		return err
	}
	w.conn.SetPhase(ipc.PhaseRunning)
	return w.conn.SetDeadline(time.Time{})
}

// newLoop returns an event loop: io_uring unless the configuration says epoll or io_uring
// isn't available, as in many containers.
func (w *worker) newLoop(kind string) (*reactor.Loop, error) {
	if kind != "epoll" {
		loop, err := reactor.New("io_uring")
		if err == nil {
			return loop, nil
		}
		w.log.Info("io_uring is not available, using epoll", "reason", err)
	}
	return reactor.New("epoll")
}

// run serves clients until the worker is drained or the supervisor is gone.
func (w *worker) run() {
	w.out = ipc.NewOutbox(w.conn, queueLimit, 5*time.Second, func(err error) {
		w.loop.Post(func() { w.supervisorLost(err) })
	})
	fd, err := w.conn.FD()
	if err == nil {
		err = w.loop.Poll(fd, w.receive)
	}
	if err != nil {
		w.loop.Post(func() { w.supervisorLost(err) })
	}
	w.setTimers()
	w.loop.After(halfOpenEvery, w.watchHalfOpen)
	w.loop.Run()
	w.conn.Close()
	w.out.Close()
	<-w.out.Done()
}

// receiveMax is how many messages of the supervisor are handled in one turn, so that other
// work gets its share when very many clients arrive.
const receiveMax = 64

// receive handles the supervisor's messages, and returns false if the link has ended.
func (w *worker) receive() bool {
	switch {
	case w.exit != 0:
		return false // the supervisor is gone, so its remaining messages don't matter
	case w.receiving:
		return true // the posted call continues
	}
	for range receiveMax {
		env, err := w.conn.TryReceive()
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil {
			w.supervisorLost(err)
			return false
		}
		w.dispatch(env)
	}
	w.receiving = true // there is no new event for messages that have already arrived
	w.loop.Post(func() {
		w.receiving = false
		w.receive()
	})
	return true
}

// supervisorLost ends the process within a second. Without a supervisor a worker would
// continue to write to a primary that has been replaced.
func (w *worker) supervisorLost(err error) {
	if (w.draining || w.emptied) && w.drained() {
		w.loop.Stop()
		return
	}
	if w.exit != 0 {
		return
	}
	w.exit = 1
	if errors.Is(err, io.EOF) {
		w.log.Error("supervisor has gone, ending")
	} else if !errors.Is(err, os.ErrClosed) {
		w.log.Error("link to the supervisor is broken, ending", "error", err)
	}
	w.endAll()
	for _, b := range w.backends {
		b.conn.Abort()
	}
	w.loop.After(lostLimit, w.loop.Stop)
}

// send queues a message for the supervisor, with descriptors that are closed once it is
// sent. A full queue means that the supervisor hangs, which counts as its loss.
func (w *worker) send(m ipc.Message, fds ...int) {
	if err := w.out.Send(m, fds...); err != nil {
		w.loop.Post(func() { w.supervisorLost(err) })
	}
}

// newID returns an id for requests to the supervisor.
func (w *worker) newID() uint64 {
	w.nextID++
	return w.nextID
}

// debug reports whether debug lines are logged. Ask it first where their arguments cost
// time.
func (w *worker) debug() bool { return w.log.Enabled(context.Background(), slog.LevelDebug) }
