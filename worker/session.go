package worker

import (
	"bytes"
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

const (
	// lingerLimit is how long a client may take to read its last message.
	lingerLimit = 2 * time.Second
	// farewellLimit is how long a backend may take to finish what a client asked
	// for before it said goodbye.
	farewellLimit = time.Minute
)

// sessionState says what a client is doing.
//
//	waiting --> adapting --> active --> leaving --> (gone)
//	   |           |            |
//	   +-----------+------------+----> lingering --> (gone)
type sessionState uint8

const (
	sessionWaiting   sessionState = iota // for a backend
	sessionAdapting                      // its backend is given its parameters
	sessionActive                        // talks to its backend
	sessionLeaving                       // the client has gone, its backend finishes
	sessionLingering                     // reads its last message
	sessionGone
)

// session joins a client to a backend, from login to close.
type session struct {
	w       *worker
	c       *client
	client  *reactor.Conn
	backend *backend
	talk    relay.Conversation
	// stash is what the client has said that waits for a backend, nil for nothing.
	stash  []byte
	login  *login
	waiter *waiter
	key    cancelKey
	since  int64 // when it was let in or began to wait, Unix seconds
	timer  *reactor.Timer
	state  sessionState
	// flooded: the client is owed so much that it isn't listened to.
	flooded bool
	// welcomed: the login is over, as the client sees it.
	welcomed bool
}

// newSession lets a client in, whose connection nobody else uses any more. It returns
// nil when the process ends.
func (w *worker) newSession(c *client, conn *reactor.Conn, l *login) *session {
	if w.exit != 0 {
		conn.Close()
		w.gone(c)
		return nil
	}
	s := &session{w: w, c: c, client: conn, login: l, since: time.Now().Unix()}
	conn.SetHandler((*clientEnd)(s))
	if w.cfg.Pipeline == "transaction" {
		s.talk = w.shared.Pooled(c.id)
	} else {
		s.talk = w.shared.Direct(c.id, w.cfg.Failover)
	}
	c.conn, c.session = nil, s
	w.sessions++
	return s
}

// seek gets the session a backend: one from the shelf, or a place in the queue.
func (s *session) seek() {
	w := s.w
	if w.servers.Graceful || w.draining {
		s.refuse(pgwire.CodeTooManyConnections, "connection refused")
		return
	}
	s.state = sessionWaiting
	p := w.pool(s.login.key)
	if b := w.take(p); b != nil {
		s.attach(b)
		return
	}
	s.client.Watch()
	s.waiter = &waiter{pool: p, requested: s.login.requested, login: s.login, session: s, refused: s.refuse}
	w.wait(s.waiter)
}

// refuse says no to a client that hasn't been let in, and closes. A client of the
// transaction pipeline that has been in stays, with an error for what it wanted.
func (s *session) refuse(code, message string) {
	if !s.w.servers.Graceful && !s.w.draining && s.unserved(&relay.Failure{Code: code, Message: message}) {
		return
	}
	s.refused(message, pgwire.AppendError(nil, pgwire.SeverityFatal, code, message))
}

// refuseLogin passes on why the server, or our login to it, failed.
func (s *session) refuseLogin(err error) {
	if s.unserved(s.failureOf(err)) {
		return
	}
	msg := auth.AppendRefusal(nil, s.login.user, err)
	if msg == nil {
		msg = pgwire.AppendError(nil, pgwire.SeverityFatal, pgwire.CodeTooManyConnections, "connection refused")
	}
	s.refused(err, msg)
}

func (s *session) refused(why any, msg []byte) {
	s.w.log.Info("client refused", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
		"database", s.login.requested, "reason", why)
	s.say(msg)
}

// fromClient passes on what the client says.
func (s *session) fromClient(data []byte) {
	p, err := s.talk.FromClient(data)
	s.heard(p, err)
}

// heard goes on with what a client has said, and gets it a backend if it needs one.
func (s *session) heard(p relay.Passed, err error) {
	b := s.backend
	if b != nil {
		b.conn.Send(p.ToServer)
	}
	s.client.Send(p.ToClient)
	s.flooded = p.Flooded
	s.throttle()
	switch {
	case err != nil:
		s.w.log.Warn("client broke the protocol", "client", s.c.id, "address", s.c.addr, "error", err)
		s.drop(pgwire.CodeProtocolViolation, err.Error())
	case p.Leaving:
		s.leave(true)
	case b != nil:
		s.boundary(p.Stand)
	case len(p.ToServer) > 0:
		s.stash = p.ToServer
		s.seek()
		if s.stash != nil { // there was no backend at once
			s.stash = bytes.Clone(s.stash)
		}
	}
}

// fromServer passes on what the server says.
func (s *session) fromServer(data []byte) {
	b := s.backend
	p, err := s.talk.FromServer(data)
	s.w.hintCode(b, "session")
	if s.state == sessionActive {
		s.told(b, &p)
	}
	switch {
	case err != nil:
		s.w.log.Error("server broke the protocol", "server", b.server, "backend", b.pid, "error", err)
		s.drop(pgwire.CodeConnectionFailure, "the server broke the protocol")
	case s.state == sessionActive:
		s.boundary(p.Stand)
	case p.Stand != relay.Busy:
		s.release()
	}
}

// told sends the client what its server has said, and doesn't read on from a
// server whose client doesn't.
func (s *session) told(b *backend, p *relay.Passed) {
	s.client.Send(p.ToClient)
	if s.client.Full() {
		b.conn.Pause()
	}
	if s.flooded {
		s.flooded = p.Flooded
		s.listen()
	}
}

// boundary asks policy what to do where a conversation stands.
func (s *session) boundary(at relay.Stand) {
	switch at {
	case relay.Parting:
		s.part()
	case relay.Resting:
		if s.w.quiescing >= s.backend.epoch {
			s.giveUp()
		}
	}
}

// leave is the client's end. After a goodbye the server finishes what it was
// asked, as it would without us; a client that vanished is cancelled.
func (s *session) leave(goodbye bool) {
	s.closeClient()
	if goodbye && s.backend != nil && s.talk.Stand() == relay.Busy && s.talk.Finishes() {
		s.state = sessionLeaving
		s.backend.conn.Resume()
		// A server in COPY would wait for data for ever; elsewhere it ignores this.
		s.backend.conn.Send(pgwire.AppendMessage(nil, 'f', []byte("the client has left\x00")))
		s.timer = s.w.loop.After(farewellLimit, s.release)
		return
	}
	s.release()
}

// release parts the session from its backend and ends it. The backend is
// brought to a known state, or closed.
func (s *session) release() {
	w, b := s.w, s.backend
	switch {
	case b == nil:
	case s.talk.Stand() == relay.Busy || b.private || b.spoiled || w.draining:
		w.closeBackend(b)
		s.detach()
	default:
		s.talk.Part()
		s.detach()
		w.reset(b, b.Dirty)
	}
	s.finish()
}

// drop ends a session with an error, without regard to its backend.
func (s *session) drop(code, message string) {
	if b := s.backend; b != nil {
		s.w.closeBackend(b)
		s.detach()
	}
	if s.state == sessionLeaving {
		s.finish()
		return
	}
	if s.state == sessionActive && s.talk.MidMessage() {
		s.closeClient() // in the middle of a message nothing can be said
		s.finish()
		return
	}
	s.say(pgwire.AppendError(nil, pgwire.SeverityFatal, code, message))
}

// say sends a last message and closes once the client has read it.
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

// finish forgets a session whose client is closed and whose backend is gone.
func (s *session) finish() {
	s.timer.Stop()
	if s.state == sessionGone {
		return
	}
	s.state = sessionGone
	if s.w.cancels[s.key.id()] == s {
		delete(s.w.cancels, s.key.id()) // one without a backend still had it
	}
	s.talk.End()
	s.w.sessions--
	s.w.gone(s.c)
}

// clientEnd is the client's side of a session, as the loop sees it.
type clientEnd session

// Received takes bytes from the client. One that lingers isn't listened to.
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
		s.w.tidy(s.waiter.pool)
		s.closeClient()
		s.finish()
	case sessionAdapting:
		s.closeClient()
		b := s.backend
		s.w.closeBackend(b)
		s.detach()
		s.finish()
	case sessionActive:
		s.leave(false)
	default:
		s.closeClient()
		s.finish()
	}
}

// Flushed says that the client has taken what waited for it.
func (e *clientEnd) Flushed() {
	s := (*session)(e)
	switch {
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

// uncertain reports whether the client can't know what became of its work.
func (s *session) uncertain() bool { return s.talk.Uncertain() }

// badPassword reports whether an error is the client's failure to prove itself.
func badPassword(err error) bool { return errors.Is(err, auth.ErrBadPassword) }
