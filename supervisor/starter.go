package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// checkWorkerUser says why workers can't run as worker_user. uid is pgagroal's own account,
// if that is known.
func checkWorkerUser(c *config.Config, uid uint32, known bool) error {
	if c.WorkerUser == "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can start workers under another account; start pgagroal as root with user set, or remove worker_user")
	}
	cred, err := proc.CredentialOf(c.WorkerUser)
	switch {
	case err != nil:
		return fmt.Errorf("%w; create the account, or name another", err)
	case cred.Uid == 0 || cred.Gid == 0:
		return fmt.Errorf("%s is root or of its group; name an account without rights", c.WorkerUser)
	case known && cred.Uid == uid:
		return fmt.Errorf("%s is the account of pgagroal itself; name another, or remove worker_user", c.WorkerUser)
	}
	return nil
}

// newStarter starts the starter: the process that starts and kills workers and the prober
// under worker_user. The supervisor calls it while it is still root. Without worker_user it
// returns nil.
func newStarter(opt Options, console *os.File) (*proc.Starter, error) {
	if opt.Config.WorkerUser == "" {
		return nil, nil
	}
	return proc.NewStarter(proc.StarterSpec{User: opt.Config.WorkerUser, Env: inherited(), Program: opt.Program, Console: console})
}

// inheritStarter returns the starter of the program before, which executes this program now. It
// returns nil if there is none.
func inheritStarter(is inheritedStarter, program string) (*proc.Starter, error) {
	if is.PID == 0 {
		return nil, nil
	}
	st, err := proc.AdoptStarter(is.PID, is.Link)
	if err != nil {
		return nil, err
	}
	if err := st.Renew(program); err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// renewable says why a starter would not execute a program.
func renewable(st *proc.Starter, program string) error {
	if st == nil {
		return nil
	}
	if err := proc.OnlyRootChanges(program); err != nil {
		return fmt.Errorf("with worker_user only root may be able to change what an upgrade starts: %w", err)
	}
	return st.MayRenew(program)
}

// watchStarter tells the loop when the starter is lost.
func (s *supervisor) watchStarter(ctx context.Context, st *proc.Starter) {
	select {
	case <-ctx.Done():
	case <-st.Lost():
		err := fmt.Errorf("the starter of workers is lost: %w", st.Err())
		s.post(func() { s.onStarterLost(err) })
	}
}

// onStarterLost ends the supervisor: nobody can kill a hung worker any more, and only root
// can start another starter. Workers end when their links close. A worker that does not is
// left behind; it keeps the lock of state_dir, so no script can run beside it.
func (s *supervisor) onStarterLost(err error) {
	s.log.Error("workers can't be started or killed any more; pgagroal ends", "error", err)
	s.fail(err)
	s.after(drainLimit+exitLimit, func() {
		for _, sl := range s.workers.slots {
			if c := sl.child; c != nil && c.started != nil && !c.exited {
				s.log.Error("worker can't be ended, and is left behind", "worker", c.index, "child", c.started.pid)
				c.exited = true
				s.workerGone(c)
			}
		}
	})
}
