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
	used  map[*kept]bool
	stops map[int]int // how often Stop was called, by server
	sweep *time.Timer // nil without a free session
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
	return &LookUps{idle: lookUpIdle, used: map[*kept]bool{}, stops: map[int]int{}}
}

// Stored executes a statement with the name of a user as $1, as the target's first login. It returns the last column of
// the only row, and nothing if that is NULL or there is no row. It returns within t.Timeout, or at once when ctx ends. A
// session that turns out to be dead is replaced once. keep is how many sessions may stay open for further look-ups.
func (x *LookUps) Stored(ctx context.Context, server int, t Target, statement, user string, keep int) (string, error) {
	if len(t.Logins) == 0 {
		return "", errors.New("there is no user to look up as")
	}
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	k, stops := x.take(sessionOf{server, t.Network, t.Address, t.Logins[0]}, keep)
	reused := k.session != nil
	stored, err := x.ask(ctx, k, stops, t, statement, user, keep)
	if lost, _ := errors.AsType[*lostError](err); lost != nil && reused && ctx.Err() == nil && !errors.Is(err, errStopped) {
		k, stops = x.begin(k.of, keep)
		stored, err = x.ask(ctx, k, stops, t, statement, user, keep)
	}
	return stored, err
}

// ask does one look-up over k, which it opens first if need be, and keeps or closes k.
func (x *LookUps) ask(ctx context.Context, k *kept, stops int, t Target, statement, user string, keep int) (stored string, err error) {
	if k.session == nil {
		p := prober{ctx: ctx, target: t}
		s, err := p.login(k.of.login, "application_name", lookUpName, "statement_timeout", lookUpLimit)
		if err != nil {
			x.forget(k)
			return "", err
		}
		x.mu.Lock()
		k.session = s
		x.mu.Unlock()
	} else {
		k.release = watch(ctx, k.conn)
	}
	if x.stopped(k.of.server, stops) {
		err = errStopped
	} else {
		stored, err = k.lookUp(statement, user)
	}
	lost, _ := errors.AsType[*lostError](err)
	if x.stopped(k.of.server, stops) {
		err, lost = errStopped, &lostError{errStopped}
	}
	k.release()
	k.release = func() {}
	x.give(k, stops, lost == nil && ctx.Err() == nil, keep)
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
func (x *LookUps) take(of sessionOf, keep int) (k *kept, stops int) {
	x.mu.Lock()
	for i, k := range slices.Backward(x.free) {
		if k.of == of {
			x.free = slices.Delete(x.free, i, i+1)
			x.used[k] = true
			defer x.mu.Unlock()
			return k, x.stops[of.server]
		}
	}
	x.mu.Unlock()
	return x.begin(of, keep)
}

// begin begins a session, and closes the free ones for which there is no room beside it.
func (x *LookUps) begin(of sessionOf, keep int) (k *kept, stops int) {
	x.mu.Lock()
	k = &kept{of: of, born: time.Now()}
	x.used[k] = true
	stops = x.stops[of.server]
	ended := x.surplus(keep)
	x.mu.Unlock()
	closeAll(ended)
	return k, stops
}

// surplus takes away the free sessions that are more than keep together with those in use.
func (x *LookUps) surplus(keep int) (ended []*kept) {
	for len(x.free)+len(x.used) > keep && len(x.free) > 0 {
		ended = append(ended, x.free[0])
		x.free = slices.Delete(x.free, 0, 1)
	}
	return ended
}

func (x *LookUps) forget(k *kept) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.used, k)
}

func (x *LookUps) stopped(server, stops int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stops[server] != stops
}

// give makes a session free, or closes it if it is of no more use.
func (x *LookUps) give(k *kept, stops int, good bool, keep int) {
	k.last = time.Now()
	var ended []*kept
	x.mu.Lock()
	delete(x.used, k)
	if good && k.last.Sub(k.born) < lookUpAge && x.stops[k.of.server] == stops {
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
	x.stops[server]++
	var ended []*kept
	x.free = slices.DeleteFunc(x.free, func(k *kept) bool {
		if k.of.server == server {
			ended = append(ended, k)
		}
		return k.of.server == server
	})
	for k := range x.used {
		if k.of.server == server && k.session != nil {
			_ = k.conn.SetDeadline(time.Unix(1, 0))
		}
	}
	x.mu.Unlock()
	closeAll(ended)
}

// Close closes the free sessions.
func (x *LookUps) Close() {
	x.mu.Lock()
	ended := x.free
	x.free = nil
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
