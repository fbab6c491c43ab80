package scriptrunner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Options say in which form the runner runs: exactly one of Conn and Listener is set.
// Run takes over both.
type Options struct {
	// Conn is the link to the supervisor that started this process.
	Conn *ipc.Conn
	// Listener is the SOCK_SEQPACKET socket of the service.
	Listener *net.UnixListener
	// OnDemand ends the service when its link has ended and no script runs. Whoever has passed the Listener keeps
	// listening, and starts the program anew for the next supervisor.
	OnDemand bool
	// ConfigPath is the configuration of the service; the supervisor tells a child the
	// path.
	ConfigPath string
	// StateDir is the directory of the record of runs, empty for state_dir of the
	// configuration. If it isn't writable, the record is only in memory.
	StateDir string
	Build    string
	Log      *slog.Logger
	// Status, if not nil, gets a short text about what the runner is doing.
	Status func(string)
}

// keepResults is how many ended runs a RunnerReady contains.
const keepResults = 16

// runner is the process. Its loop owns every field; others send to its channels.
type runner struct {
	o    Options
	log  *slog.Logger
	done chan struct{} // closed at the end of the loop
	wg   sync.WaitGroup

	hooks hooks
	// record is nil until a directory for it is known.
	record *record
	link   *link
	// stopping is set once ctx is done, or the supervisor that started this process is
	// gone.
	stopping bool
	served   bool // there was a link
	leaving  bool // the listener accepts nothing more, because nobody needs this process
	run      *run
	next     *ipc.Run // it waits for the end of a check
	adopted  []*adopted
	look     *time.Timer // for adopted
	results  []ipc.RunEnded
	old      []*output // pipes of ended runs that processes left behind still hold open
	// undead are scripts that could not be ended. A goroutine still waits for each.
	undead []int

	accepted chan *net.UnixConn // nil: the goroutine that accepts has ended at a deadline
	received chan received
	lines    chan line
	exited   chan exit
	child    chan os.Signal
}

// Run runs the process until its end. It sets the umask, forbids core files, and makes the
// process the parent of orphans among its descendants. It returns nil after a regular end.
// When ctx is done, that takes no longer than a run in progress may take.
func Run(ctx context.Context, o Options) error {
	if err := enter(); err != nil {
		return err
	}
	r := &runner{
		o: o, log: o.Log, done: make(chan struct{}),
		accepted: make(chan *net.UnixConn), received: make(chan received),
		look: time.NewTimer(adoptLook), lines: make(chan line, 64), exited: make(chan exit), child: make(chan os.Signal, 1),
	}
	signal.Notify(r.child, syscall.SIGCHLD)
	defer signal.Stop(r.child)
	defer r.close()
	if o.StateDir != "" {
		r.openRecord(o.StateDir)
	}
	if o.ConfigPath != "" {
		switch err := r.load(o.ConfigPath); {
		case errors.Is(err, errRoot):
			return err
		case err != nil:
			// This is no reason to end: a supervisor shows the error, and the
			// configuration is read again when the next supervisor connects.
			r.log.Error("the configuration can't be used", "error", err)
		}
	}
	switch {
	case o.Conn != nil:
		r.attach(o.Conn)
	case o.Listener != nil:
		r.wg.Go(func() { r.accept(o.Listener) })
	default:
		return errors.New("scriptrunner: neither a link nor a listener")
	}
	r.status()
	r.loop(ctx)
	return nil
}

// loop ends when nothing is left to do.
func (r *runner) loop(ctx context.Context) {
	stop := ctx.Done()
	for !r.stopping || r.run != nil {
		select {
		case <-stop:
			stop = nil
			r.onStop()
		case c := <-r.accepted:
			if c == nil {
				r.onAcceptEnd()
			} else {
				r.onAccept(c)
			}
		case m := <-r.received:
			r.onReceived(m)
		case l := <-r.lines:
			r.onLine(l)
		case e := <-r.exited:
			r.onExit(e)
		case <-r.run.deadline():
			r.onDeadline()
		case <-r.nextLook():
			r.lookAtAdopted()
		case <-r.child:
			r.onChild()
		}
		r.leaveUnneeded()
	}
}

