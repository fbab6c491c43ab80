package worker

import (
	"container/list"
	"crypto/hmac"
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// With auth_query this worker authenticates users that no file has, too:
//
//  1. storedUser asks the supervisor for what the servers store of the user's password,
//     unless it knows that already.
//  2. authenticateStored has the client prove the password against that. What the client
//     proves is enough to log in to the servers as that user, without the password.
//  3. The first client with it gets a backend of its own (session.seek), because the prober,
//     or a standby that lies, may have made the answer up. Once the primary has let it in,
//     confirm lets such clients have the user's idle backends, too.
//  4. proofOf finds the proof for a new backend, however long ago the client logged in.
//  5. doubt and disprove have the servers asked again after a login that failed.

// doubtAfter is how long an answer is believed in any case, so that wrong passwords make
// this worker ask about a user once a second at most.
const doubtAfter = time.Second

// keptForKnown is how many of the open requests are for users who were found before, so that
// made-up names can't keep those out.
const keptForKnown = ipc.MaxStoredRequests / 4

var (
	errStoredLate  = errors.New("there was no answer in time")
	errManyStored  = errors.New("too many users are looked up")
	errNoStored    = errors.New("the servers store no password of the user that it may log in with")
	errMD5Off      = errors.New("the user's password is stored as an MD5 hash, and md5 is off")
	errNotScramMD5 = errors.New("the user's password is stored as an MD5 hash, and the rule asks for scram-sha-256")
)

// storedOf identifies a stored password. The database is empty if auth_query asks in one
// database for all.
type storedOf struct{ user, database string }

// storedUser is an answer of the supervisor. It belongs to the loop.
type storedUser struct {
	of     storedOf
	stored auth.Stored // the zero value if the user has no password, or doesn't exist
	exists bool
	// look is how a client is asked for a password that can't be right. It stays the same for
	// a name, because a user's does.
	look auth.Look
	at   time.Time // when the answer came; zero if the servers have to be asked again
	// proof is what a client has proven, nil for nothing. It goes with the stored password.
	proof *auth.Proof
	mark  []byte // of the cleartext password with which that was proven
	// confirmed says that the primary has let a client in with that proof.
	confirmed bool
	place     *list.Element
}

// storedUsers are the answers of the supervisor and the open requests. It belongs to the
// loop.
type storedUsers struct {
	lastID uint64
	asked  map[uint64]storedOf
	asking map[storedOf][]*storedWaiter
	// Users that don't exist have a cache of their own: a flood of made-up names must not
	// push out the others.
	existing, missing storedCache
	look              auth.Look // of the last user that exists
	// held are the logins that wait for the end of a pause, maxSpared at most.
	held map[*heldLookUp]struct{}
}

// heldLookUp is a login that waits for the end of a pause.
type heldLookUp struct {
	of     storedOf
	resume func()
}

// storedWaiter is a login that waits for an answer.
type storedWaiter struct {
	told  func(*storedUser, error) // nil once it was called
	timer *reactor.Timer
}

func newStoredUsers() *storedUsers {
	return &storedUsers{
		asked: map[uint64]storedOf{}, asking: map[storedOf][]*storedWaiter{}, held: map[*heldLookUp]struct{}{},
		existing: storedCache{users: map[storedOf]*storedUser{}}, missing: storedCache{users: map[storedOf]*storedUser{}},
	}
}

// storedCache keeps the answers that were used most recently.
type storedCache struct {
	users  map[storedOf]*storedUser
	recent list.List // most recently used first
}

func (c *storedCache) get(of storedOf) *storedUser {
	u := c.users[of]
	if u != nil {
		c.recent.MoveToFront(u.place)
	}
	return u
}

func (c *storedCache) put(u *storedUser, most int) {
	c.drop(u.of)
	c.users[u.of], u.place = u, c.recent.PushFront(u)
	for len(c.users) > most {
		c.drop(c.recent.Back().Value.(*storedUser).of)
	}
}

func (c *storedCache) drop(of storedOf) {
	if u := c.users[of]; u != nil {
		c.recent.Remove(u.place)
		delete(c.users, of)
	}
}

// looksUp reports whether the user is authenticated by what the servers store.
func (c *config) looksUp(user string) bool { return c.AuthQuery.On && !c.checked(user) }

// storedMethod returns how a client proves a stored password. All rules ask for a proof,
// because without one there is no way to log in to the servers. The method MD5 is for
// passwords that are stored as an MD5 hash; others are proven by SCRAM.
func storedMethod(m auth.Method) auth.Method {
	if m == auth.Password || m == auth.SCRAM {
		return m
	}
	return auth.MD5
}

// storedUser returns what the servers store of the password of l's user. An error says
// nothing about the user.
func (s *setup) storedUser(l *login) (u *storedUser, err error) {
	of := storedOf{user: l.user}
	if s.cfg.AuthQuery.InClients {
		of.database = l.database
	}
	if u = s.w.knownStored(of); u != nil {
		return u, nil
	}
	for begun := s.c.start; ; {
		if s.w.mayWaitForLookUp(of) {
			if err := s.waitForLookUp(of); err != nil {
				return nil, err
			}
			begun = time.Now()
		}
		// The rest of the time is for the client, which is to read the error.
		limit := (ms(s.cfg.AuthenticationTimeoutMS) - time.Since(begun)) * 3 / 4
		s.d.await(func(done func()) {
			s.w.askStored(of, limit, func(answer *storedUser, failure error) {
				u, err = answer, failure
				done()
			})
		})
		if err == nil {
			return u, nil
		}
		// A pause that has begun meanwhile is no fault of the client's.
		if !s.w.mayWaitForLookUp(of) {
			return nil, &refusal{pgwire.RefusalNoLookUp.With(l.user), "auth_query: " + err.Error()}
		}
	}
}

// waitForLookUp waits for the end of a pause, in which no server may be asked. Afterwards the
// time limit of the authentication starts again.
func (s *setup) waitForLookUp(of storedOf) error {
	wt := &heldLookUp{of: of}
	s.d.awaitUnlessGone(func(done func()) {
		wt.resume = done
		s.w.stored.held[wt] = struct{}{}
	})
	delete(s.w.stored.held, wt)
	return s.conn.SetDeadline(time.Now().Add(ms(s.cfg.AuthenticationTimeoutMS)))
}

// mayWaitForLookUp reports whether a look-up waits for the end of a pause. If too many wait
// already, it takes its chance.
func (w *worker) mayWaitForLookUp(of storedOf) bool {
	return w.heldDatabase(of.database) && !w.draining && len(w.stored.held) < maxSpared
}

// resumed lets those go on whose pause is over.
func (x *storedUsers) resumed(w *worker) {
	for wt := range x.held {
		if !w.heldDatabase(wt.of.database) {
			wt.resume()
		}
	}
}

// knownStored returns an answer that still counts, or nil.
func (w *worker) knownStored(of storedOf) *storedUser {
	x := w.stored
	u := x.existing.get(of)
	if u == nil {
		u = x.missing.get(of)
	}
	if u == nil || u.at.IsZero() || w.loop.Now().Sub(u.at) >= ms(w.cfg.AuthQuery.MaxAgeMS) {
		return nil
	}
	return u
}

// askStored asks the supervisor, unless the same request is already open. It calls told
// within limit.
func (w *worker) askStored(of storedOf, limit time.Duration, told func(*storedUser, error)) {
	x := w.stored
	waiting, open := x.asking[of]
	known, most := x.existing.get(of) != nil, ipc.MaxStoredRequests
	if !known {
		most -= keptForKnown
	}
	switch {
	case limit < time.Millisecond:
		told(nil, errStoredLate)
		return
	case !open && len(x.asked) >= most:
		told(nil, errManyStored)
		return
	}
	wt := &storedWaiter{told: told}
	wt.timer = w.loop.After(limit, func() { wt.tell(nil, errStoredLate) })
	x.asking[of] = append(waiting, wt)
	if open {
		return
	}
	x.lastID++
	x.asked[x.lastID] = of
	w.send(&ipc.StoredRequest{ID: x.lastID, User: of.user, Database: of.database, TimeoutMS: limit.Milliseconds(), Known: known})
}

func (wt *storedWaiter) tell(u *storedUser, err error) {
	told := wt.told
	if told == nil {
		return
	}
	wt.told = nil
	wt.timer.Stop()
	told(u, err)
}

func (w *worker) onStoredAnswer(m *ipc.StoredAnswer) {
	x := w.stored
	of, ok := x.asked[m.ID]
	if !ok {
		return
	}
	waiting := x.asking[of]
	delete(x.asked, m.ID)
	delete(x.asking, of)
	var u *storedUser
	err := errors.New(m.Error)
	if m.Error == "" {
		u, err = w.learnStored(of, m.Stored.Reveal())
	}
	for _, wt := range waiting {
		wt.tell(u, err)
	}
}

// learnStored takes over an answer. If the stored password has changed, what clients have
// proven is forgotten.
func (w *worker) learnStored(of storedOf, text string) (*storedUser, error) {
	u := &storedUser{of: of, at: w.loop.Now()}
	if text != "" {
		stored, err := auth.ParseStored(text)
		if err != nil {
			return nil, fmt.Errorf("the statement returns %w", err)
		}
		u.stored, u.exists = stored, true
	}
	x, most := w.stored, w.cfg.AuthQuery.MaxUsers
	x.dress(u, w.cfg.AuthQuery.MD5)
	if old := x.existing.get(of); old != nil {
		if u.exists && old.stored.Is(u.stored) {
			old.at = u.at
			return old, nil
		}
		old.proof, old.mark = nil, nil
	}
	x.existing.drop(of)
	x.missing.drop(of)
	if u.exists {
		x.existing.put(u, most)
	} else {
		x.missing.put(u, most)
	}
	return u, nil
}

// dress gives u the look of the other users that may log in.
func (x *storedUsers) dress(u *storedUser, md5 bool) {
	if u.exists && (md5 || !u.stored.Hashed()) {
		x.look = u.stored.Look(x.look)
	}
	u.look = x.look
	if old := x.missing.get(u.of); old != nil && !u.exists {
		u.look = old.look
	}
}

// authenticateStored authenticates a client by what the servers store of its password. For
// a user that doesn't exist it does what it does for a wrong password.
func (s *setup) authenticateStored(l *login, method auth.Method) error {
	u, err := s.storedUser(l)
	if err != nil {
		return err
	}
	why := u.unusable(s.cfg, method)
	proof, err := s.proveStored(l, u, method, why == nil)
	if err == nil && s.w.replaced(u) {
		err = auth.ErrBadPassword
	}
	if err == nil {
		u.proof, l.stored = proof, u
		return nil
	}
	if badPassword(err) {
		s.w.doubt(u)
		if why != nil {
			return fmt.Errorf("%w: %w", why, err)
		}
	}
	return err
}

// unusable says why no password can be right, nil if one can.
func (u *storedUser) unusable(cfg *config, method auth.Method) error {
	switch {
	case !u.exists:
		return errNoStored
	case u.stored.Hashed() && !cfg.AuthQuery.MD5:
		return errMD5Off
	case u.stored.Hashed() && method == auth.SCRAM:
		return errNotScramMD5
	}
	return nil
}

// proveStored has the client prove its password. usable says that there is a right one.
func (s *setup) proveStored(l *login, u *storedUser, method auth.Method, usable bool) (proof *auth.Proof, err error) {
	stored := u.stored
	if !usable {
		stored = auth.Stored{}
	}
	switch {
	case method == auth.Password:
		var broken error
		err = auth.ServePassword(s.conn, func(password string) bool {
			proof, broken = s.checkStored(l.user, u, stored, password)
			return proof != nil
		})
		if broken != nil {
			err = broken
		}
		return proof, err
	case stored.Hashed(), !usable && u.look.Hashed() && method == auth.MD5 && s.cfg.AuthQuery.MD5:
		return auth.ServeMD5(s.conn, stored)
	}
	return auth.ProveSCRAM(s.conn, s.cfg.verifiers.Verifier(l.user, stored, u.look), s.endPoint())
}

// checkStored checks a cleartext password. Unless it was right before, that takes a
// derivation of keys, which runs in a goroutine.
func (s *setup) checkStored(user string, u *storedUser, stored auth.Stored, password string) (proof *auth.Proof, err error) {
	vs := s.cfg.verifiers
	mark := vs.Mark(user, password)
	if u.proof != nil && stored.Is(u.stored) && hmac.Equal(mark, u.mark) {
		return u.proof, nil
	}
	s.d.await(func(done func()) {
		elsewhere(s.w, func() (*auth.Proof, error) {
			s.w.secrets.deriving <- struct{}{}
			defer func() { <-s.w.secrets.deriving }()
			return vs.Check(user, password, stored, u.look), nil
		}, func(p *auth.Proof, failure error) {
			proof, err = p, failure
			done()
		})
	})
	if proof != nil {
		u.mark = mark
	}
	return proof, err
}

// doubt has the servers asked again at the next login, because this one has failed: the
// password may have changed.
func (w *worker) doubt(u *storedUser) {
	if w.loop.Now().Sub(u.at) >= doubtAfter {
		u.at = time.Time{}
	}
}

// reconfigured has the servers asked again about everybody, because the new configuration may
// name another statement. on says whether users are still looked up.
func (x *storedUsers) reconfigured(on bool) {
	for _, c := range []*storedCache{&x.existing, &x.missing} {
		for of, u := range c.users {
			u.at = time.Time{}
			if !on {
				c.drop(of)
			}
		}
	}
}

// replaced reports whether the servers store another password by now.
func (w *worker) replaced(u *storedUser) bool {
	now := w.stored.existing.get(u.of)
	return now != nil && now != u && !now.stored.Is(u.stored) || w.stored.missing.get(u.of) != nil
}

// unconfirmed reports whether no server has let anybody in yet with what the client has
// proven.
func (l *login) unconfirmed() bool { return l.stored != nil && !l.stored.confirmed }

// confirm notes that the primary has let a client in with the proof of u, so that u is what
// the primary stores. A primary that asks for no password confirms everything; its users have
// no other protection than what is looked up.
func (w *worker) confirm(u *storedUser) {
	if u == nil || u.confirmed {
		return
	}
	u.confirmed = true
	w.shelf.Prove(func(x *pool.Waiter) bool {
		wt := x.Of.(*waiter)
		return wt.session != nil && wt.login.stored == u
	}, w.now())
}

// proofOf returns the Credential for a login to a server as a user that was looked up, and
// what it proves; nil for other users. Of a user who was let in once the latest proof counts,
// whoever has given it.
func (w *worker) proofOf(l *login) (*auth.Proof, *storedUser) {
	if l == nil || l.stored == nil {
		return nil, nil
	}
	u := l.stored
	if now := w.stored.existing.get(u.of); now != nil && u.confirmed {
		u = now
	}
	if u.proof == nil { // the password has changed since
		return &auth.Proof{}, u
	}
	return u.proof, u
}

// disprove has the servers asked again, because one of them didn't let a user in.
func (w *worker) disprove(l *login, err error) {
	var se *auth.ServerError
	refused := errors.As(err, &se) && (se.Fields.Code == pgwire.CodeInvalidPassword || se.Fields.Code == pgwire.CodeInvalidAuthorization)
	if l == nil || l.stored == nil || !refused && !errors.Is(err, auth.ErrStale) {
		return
	}
	if u := w.stored.existing.get(l.stored.of); u != nil {
		u.at = time.Time{}
	}
}
