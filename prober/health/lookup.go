package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// lookUpName is the application_name of sessions for look-ups.
	lookUpName = "pgagroal auth_query"
	// lookUpIdle is how long a session for look-ups is kept without use, lookUpAge how long at all, so that changes of
	// the role and of pg_hba.conf take effect.
	lookUpIdle = time.Minute
	lookUpAge  = 10 * time.Minute
	// lookUpLimit is the statement_timeout of such a session, in milliseconds. The look-up that opens it may have less
	// time, but later ones use it as well.
	lookUpLimit = "10000"
)

// SQLSTATEs of a text that isn't valid in the client's encoding, or doesn't exist in the database's, and of a database that
// doesn't exist.
const (
	codeNotInRepertoire = "22021"
	codeUntranslatable  = "22P05"
	codeNoDatabase      = "3D000"
)

// NoDatabase reports whether a look-up has failed because its database doesn't exist.
func NoDatabase(err error) bool {
	said, _ := errors.AsType[*auth.ServerError](err)
	return said != nil && said.Fields.Code == codeNoDatabase
}

// errStopped ends a look-up when its server may not be asked any more.
var errStopped = errors.New("the server may not be asked any more")

// LookUps keeps sessions for look-ups of stored passwords. It is safe for concurrent use.
type LookUps struct {
	idle time.Duration // lookUpIdle, except in tests

	mu    sync.Mutex
	free  []*kept // the least recently used first
	used  int     // sessions that are not free
	turns map[int]Turn
	sweep *time.Timer // nil without a free session
}

// Turn is the permission to look up at a server. It ends with the next Stop.
type Turn struct {
	server int
	ctx    context.Context
	end    context.CancelFunc
}

// kept is a session for look-ups.
type kept struct {
	*session
	of         sessionOf
	born, last time.Time
}

// sessionOf says which look-ups a session is good for.
type sessionOf struct {
	server           int
	network, address string
	login            Login
}

// NewLookUps returns LookUps without a session.
func NewLookUps() *LookUps {
	return &LookUps{idle: lookUpIdle, turns: map[int]Turn{}}
}

// Turn returns the permission to look up at a server. Whoever asks for it in the order in which stops come, can't look up
// after a stop.
func (x *LookUps) Turn(server int) Turn {
	x.mu.Lock()
	defer x.mu.Unlock()
	t, ok := x.turns[server]
	if !ok {
		t.server = server
		t.ctx, t.end = context.WithCancel(context.Background())
		x.turns[server] = t
	}
	return t
}

