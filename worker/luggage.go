package worker

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// What becomes of each field of a session that goes to another worker. Its conversation is in
// relay.Carried.
//
//	client   id, addr, minor, leaves   carried
//	         start, since, stood       carried as ages, so that time limits go on
//	         ask                       over: it belongs to the login
//	         conn                      nil after the login
//	login    user, database,           carried
//	         requested, follow, rest,
//	         key, unproven
//	         stored                    what a user has proven stays in this process: such a session
//	                                   isn't movable
//	         shares                    counted again
//	session  key                       carried
//	         stash                     carried
//	         state                     active, or waiting if the client waits for a backend;
//	                                   no other state is movable
//	         client, backend, talk     made anew
//	         waiter, timer             made anew; a waiting client keeps the time that it has waited, and with it
//	                                   its place among the others
//	         welcomed                  true: logins aren't movable
//	         heard                     false, which only delays a limit by a look
//	         flooded, halted,          false: otherwise the session isn't movable
//	         cancelled, validating
//	backend  shelved, server, pid,     carried as those of any backend (handover.go); Private and
//	         key, relay.Backend        Spoiled in Held
//	         since, unanswered, clock  begin anew
//	         conn, state, session      made anew
//	         fd, wired, parting        used only before and after the backend is in use
//	         script, cancel, cancelled nil: otherwise the session isn't movable
//	         leftovers                 the timer of an idle backend

// prepare packs everything that another worker must know of the session. It returns false if
// that is too much.
func (s *session) prepare(mv *move) bool {
	size := 0
	if b := mv.backend; b != nil {
		mv.out.Backend = b.portable()
		if size = sizeOf(&mv.out.Backend); size > maxState {
			return false
		}
	}
	state, err := ipc.PackSession(s.portable())
	switch {
	case err != nil || len(state) > ipc.MaxSessionState:
		return false
	case size+len(state) <= ipc.MaxSessionPacket:
		mv.out.State = state
		return true
	}
	mv.out.Mapped = int64(len(state))
	mv.memory, err = mapped(state)
	return err == nil
}

// portable returns the state that another worker needs.
func (s *session) portable() *ipc.SessionState {
	w, c, l := s.w, s.c, s.login
	st := &ipc.SessionState{
		Address: c.addr, Minor: c.minor, AgeMS: time.Since(c.start).Milliseconds(), Since: c.since, Leaves: c.leaves,
		StoodMS: (time.Duration(uint32(w.now()/tick)-c.stood.since) * tick).Milliseconds(), Load: uint8(c.stood.load), Cancelled: c.stood.cancelled,
		Login: ipc.SessionLogin{
			User: l.user, Database: l.database, Requested: l.requested, Follow: settingsOf(&l.follow),
			Rest: settingsIn(l.rest), Key: l.key, Unproven: l.unproven,
		},
		CancelPID: s.key.pid, CancelSecret: ipc.Secret(s.key.secret()),
		Talk: talkOf(s.talk.Carry()),
	}
	if s.state == sessionWaiting {
		st.Waiting, st.Unanswered = true, ipc.Secret(s.stash)
		st.WaitedMS = w.hasWaited(s.waiter).Milliseconds()
	}
	if b := s.backend; b != nil {
		h := b.Hold()
		st.Held = ipc.HeldBackend{
			Private: b.Private, Spoiled: b.Spoiled, Indelible: h.Indelible, Status: h.Status, Resets: h.Resets,
			Dirty: h.Dirty, Sequences: h.Sequences, Sets: h.MaySetFurther,
		}
	}
	return st
}

func settingsIn(list []pgwire.Param) []ipc.Setting {
	out := make([]ipc.Setting, len(list))
	for i, p := range list {
		out[i] = ipc.Setting{Name: p.Name, Value: p.Value}
	}
	return out
}

func paramsIn(list []ipc.Setting) []pgwire.Param {
	out := make([]pgwire.Param, len(list))
	for i, p := range list {
		out[i] = pgwire.Param{Name: p.Name, Value: p.Value}
	}
	return out
}

