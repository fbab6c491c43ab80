package worker

import (
	"bytes"
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

const (
	// lingerLimit is how long a client may take to read its last message.
	lingerLimit = 2 * time.Second
	// farewellLimit is how long a backend may take to finish what a client requested before
	// its Terminate.
	farewellLimit = time.Minute
)

// sessionState is what a session is doing.
//
//	waiting --> adapting --> active --> leaving --> (gone)
//	   |           |          |  ^
//	   |           |       restoring
//	   |           |            |
//	   +-----------+------------+----> lingering --> (gone)
//
// An adapting or active session that needs another backend is waiting again. In the
// transaction pipeline an active session may have no backend. A waiting or active session may be
// moving to another process, which takes a turn or two of the loop; it goes on, or is gone.
type sessionState uint8

const (
	sessionWaiting   sessionState = iota // the session waits for a backend
	sessionAdapting                      // the backend is being prepared for the client
	sessionActive                        // bytes of the client are handled
	sessionRestoring                     // parameters that the client has reset are set again
	sessionLeaving                       // the client has left, the backend finishes its work
	sessionLingering                     // the client still has to read its last message
	sessionMoving                        // the session goes to another worker: see pass.go
	sessionGone
)

// session joins a client to a backend, from login to close.
type session struct {
	w       *worker
	c       *client
	client  *reactor.Conn
	backend *backend
	talk    relay.Conversation
	// stash are bytes from the client that wait for a backend, nil for none.
	stash  []byte
	login  *login
	waiter *waiter
	key    cancelKey
	timer  *reactor.Timer
	state  sessionState
	// flooded says that the client isn't read, because it waits for too many answers.
	flooded bool
	// welcomed says that the client was told that its login has succeeded.
	welcomed bool
	// cancelled says that a cancel request came for the statement in stash.
	cancelled bool
	// heard says that something came from the client since the last look: see watch.go.
	heard bool
	// halted says that the client isn't read, because its statement is being cancelled.
	halted bool
	// validating says that the backend is being tested for the session.
	validating bool
}

// newSession begins the session of an authenticated client, and takes over the connection.
// It returns nil if the process is ending.
func (w *worker) newSession(c *client, conn *reactor.Conn, l *login) *session {
	if w.exit != 0 {
		conn.Close()
		w.gone(c)
		return nil
	}
	s := &session{w: w, c: c, client: conn, login: l}
	c.since = uint32(time.Now().Unix())
	conn.SetHandler((*clientEnd)(s))
	switch {
	case w.cfg.Pipeline == "transaction":
		s.talk = w.shared.Pooled(c.id)
	case w.cfg.reader != nil:
		kept := w.shared.Kept(c.id, w.cfg.reader)
		kept.Asked(l.rest)
		w.keeps()
		s.talk = kept
	default:
		s.talk = w.shared.Direct(c.id, w.cfg.Failover)
	}
	c.conn, c.session = nil, s
	w.sessions++
	return s
}

// seek gives the session a backend from the shelf, or a place in the queue.
func (s *session) seek() { s.seekOn(0) }

// seekOn is seek for a session that has waited in another worker.
func (s *session) seekOn(waited time.Duration) {
	if s.cancelled {
		s.cancelStash()
		return
	}
	w := s.w
	if w.servers.Graceful || w.draining {
		s.refuse(pgwire.RefusalShutdown.With())
		return
	}
	s.state = sessionWaiting
	p, ok := w.shelf.Pool(pool.Key(s.login.key))
	w.carryOut()
	if !ok {
		s.refuse(pgwire.RefusalManyPools.With())
		return
	}
	if b := w.take(p, s.login.unconfirmed()); b != nil {
		s.attach(b)
		return
	}
	s.client.Watch()
	s.waiter = &waiter{requested: s.login.requested, login: s.login, session: s, refused: s.refuse}
	s.waiter.Pool, s.waiter.Bare, s.waiter.Waited = p, s.login.unconfirmed(), waited
	w.wait(s.waiter)
}

// refuse ends a session that gets no backend. But in the transaction pipeline, once the
// login is complete, only the statement fails and the session stays.
func (s *session) refuse(r *pgwire.Refused) {
	if !s.w.servers.Graceful && !s.w.draining && s.unserved(r.AppendError(nil)) {
		return
	}
	s.refused(r, r.Append(nil))
}

// refuseLogin is refuse for a session whose backend couldn't be opened because of err.
func (s *session) refuseLogin(err error) {
	if s.unserved(s.whyUnconnected(pgwire.SeverityError, err)) {
		return
	}
	s.refused(err, s.whyUnconnected(pgwire.SeverityFatal, err))
}

func (s *session) whyUnconnected(severity string, err error) []byte {
	if msg := auth.AppendRefusal(nil, severity, s.login.user, err); msg != nil {
		return msg
	}
	return auth.AppendRefusal(nil, severity, s.login.user, unconnected(err))
}

func (s *session) refused(why any, msg []byte) {
	s.w.log.Info("client refused", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
		"database", s.login.requested, "reason", why)
	s.say(msg)
}

// fromClient passes on a chunk from the client.
func (s *session) fromClient(data []byte) {
	s.heard = true
	p, err := s.talk.FromClient(data)
	s.hear(p, err)
}

// hear acts on a chunk from the client, and seeks a backend if the client needs one.
func (s *session) hear(p relay.Passed, err error) {
	b := s.backend
	if b != nil {
		b.conn.Send(p.ToServer)
		if p.Stand == relay.Busy {
			b.starts()
		}
	}
	s.client.Send(p.ToClient)
	s.flooded = p.Flooded
	s.throttle()
	switch {
	case err != nil:
		s.w.log.Warn("client broke the protocol", "client", s.c.id, "address", s.c.addr, "error", err)
		s.drop(pgwire.RefusalClientBroke.With(err))
	case p.Leaving:
		s.leave(true)
	case b != nil:
		s.boundary(p.Stand)
	case len(p.ToServer) > 0:
		s.stash = p.ToServer
		s.seek()
		if s.stash != nil { // no backend was free
			s.stash = bytes.Clone(s.stash)
		}
	}
}

// fromServer passes on a chunk from the server.
func (s *session) fromServer(data []byte) {
	b := s.backend
	p, err := s.talk.FromServer(data)
	s.w.hintCode(b, "session")
	if p.Stand != relay.Busy {
		b.answers(p.Stand)
	}
	if s.state == sessionActive {
		s.told(b, &p)
	}
	switch {
	case err != nil:
		s.w.log.Error("server broke the protocol", "server", s.w.serverName(b.server), "backend", b.pid, "error", err)
		s.drop(pgwire.RefusalServerBroke.With())
	case p.Leaving:
		s.leave(true)
	case s.state == sessionActive:
		s.boundary(p.Stand)
	case p.Stand != relay.Busy:
		s.release()
	}
}

// told sends what the server has sent to the client, and to the server what had to wait for
// that. It stops reading from the server if the client doesn't keep up.
func (s *session) told(b *backend, p *relay.Passed) {
	b.conn.Send(p.ToServer)
	s.client.Send(p.ToClient)
	if s.client.Full() {
		b.conn.Pause()
	}
	if s.flooded {
		s.flooded = p.Flooded
		s.listen()
	}
}

// boundary decides what to do with a session between two statements.
func (s *session) boundary(at relay.Stand) {
	if at == relay.Parting || at == relay.Resting {
		if sql := s.talk.Restore(&s.backend.Backend, &s.login.follow); sql != "" {
			s.restore(sql)
			return
		}
	}
	switch at {
	case relay.Parting:
		s.part()
	case relay.Resting:
		switch {
		case s.w.quiescing >= s.backend.Epoch:
			s.giveUp()
		case s.backend.Pool.Held(), s.backend.Flushed && s.mayReplace():
			s.moveAside()
		}
	}
	if s.w.passing.on {
		s.atRest(true)
	}
}

// leave handles the end of the client. After a Terminate (goodbye) the server finishes what
// the client has requested, as it does without a pool. The work of a client that vanished is
// cancelled.
func (s *session) leave(goodbye bool) {
	s.closeClient()
	if goodbye && s.backend != nil && s.talk.Stand() == relay.Busy && s.talk.Finishes() {
		s.state = sessionLeaving
		s.backend.conn.Resume()
		// A CopyFail ends a COPY, in which the server would wait for data for ever. Outside a
		// COPY the server ignores it.
		s.backend.conn.Send(pgwire.AppendMessage(nil, 'f', []byte("the client has left\x00")))
		s.timer = s.w.loop.After(farewellLimit, s.release)
		return
	}
	s.release()
}

// release ends a session. Its backend is reset for the next client, or closed.
func (s *session) release() {
	s.giveBack()
	s.finish()
}

// giveBack resets the backend for the next client, or closes it. The session ends.
func (s *session) giveBack() {
	w, b := s.w, s.backend
	switch {
	case b == nil:
	case s.talk.Stand() == relay.Busy || b.Private || b.Spoiled || w.draining:
		w.closeBackend(b)
		s.detach()
	default:
		s.talk.Part()
		b.Spoiled = b.Indelible
		w.stats.returned++
		s.detach()
		w.reset(b, b.Dirty || b.Sequences)
	}
}

// drop ends a session with an error and closes its backend.
func (s *session) drop(r *pgwire.Refused) {
	if s.interrupted(false, func() { s.drop(r) }) {
		return
	}
	if b := s.backend; b != nil {
		s.w.closeBackend(b)
		s.detach()
	}
	if s.state == sessionLeaving {
		s.finish()
		return
	}
	if s.state == sessionActive && s.talk.MidMessage() {
		s.closeClient() // the client would take an error for the rest of a message
		s.finish()
		return
	}
	s.say(r.Append(nil))
}

// say sends a last message. It closes the connection once the client has left or
// lingerLimit is over.
func (s *session) say(msg []byte) {
	s.state = sessionLingering
	s.timer.Stop()
	s.timer = s.w.loop.After(lingerLimit, func() {
		s.closeClient()
		s.finish()
	})
	s.client.Send(msg)
	if s.client.Queued() == 0 {
		s.client.CloseWrite()
	}
	s.client.Resume()
}

func (s *session) closeClient() {
	s.client.Close()
	s.w.stats.sessionTime(time.Since(s.c.start))
}

// finish forgets a session whose client is closed and which has no backend any more.
func (s *session) finish() {
	s.timer.Stop()
	if s.state == sessionGone {
		return
	}
	s.forget()
	s.w.gone(s.c)
	if s.c.leaves {
		s.w.disown(s.c.id)
	}
}

// forget removes everything of a session but its client.
func (s *session) forget() {
	s.state = sessionGone
	delete(s.w.passing.moves, s)
	if s.w.cancels[s.key.id()] == s {
		delete(s.w.cancels, s.key.id()) // also when the session never had a backend
	}
	s.talk.End()
	if s.welcomed {
		s.w.unshare(s.login)
	}
	s.w.sessions--
}

// clientEnd is the client's side of a session, as the loop sees it.
type clientEnd session

// Received takes bytes from the client. It drops them unless the session is active.
func (e *clientEnd) Received(data []byte) {
	if s := (*session)(e); s.state == sessionActive {
		s.fromClient(data)
	}
}

// Ended says that the client has gone.
func (e *clientEnd) Ended(err error) {
	s := (*session)(e)
	if s.w.debug() {
		s.w.log.Debug("client has gone", "client", s.c.id, "error", err)
	}
	switch s.state {
	case sessionWaiting:
		s.w.leave(s.waiter)
		s.closeClient()
		s.finish()
	case sessionAdapting, sessionRestoring:
		s.closeClient()
		b := s.backend
		s.w.closeBackend(b)
		s.detach()
		s.finish()
	case sessionActive:
		s.leave(false)
	case sessionMoving:
		s.interrupted(false, func() { s.leave(false) })
	default:
		s.closeClient()
		s.finish()
	}
}

// Flushed says that everything that was queued for the client has been sent.
func (e *clientEnd) Flushed() {
	s := (*session)(e)
	s.w.tryMove(s)
	switch {
	case s.w.passing.moves[s] != nil || s.state == sessionMoving:
	case s.state == sessionLingering:
		if s.client.Queued() == 0 {
			s.client.CloseWrite()
		}
	case s.backend != nil && s.state == sessionActive:
		s.backend.conn.Resume()
		s.listen()
	case s.state == sessionActive:
		s.client.Resume()
	}
}

// busy reports whether the server works for the session.
func (s *session) busy() bool { return s.talk.Stand() == relay.Busy }

// uncertain reports whether it is unknown whether the client's work was committed.
func (s *session) uncertain() bool { return s.talk.Uncertain() }

// badPassword reports whether an error means that the client's password was wrong.
func badPassword(err error) bool { return errors.Is(err, auth.ErrBadPassword) }