// Stored executes a statement with the name of a user as $1, as the target's first login. It returns the last column of
// the only row, and nothing if that is NULL or there is no row. It returns within t.Timeout, or at once when ctx or turn ends. A
// session that turns out to be dead is replaced once. keep is how many sessions may stay open for further look-ups.
func (x *LookUps) Stored(ctx context.Context, turn Turn, t Target, statement, user string, keep int) (string, error) {
	if len(t.Logins) == 0 {
		return "", errors.New("there is no user to look up as")
	}
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	defer context.AfterFunc(turn.ctx, cancel)()
	if turn.ctx.Err() != nil {
		return "", errStopped
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	k := x.take(sessionOf{turn.server, t.Network, t.Address, t.Logins[0]}, keep)
	reused := k.session != nil
	stored, err := x.ask(ctx, k, turn, t, statement, user, keep)
	if lost, _ := errors.AsType[*lostError](err); lost != nil && reused && ctx.Err() == nil && turn.ctx.Err() == nil {
		stored, err = x.ask(ctx, x.begin(k.of, keep), turn, t, statement, user, keep)
	}
	if turn.ctx.Err() != nil {
		return "", errStopped
	}
	return stored, err
}

// ask does one look-up over k, which it opens first if need be, and keeps or closes k.
func (x *LookUps) ask(ctx context.Context, k *kept, turn Turn, t Target, statement, user string, keep int) (stored string, err error) {
	if k.session == nil {
		p := prober{ctx: ctx, target: t}
		s, err := p.login(k.of.login, "application_name", lookUpName, "statement_timeout", lookUpLimit)
		if err != nil {
			x.forget()
			return "", err
		}
		k.session = s
	} else {
		k.release = watch(ctx, k.conn)
	}
	stored, err = k.lookUp(statement, user)
	lost, _ := errors.AsType[*lostError](err)
	k.release()
	k.release = func() {}
	x.give(k, turn, lost == nil && ctx.Err() == nil, keep)
	return stored, err
}

func (s *session) lookUp(statement, user string) (string, error) {
	msg, err := encode(
		&pgproto3.Parse{Query: statement}, &pgproto3.Bind{Parameters: [][]byte{[]byte(user)}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if err != nil {
		return "", err
	}
	s.put(msg)
	rows, err := s.answer()
	switch {
	case err != nil:
		return "", statementError(err)
	case len(rows) == 0:
		return "", nil
	case len(rows) > 1:
		return "", errors.New("the statement returns more than one row for a user")
	case len(rows[0]) == 0:
		return "", errors.New("the statement returns no column")
	}
	stored := rows[0][len(rows[0])-1]
	if len(stored) > ipc.MaxStored {
		return "", errors.New("the statement returns more than a stored password")
	}
	return stored, nil
}

// statementError returns the error for a statement that failed, or nil for the name of a user that the database can't
// even represent, so that it has no such user.
func statementError(err error) error {
	lost, _ := errors.AsType[*lostError](err)
	said, _ := errors.AsType[*auth.ServerError](err)
	if lost != nil || said == nil {
		return fmt.Errorf("execute the statement: %w", err)
	}
	f := said.Fields
	if f.Code == codeNotInRepertoire || f.Code == codeUntranslatable {
		return nil
	}
	return fmt.Errorf("the statement fails: %s %s: %s", f.Severity, f.Code, f.Message)
}

func encode(messages ...pgproto3.FrontendMessage) (b []byte, err error) {
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			return nil, &localError{err}
		}
	}
	return b, nil
}

// take returns a free session, the most recently used one, or begins one that is still to be opened.
func (x *LookUps) take(of sessionOf, keep int) *kept {
	x.mu.Lock()
	for i, k := range slices.Backward(x.free) {
		if k.of == of {
			x.free = slices.Delete(x.free, i, i+1)
			x.used++
			x.mu.Unlock()
			return k
		}
	}
	x.mu.Unlock()
	return x.begin(of, keep)
}

// begin begins a session, and closes the free ones for which there is no room beside it.
func (x *LookUps) begin(of sessionOf, keep int) *kept {
	x.mu.Lock()
	x.used++
	ended := x.surplus(keep)
	x.mu.Unlock()
	closeAll(ended)
	return &kept{of: of, born: time.Now()}
}

// surplus takes away the free sessions that are more than keep together with those in use.
func (x *LookUps) surplus(keep int) (ended []*kept) {
	for len(x.free)+x.used > keep && len(x.free) > 0 {
		ended = append(ended, x.free[0])
		x.free = slices.Delete(x.free, 0, 1)
	}
	return ended
}

func (x *LookUps) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used--
}

// give makes a session free, or closes it if it is of no more use.
func (x *LookUps) give(k *kept, turn Turn, good bool, keep int) {
	k.last = time.Now()
	var ended []*kept
	x.mu.Lock()
	x.used--
	if good && k.last.Sub(k.born) < lookUpAge && turn.ctx.Err() == nil {
		x.free = append(x.free, k)
	} else {
		ended = append(ended, k)
	}
	ended = append(ended, x.surplus(keep)...)
	if x.sweep == nil && len(x.free) > 0 {
		x.sweep = time.AfterFunc(x.idle, x.closeIdle)
	}
	x.mu.Unlock()
	closeAll(ended)
}

// closeIdle closes the sessions that weren't used for a while.
func (x *LookUps) closeIdle() {
	x.mu.Lock()
	now := time.Now()
	var ended []*kept
	x.free = slices.DeleteFunc(x.free, func(k *kept) bool {
		idle := now.Sub(k.last) >= x.idle
		if idle {
			ended = append(ended, k)
		}
		return idle
	})
	x.sweep = nil
	if len(x.free) > 0 {
		x.sweep = time.AfterFunc(x.free[0].last.Add(x.idle).Sub(now), x.closeIdle)
	}
	x.mu.Unlock()
	closeAll(ended)
}

// Stop closes all sessions with a server, and lets the look-ups there fail that are under way.
func (x *LookUps) Stop(server int) {
	x.mu.Lock()
	if t, ok := x.turns[server]; ok {
		t.end()
		delete(x.turns, server)
	}
	var ended []*kept
	x.free = slices.DeleteFunc(x.free, func(k *kept) bool {
		if k.of.server == server {
			ended = append(ended, k)
		}
		return k.of.server == server
	})
	x.mu.Unlock()
	closeAll(ended)
}

// Close closes the free sessions, and ends the look-ups.
func (x *LookUps) Close() {
	x.mu.Lock()
	ended := x.free
	x.free = nil
	for _, t := range x.turns {
		t.end()
	}
	if x.sweep != nil {
		x.sweep.Stop()
		x.sweep = nil
	}
	x.mu.Unlock()
	closeAll(ended)
}

func closeAll(list []*kept) {
	for _, k := range list {
		k.close()
	}
}