// unneeded reports whether nobody would miss this process: there is no supervisor, no script runs, and the next process
// finds all runs in the record.
func (r *runner) unneeded() bool {
	return r.o.OnDemand && r.served && r.link == nil && r.run == nil && len(r.adopted) == 0 && r.record.complete()
}

// leaveUnneeded starts the end of a process that nobody needs. First it stops the goroutine that accepts, so that the
// next supervisor stays in the queue of the socket, where it reaches the next process.
func (r *runner) leaveUnneeded() {
	if r.stopping || r.leaving || !r.unneeded() {
		return
	}
	if err := r.o.Listener.SetDeadline(time.Unix(1, 0)); err != nil {
		r.log.Error("the script runner can't stop listening", "error", err)
		return
	}
	r.leaving = true
}

// onAcceptEnd ends the process, unless a supervisor has come while the goroutine that accepts was still at work.
func (r *runner) onAcceptEnd() {
	r.leaving = false
	if r.unneeded() {
		r.log.Info("the script runner ends until it is needed again")
		r.stopping = true
		return
	}
	if err := r.o.Listener.SetDeadline(time.Time{}); err != nil {
		r.log.Error("the script runner can't listen again", "error", err)
		r.onStop()
		return
	}
	r.wg.Go(func() { r.accept(r.o.Listener) })
}

func (r *runner) onStop() {
	r.stopping = true
	r.endCheck("the runner is stopping")
	if r.run != nil {
		r.log.Info("stopping when the run has ended", "run_id", r.run.id, "hook", r.run.hook)
		r.status()
	}
}

// onChild reaps processes that scripts left behind. The script itself has its own
// waiter.
func (r *runner) onChild() {
	except := slices.Clone(r.undead)
	if r.run != nil {
		except = append(except, r.run.process.Pid)
	}
	if err := proc.ReapStrays(except...); err != nil {
		r.log.Error("processes that scripts left behind can't be reaped", "error", err)
	}
	r.checkGone()
}

// close ends every goroutine and waits for them.
func (r *runner) close() {
	close(r.done)
	if r.o.Listener != nil {
		r.o.Listener.Close()
	}
	r.flush()
	r.detach()
	r.record.close()
	r.look.Stop()
	for _, o := range r.old {
		o.close()
	}
	r.wg.Wait()
}

// load replaces the hooks; if it returns an error, the old hooks stay.
func (r *runner) load(path string) error {
	h, err := loadHooks(path)
	if err != nil {
		return err
	}
	r.hooks = h
	if r.record == nil {
		r.openRecord(h.stateDir())
	}
	return nil
}

// openRecord opens the record, with what earlier runners have written.
func (r *runner) openRecord(dir string) {
	var err error
	if r.record, err = openRecord(dir); err != nil {
		r.log.Warn("runs are recorded in memory alone", "error", err)
	}
	if n := r.record.damaged; n > 0 {
		r.log.Error("the record of runs is damaged", "lines", n, "kept as", filepath.Join(dir, recordName+badSuffix))
	}
	for _, e := range r.record.runs {
		if e.End != nil && e.End.Refused == "" && !e.Check {
			r.keep(*e.End)
		}
	}
	r.adopt()
}

func (r *runner) status() {
	if r.o.Status == nil {
		return
	}
	switch {
	case r.run != nil && r.stopping:
		r.o.Status(fmt.Sprintf("Stopping when %s has ended, run %s", r.run.hook, r.run.id))
	case r.run != nil && r.run.check:
		r.o.Status("Checking " + r.run.hook)
	case r.run != nil:
		r.o.Status(fmt.Sprintf("Running %s, run %s", r.run.hook, r.run.id))
	case len(r.adopted) > 0:
		r.o.Status(fmt.Sprintf("Waiting for the end of run %s, of a runner before this one", r.adopted[0].ID))
	case r.link == nil:
		r.o.Status("Waiting for a supervisor")
	default:
		r.o.Status("Ready")
	}
}
