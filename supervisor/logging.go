package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
)

const (
	// logLook is how often the log is looked at: whether it is too old or too large, or was
	// moved away.
	logLook = time.Second
	// logPause is how long to wait after a file could not be opened again. A daemon that
	// starts again is back sooner, and until then lines are lost.
	logPause = time.Minute
)

// sharedLog is the log of all processes.
type sharedLog struct {
	open    *logs.Log // nil in tests: each process then keeps the log that it has
	next    *logs.Log // of a reload that isn't committed
	console int       // descriptor of the standard error of the start, -1 for none
	busy    bool      // a goroutine looks at the log, or opens it again
	asked   bool      // a signal came meanwhile
	failed  bool      // it could not be opened again, and that is in the log
	rest    time.Duration
}

// openLog opens the log of the configuration, and directs log there. It runs after root's
// privileges were given up: otherwise everybody who can write to the directory of the log
// could make root write to any file. starter may be nil.
func openLog(opt Options, starter *proc.Starter) (sharedLog, error) {
	console, err := unix.FcntlInt(os.Stderr.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		console = int(os.Stderr.Fd()) // it is closed, and so is every copy
	}
	x := sharedLog{console: console}
	if x.open, err = logs.Start(logs.SettingsOf(opt.Config, console), time.Now()); err != nil {
		return x, err
	}
	fd, err := x.open.Copy()
	if err != nil {
		return x, err
	}
	logline.Follow(opt.Log, x.style(opt.Config), []int{fd})
	if opt.Background && logs.Kind(opt.Config.LogType) != logs.Console {
		return x, x.leaveConsole(starter)
	}
	return x, nil
}

// leaveConsole gives up the standard error of the start in all processes that have it: who
// started us may wait until nobody has it any more.
func (x *sharedLog) leaveConsole(starter *proc.Starter) error {
	unix.Close(x.console)
	x.console = -1
	if x.open.Kind() != logline.Stream { // otherwise it is a copy of the log already
		if err := proc.Mute(); err != nil {
			return fmt.Errorf("give up standard error: %w", err)
		}
	}
	return starter.Mute()
}

// style says how lines are written.
func (x *sharedLog) style(c *config.Config) logline.Settings {
	return logline.Settings{Kind: x.open.Kind(), Level: logline.Level(c.LogLevel), Prefix: c.LogLinePrefix, JSON: c.LogFormat == "json"}
}

// watchLog looks at the log from time to time.
func (s *supervisor) watchLog() {
	if s.service.logging.open == nil {
		return
	}
	s.after(logLook, func() {
		s.watchLog()
		if s.env.now() >= s.service.logging.rest {
			s.renewLog(logs.NoReason)
		}
	})
}

// renewLog opens the log again, without a reason only if it is due.
func (s *supervisor) renewLog(why logs.Reason) {
	x := &s.service.logging
	if x.open == nil {
		return
	}
	if x.busy {
		x.asked = x.asked || why == logs.Asked
		return
	}
	x.busy = true
	open, settings, now := x.open, logs.SettingsOf(s.cfg, x.console), s.env.wall()
	elsewhere(s, func() (*logs.Log, error) {
		if why == logs.NoReason {
			why = open.Due(settings, now)
		}
		if why == logs.NoReason {
			return nil, nil
		}
		return open.Again(settings, why, now)
	}, func(next *logs.Log, err error) {
		x.busy = false
		s.onLogOpened(open, next, why, err)
		if x.asked {
			x.asked = false
			s.renewLog(logs.Asked)
		}
	})
}

// onLogOpened directs all processes to a log that was opened again.
func (s *supervisor) onLogOpened(was, next *logs.Log, why logs.Reason, err error) {
	x := &s.service.logging
	switch {
	case err != nil:
		s.onLogNotOpened(was, why, err)
	case next == nil:
	case x.open != was: // a reload has opened another one meanwhile
		next.Close()
	default:
		x.open, x.failed = next, false
		s.tellLog()
		was.Close()
		s.log.Info("log is opened again", "reason", why, "path", next.Path())
	}
}

