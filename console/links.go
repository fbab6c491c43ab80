package console

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// links opens links to the supervisor for logins of admins. The reader of the console's own link calls take.
type links struct {
	log  *slog.Logger
	send func(ipc.Message) error

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan linkAnswer
}

// linkAnswer is the answer to a RemoteOpen.
type linkAnswer struct {
	link link
	err  error
}

var errNoLink = errors.New("the supervisor opens no link for a login")

// open returns a link that the supervisor has opened.
func (l *links) open() (link, error) {
	got := make(chan linkAnswer, 1)
	l.mu.Lock()
	l.lastID++
	id := l.lastID
	l.waiting[id] = got
	err := l.send(&ipc.RemoteOpen{ID: id})
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(linkLimit)
	defer late.Stop()
	select {
	case o := <-got:
		return o.link, o.err
	case <-late.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
	select {
	case o := <-got: // it came just now
		return o.link, o.err
	default:
		return nil, errNoLink
	}
}

// take takes an answer of the supervisor. It returns false for other messages.
func (l *links) take(env ipc.Envelope) bool {
	switch m := env.Message.(type) {
	case *ipc.RemoteOpened:
		l.answer(m.ID, env.FDs)
	case *ipc.RemoteBusy:
		l.answered(m.ID, linkAnswer{err: pgwire.RefusalManyAdmins.With()})
	default:
		return false
	}
	return true
}

func (l *links) answer(id uint64, fds []int) {
	if len(fds) != 1 {
		l.answered(id, linkAnswer{err: errors.New("no descriptor was free for a link")})
		return
	}
	conn, err := ipc.FromFD(fds[0], ipc.RoleRemote, ipc.RoleSupervisor, l.log)
	if err != nil {
		l.answered(id, linkAnswer{err: err})
		return
	}
	if !l.answered(id, linkAnswer{link: conn}) {
		conn.Close() // nobody waits any more
	}
}

func (l *links) answered(id uint64, o linkAnswer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.waiting[id]
	if got == nil {
		return false
	}
	delete(l.waiting, id)
	got <- o
	return true
}
