package supervisor

import (
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// supervisor is the state of the process. Every field belongs to the loop.
type supervisor struct {
	configuration
	build string
	log   *slog.Logger
	env   env

	inbox   chan arrival
	calls   chan func()
	signals chan os.Signal
	ended   chan struct{} // closed when the loop has ended

	timers  timers
	rest    time.Duration // time until which deadlines have to wait, see justWoke; 0 for no wait
	workers workers
	clients clients
	ledger  *pool.Ledger
	leases  leases
	rounds  rounds
	cancels cancels
	servers servers
	console console
	actions actions
	fence   fence
	ages    ages
	calm    calm
	saver   saver
	history history
	runner  runner
	dir     statedir.Dir
	stop    shutdown
	service service
	result  error // why the supervisor ends, nil for an orderly end
	over    bool
}

// arrival is one message of a child, or the end of its link.
type arrival struct {
	worker  *child
	runner  *runnerEnd
	aide    *aideEnd
	message ipc.Message
	fds     []int // of the message; the supervisor closes them
	err     error // why the link has ended
}

// run is the loop. It returns when the last child is gone. A panic ends it too, after
// the workers were killed: the loop's state can't be trusted any more.
func (s *supervisor) run() (err error) {
	defer close(s.ended)
	defer func() {
		if p := recover(); p != nil {
			s.abandon()
			err = logline.Recovered(s.log, p)
		}
	}()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	if h := s.service.upgrade.heritage; h != nil {
		s.service.upgrade.heritage = nil
		s.beginAgain(h)
	} else {
		s.begin()
	}
	for !s.over {
		wake.Reset(s.untilNext())
		select {
		case a := <-s.inbox:
			s.dispatch(a)
		case f := <-s.calls:
			f()
		case sig := <-s.signals:
			s.onSignal(sig)
		case <-wake.C:
			s.catchUp()
			if !s.justWoke() {
				s.timers.run(s.env.now())
			}
		}
	}
	return s.result
}

// catchUp handles what has arrived already, before a deadline is declared missed.
func (s *supervisor) catchUp() {
	for range len(s.inbox) {
		s.dispatch(<-s.inbox)
	}
	for range len(s.calls) {
		(<-s.calls)()
	}
}

// A deadline that is handled so late shows that this process was stopped or got no CPU.
// Messages sent meanwhile need a moment to reach the loop.
const (
	stoppedFor = time.Second
	wakeRest   = 200 * time.Millisecond
)

// justWoke reports whether deadlines have to wait, because this process itself was
// stopped and nobody else is to blame.
func (s *supervisor) justWoke() bool {
	now := s.env.now()
	if when, ok := s.timers.next(); ok && s.rest == 0 && now-when > stoppedFor {
		s.log.Warn("this process did nothing for a while: it was stopped, or the machine was too busy", "for", (now - when).Round(time.Second))
		s.rest = now + wakeRest
		return true
	}
	if now < s.rest {
		return true
	}
	s.rest = 0
	return false
}

// begin starts everything that the loop waits for.
func (s *supervisor) begin() {
	s.startWatchdog()
	s.watchLog()
	s.startLock()
	for _, a := range s.aides() {
		s.startAide(a)
	}
	s.startWorkers()
	s.linkRunner()
	s.startServers()
	s.lookSoon()
}

func (s *supervisor) untilNext() time.Duration {
	when, ok := s.timers.next()
	if !ok {
		return time.Hour
	}
	when = max(when, s.rest)
	return max(when-s.env.now(), 0)
}

// after calls f in the loop after d.
func (s *supervisor) after(d time.Duration, f func()) *timer {
	return s.timers.at(s.env.now()+d, f)
}

// post hands f to the loop from any other goroutine. It returns false, and f never
// runs, if the loop has ended.
func (s *supervisor) post(f func()) bool {
	select {
	case s.calls <- f:
		return true
	case <-s.ended:
		return false
	}
}

func (s *supervisor) arrive(a arrival) {
	select {
	case s.inbox <- a:
	case <-s.ended:
		abort(a.fds)
	}
}

func (s *supervisor) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGCHLD:
		s.reapStrays()
	case syscall.SIGHUP:
		s.renewLog(logs.Asked)
		s.onReload()
	case syscall.SIGUSR1:
		s.renewLog(logs.Asked)
	case syscall.SIGUSR2:
		s.startUpgrade(func(control.UpgradeResponse, error) {})
	case syscall.SIGTRAP:
		s.log.Info("shutdown requested by signal", "signal", sig.String(), "mode", "gracefully")
		s.shutGracefully(s.cfg.FlushTimeout)
	case syscall.SIGTERM:
		s.onTerm()
	default:
		s.log.Info("shutdown requested by signal", "signal", sig.String(), "mode", "immediate")
		s.shutNow()
	}
}

// fail shuts the supervisor down with an error.
func (s *supervisor) fail(err error) {
	if s.result == nil {
		s.result = err
	}
	s.shutNow()
}
