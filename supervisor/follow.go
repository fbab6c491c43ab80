package supervisor

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// The credential files are followed: an agent that changes passwords writes a file and has
// nobody to tell.
//
//  1. Outside the loop, a look at the files every followInterval sees whether one has
//     changed.
//  2. Once two looks have seen the same change, the files are read. So a file that is being
//     written is hardly ever read, and a change after the reading is sure to show.
//  3. The rest is a reload in which only the users differ. What can't be used is an alarm,
//     and is read again after the next change.

// followInterval is the time between two looks. Each is a system call for each file.
const followInterval = time.Second

// follow is what is known of the credential files.
type follow struct {
	seen string // config.CredentialState at the last look
	read string // the state that was read last, in effect or refused
	// problem is why this state can't be used, ofReload why the last reload was refused.
	problem, ofReload string
}

// problems returns why files can't be used, or "".
func (f *follow) problems() string {
	switch {
	case f.problem == "" || f.problem == f.ofReload:
		return f.ofReload
	case f.ofReload == "":
		return f.problem
	}
	return f.ofReload + "; " + f.problem
}

func (s *supervisor) lookSoon() { s.after(followInterval, s.lookAtCredentials) }

// mayFollow reports whether changed files may be read now; if not, they are later.
func (s *supervisor) mayFollow() bool {
	return s.cfg.FollowCredentialFiles && !s.reload.busy && s.cannotReload() == ""
}

func (s *supervisor) lookAtCredentials() {
	if !s.mayFollow() {
		s.lookSoon()
		return
	}
	elsewhere(s, s.cfg.CredentialState, s.onCredentialState)
}

func (s *supervisor) onCredentialState(now string, err error) {
	s.lookSoon()
	if err != nil {
		return // a file that can't even be looked at can't be read; a reload would say so
	}
	f := &s.follow
	settled := now == f.seen
	f.seen = now
	if settled && now != f.read && s.mayFollow() {
		s.reload.follows = true
		s.beginReload(readCredentials, func(control.ReloadResponse, error) {})
	}
}

// readCredentials is the reader of the credential files.
func readCredentials(running *generation, env config.CheckEnv, gen uint64, salt ipc.Secret) (*readAgain, error) {
	c, err := running.cfg.CredentialsAgain()
	if err != nil {
		return nil, err
	}
	if errs := c.CheckCredentials(env); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	g, err := running.withUsers(gen, c, salt)
	return &readAgain{fresh: c, next: g}, err
}

// followed notes that the credentials of c are in effect.
func (s *supervisor) followed(c *config.Config) {
	f := &s.follow
	f.read, f.problem = c.CredentialsRead(), ""
	if !s.reload.follows {
		f.ofReload = ""
	}
}

// nothingNew ends a reload whose files, which c was read from, say what is in effect.
func (s *supervisor) nothingNew(c *config.Config) {
	mended := s.follow.problem != ""
	s.followed(c)
	if mended {
		s.log.Info("the credential files are again as they are in effect")
		s.feed(failover.Reconfigured{Problem: s.follow.problems()})
	}
	s.endReload(control.ReloadResponse{}, nil)
}