// onLogNotOpened waits before another attempt with a file, and tries a socket at the next
// look, without another line.
func (s *supervisor) onLogNotOpened(was *logs.Log, why logs.Reason, err error) {
	x, stream := &s.service.logging, was.Kind() == logline.Stream
	if stream {
		x.rest = s.env.now() + logPause
	}
	if stream || !x.failed {
		x.failed = true
		s.log.Error("the log can't be opened again; lines go to the old one", "reason", why, "error", err)
	}
}

// tellLog directs all processes to the open log.
func (s *supervisor) tellLog() {
	x := &s.service.logging
	if x.open == nil {
		logline.Restyle(s.log, logline.Settings{Level: logline.Level(s.cfg.LogLevel), Prefix: s.cfg.LogLinePrefix})
		return
	}
	if fd, ok := s.copyLog(); ok {
		logline.Follow(s.log, x.style(s.cfg), []int{fd})
	}
	for _, sl := range s.workers.slots {
		if c := sl.child; c != nil && c.greeted && !c.ending() {
			s.tellWorkerLog(c)
		}
	}
	for _, a := range s.aides() {
		if p := a.end; p != nil && p.greeted && !p.dropped {
			s.tellAideLog(p)
		}
	}
	if r := s.runner.end; r != nil && r.pid != 0 && !r.gone {
		s.tellRunnerLog(r)
	}
}

// copyLog returns another descriptor of the log; ok is false if there is no log or no
// descriptor is free.
func (s *supervisor) copyLog() (fd int, ok bool) {
	open := s.service.logging.open
	if open == nil {
		return -1, false
	}
	fd, err := open.Copy()
	if err != nil {
		s.log.Error("a process can't be told of the log; its lines go to the old one", "error", err)
	}
	return fd, err == nil
}

func (s *supervisor) logSettings() ipc.LogSettings {
	st := s.service.logging.style(s.cfg)
	return ipc.LogSettings{Kind: int(st.Kind), Level: int(st.Level.Level()), Prefix: st.Prefix, JSON: st.JSON}
}

func (s *supervisor) tellWorkerLog(c *child) {
	if fd, ok := s.copyLog(); ok {
		s.send(c, &ipc.WorkerLog{Log: s.logSettings()}, fd)
	}
}

// tellAideLog tells the prober or the console.
func (s *supervisor) tellAideLog(p *aideEnd) {
	fd, ok := s.copyLog()
	if !ok {
		return
	}
	m := ipc.Message(&ipc.ProberLog{Log: s.logSettings()})
	if p.of == &s.console.aide {
		m = &ipc.ConsoleLog{Log: s.logSettings()}
	}
	s.sendAide(p, m, fd)
}

// tellRunnerLog tells a runner that this process has started. A service has its own log.
func (s *supervisor) tellRunnerLog(r *runnerEnd) {
	if !r.spawned {
		return
	}
	if fd, ok := s.copyLog(); ok {
		if err := r.started.link.Send(&ipc.RunnerLog{Log: s.logSettings()}, fd); err != nil {
			s.dropRunner(r, err.Error())
		}
	}
}

// openNextLog opens the log of a configuration that is being prepared, nil if it is the one
// that is open. It runs outside the loop.
func openNextLog(running, next *config.Config, console int) (*logs.Log, error) {
	settings := logs.SettingsOf(next, console)
	if settings.SamePlace(logs.SettingsOf(running, console)) {
		return nil, nil
	}
	if settings.Kind == logs.Console && console < 0 {
		return nil, errors.New("log_type = console: pgagroal was started in the background with another log, and has no standard error any more; restart it")
	}
	return logs.Start(settings, time.Now())
}

// logAfterReload directs all processes to the log of the new configuration.
func (s *supervisor) logAfterReload(old *config.Config, next *logs.Log) {
	x, c := &s.service.logging, s.cfg
	was := x.open
	if next != nil {
		x.open = next
	}
	if next != nil || old.LogLevel != c.LogLevel || old.LogLinePrefix != c.LogLinePrefix || old.LogFormat != c.LogFormat {
		s.tellLog()
	}
	if next != nil && was != nil {
		was.Close()
	}
}