func talkOf(c relay.Carried) ipc.Talk {
	t := ipc.Talk{
		Keeps: c.Keeps, Moves: c.Moves, Touched: c.Touched,
		Tracked: c.Tracked, Initial: c.Initial, Untracked: c.Untracked, Unnamed: ipc.UnnamedStatement(c.Unnamed),
		Portal: c.Portal, Portals: c.Portals, Block: c.Block, Discarding: c.Discarding, Fails: c.Fails, Failure: c.Failure,
	}
	for _, n := range c.Named {
		t.Named = append(t.Named, ipc.NamedStatement(n))
	}
	k := &c.Keep
	t.Keep = ipc.KeptSession{
		On: k.On, Trusts: k.Trusts, Sets: assignments[ipc.Assignment](k.Sets), Pending: assignments[ipc.Assignment](k.Pending),
		Mark: k.Mark, Blind: k.Blind, Touched: k.Touched, Unseen: k.Unseen,
		Portal: packEffect(&k.Portal), Portals: packEffect(&k.Portals), Unnamed: packEffect(&k.Unnamed),
	}
	return t
}

// assignments converts between the forms of a message and of a conversation.
func assignments[To, From ipc.Assignment | relay.Assignment](list []From) (out []To) {
	for _, a := range list {
		out = append(out, To(a))
	}
	return out
}

func packEffect(e *relay.KeptEffect) ipc.KeptEffect {
	return ipc.KeptEffect{There: e.There, Sets: assignments[ipc.Assignment](e.Sets), Mark: e.Mark, Lasts: e.Lasts}
}

func effectFrom(e *ipc.KeptEffect) relay.KeptEffect {
	return relay.KeptEffect{There: e.There, Sets: assignments[relay.Assignment](e.Sets), Mark: e.Mark, Lasts: e.Lasts}
}

func carriedOf(t *ipc.Talk) *relay.Carried {
	c := &relay.Carried{
		Keeps: t.Keeps, Moves: t.Moves, Touched: t.Touched,
		Tracked: t.Tracked, Initial: t.Initial, Untracked: t.Untracked, Unnamed: relay.Unnamed(t.Unnamed),
		Portal: t.Portal, Portals: t.Portals, Block: t.Block, Discarding: t.Discarding, Fails: t.Fails, Failure: t.Failure,
	}
	for _, n := range t.Named {
		c.Named = append(c.Named, relay.Named(n))
	}
	k := &t.Keep
	c.Keep = relay.Keep{
		On: k.On, Trusts: k.Trusts, Sets: assignments[relay.Assignment](k.Sets), Pending: assignments[relay.Assignment](k.Pending),
		Mark: k.Mark, Blind: k.Blind, Touched: k.Touched, Unseen: k.Unseen,
		Portal: effectFrom(&k.Portal), Portals: effectFrom(&k.Portals), Unnamed: effectFrom(&k.Unnamed),
	}
	return c
}

// readerAgain returns what reads the texts of a kept session that was carried here. The key may say something else by
// now, for sessions that begin; those that began before have one reader together.
func (c *config) readerAgain(trusts bool) relay.Reader {
	if trusts {
		return relay.Trusting{}
	}
	if r, ok := c.reader.(*relay.Knowing); ok {
		return r
	}
	if c.former == nil {
		c.former = relay.NewKnowing(c.KeepFunctions)
	}
	return c.former
}

// login returns the login that was carried here.
func loginFrom(m *ipc.SessionLogin) *login {
	return &login{
		user: m.User, database: m.Database, requested: m.Requested, follow: paramsFrom(m.Follow), rest: paramsIn(m.Rest),
		key: m.Key, unproven: m.Unproven,
	}
}

var errClaims = errors.New("the state says something that can't be")

// ageOf reports whether a number of milliseconds can be how long something has lasted: up to a hundred years.
func ageOf(ms int64) bool {
	const most = 100 * 365 * 24 * time.Hour
	return ms >= 0 && ms <= most.Milliseconds()
}

// checkState says what is wrong with a state, beyond what relay.Continue checks.
func checkState(st *ipc.SessionState, backend *ipc.BackendState) error {
	switch {
	case !givenLength(len(st.CancelSecret)), !ageOf(st.AgeMS), !ageOf(st.StoodMS), !ageOf(st.WaitedMS):
		return errClaims
	case st.Load > uint8(relay.Statement), st.Login.Key.Size() > ipc.MaxKey:
		return errClaims
	case backend != nil && (st.Waiting || backend.Key != st.Login.Key):
		return errClaims
	case backend == nil && st.Talk.Keeps, st.Talk.Keeps && st.Talk.Keep.On, st.Waiting && st.Unanswered == "":
		return errClaims
	}
	return nil
}
