package supervisor

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// service holds what the service manager was told, and what all workers share: secrets,
// users, and the look-ups of addresses.
type service struct {
	ready     bool
	status    string // last STATUS=
	note      string // remark of the supervisor itself, after the machine's line
	watchdog  time.Duration
	onReady   func() // called once, may be nil
	scramSalt ipc.Secret
	secrets   secrets
	peers     peers
	lookUps   lookUps
	logging   sharedLog
	events    *events
	remote    remote
	upgrade   upgrade
}

// checkReady tells the service manager once that clients are served: the servers have
// been looked at and a worker is ready.
func (s *supervisor) checkReady() {
	if s.service.ready || !s.servers.known || !s.anyReady() || s.stop.mode == stopNow {
		return
	}
	s.service.ready = true
	s.log.Info("ready", "status", s.servers.machine.Status(s.env.now()).Line())
	s.env.notify(fmt.Sprintf("READY=1\nMAINPID=%d\nSTATUS=%s", os.Getpid(), s.servers.machine.Status(s.env.now()).Line()))
	if s.service.onReady != nil {
		s.service.onReady()
	}
}

// statusChanged sends the status line to the service manager if it has changed.
func (s *supervisor) statusChanged() {
	line := s.servers.machine.Status(s.env.now()).Line()
	if s.service.note != "" {
		line += "; " + s.service.note
	}
	if line == s.service.status {
		return
	}
	s.service.status = line
	s.env.notify("STATUS=" + line)
}

// startWatchdog tells the service manager, now and twice in each watchdog interval, that the
// loop is running. After an upgrade it must be now: the program before may have said it half
// an interval ago.
func (s *supervisor) startWatchdog() {
	if s.service.watchdog <= 0 {
		return
	}
	s.env.notify("WATCHDOG=1")
	s.after(s.service.watchdog/2, s.startWatchdog)
}

// watchdogInterval returns the service manager's watchdog interval, 0 if it has none.
func watchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}

// notifier sends states to the service manager in a goroutine, because the service
// manager may be slow.
type notifier struct {
	states chan string
	done   chan struct{}
	queued atomic.Int32 // states that are not sent yet
}

// startNotifier starts the sending goroutine. stop ends it once everything is sent.
func startNotifier() *notifier {
	n := &notifier{states: make(chan string, 64), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		for state := range n.states {
			_, _ = daemon.SdNotify(false, state) // if the service manager doesn't listen, there is nobody to tell
			n.queued.Add(-1)
		}
	}()
	return n
}

// send queues a state, or drops it if the service manager doesn't read.
func (n *notifier) send(state string) {
	n.queued.Add(1)
	select {
	case n.states <- state:
	default:
		n.queued.Add(-1)
	}
}

// flush waits for at most limit until everything is sent.
func (n *notifier) flush(limit time.Duration) {
	for end := time.Now().Add(limit); n.queued.Load() > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
}

func (n *notifier) stop() {
	close(n.states)
	<-n.done
}
