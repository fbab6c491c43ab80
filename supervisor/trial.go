package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// Try is the trial of this program: everything that it would do to take the place of the
// running one, as far as that takes no lock, opens no socket and starts no script. It reports on
// descriptor 3; descriptor 4 is a heritage. An error says why the program can't take over.
func Try(opt Options) error {
	report := os.NewFile(trialReportFD, "report")
	h, err := readHeritage(os.NewFile(trialHeritageFD, "heritage"))
	if err != nil {
		return err
	}
	if err := proc.SealDescriptors(); err != nil {
		return err
	}
	env := reloadEnv(&listen.Sockets{})
	env.TCPPassed, env.UnixPassed = h.Sockets.TCP, h.Sockets.Unix
	if opt.Config, err = configured(opt.Config, h, env); err != nil {
		return err
	}
	if err := tryLog(opt.Config); err != nil {
		return err
	}
	program, err := openConsole(opt.Config)
	if err != nil {
		return err
	}
	err = trySiblings(opt, program)
	program.Close()
	if err != nil {
		return err
	}
	s, err := goingOn(opt, h, statedir.Dir{Path: h.State.Path, Usable: h.State.Usable})
	if err != nil {
		return err
	}
	if s.dir.Damage != "" {
		return errors.New(s.dir.Damage)
	}
	if err := s.tryWorker(); err != nil {
		return err
	}
	return json.NewEncoder(report).Encode(trialReport{Version: opt.Build, HandOver: HandOverVersion})
}

// tryLog opens the log: without it the next program would end.
func tryLog(c *config.Config) error {
	l, err := logs.Open(logs.SettingsOf(c, unix.Stderr), time.Now())
	if err != nil {
		return err
	}
	l.Close()
	return nil
}

// tryWorker brings a worker up to ConfigDone.
func (s *supervisor) tryWorker() error {
	s.workers.slots = []*slot{{}}
	spec := s.workerSpec(0)
	spec.lock = nil
	st, err := startChild(spec, nil, s.log)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(context.Background(), trialLimit)
	defer done()
	said := make(chan ipc.Message, 64)
	ended := make(chan error, 1)
	exited := make(chan string, 1)
	st.listen(
		func(m ipc.Message, fds ...int) { abort(fds); said <- m },
		func(err error) { ended <- err },
		func(how string) { exited <- how },
	)
	defer func() {
		st.kill()
		select {
		case <-exited:
		case <-time.After(exitLimit):
		}
		st.close()
	}()
	c := &child{started: st, state: childSetup}
	for {
		select {
		case m := <-said:
			switch m := m.(type) {
			case *ipc.WorkerHello:
				for _, m := range s.generation.messages(s.configBegin(&s.generation, 0), 0) {
					if err := s.sendTried(ctx, c, m); err != nil {
						return err
					}
				}
			case *ipc.ConfigDone:
				if m.Error != "" {
					return fmt.Errorf("a worker can't use the configuration: %s", m.Error)
				}
				return nil
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				err = errors.New("its link has ended")
			}
			return fmt.Errorf("a worker doesn't come up: %w", err)
		case <-ctx.Done():
			return errors.New("a worker doesn't come up in time")
		}
	}
}

// sendTried waits for room in the queue, which holds a part of a large configuration.
func (s *supervisor) sendTried(ctx context.Context, c *child, m ipc.Message) error {
	for c.started.link.Len() >= configPart {
		select {
		case <-time.After(configPause):
		case <-ctx.Done():
			return errors.New("a worker doesn't read its configuration")
		}
	}
	return c.started.link.Send(m)
}
