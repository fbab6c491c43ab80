package worker

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
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
	relay   *relay.Relay // nil while nobody says anything
	login   *login
	waiter  *waiter
	key     cancelKey
	since   int64 // when it was let in or began to wait, Unix seconds
	timer   *reactor.Timer
	// tx is set in the transaction pipeline.
	tx    *relay.Pooled
	state sessionState
	// touched: something was sent to the backend that may have left a trace.
	touched bool
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
		s.tx = &relay.Pooled{All: w.statements}
	}
	c.conn, c.session = nil, s
	w.sessions++
	return s
}

// seek gets the session a backend: one from the shelf, or a place in the queue.
func (s *session) seek() {
	if s == nil {
		return
	}
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
	if s.tx != nil && s.tx.Ready && !s.w.servers.Graceful && !s.w.draining {
		s.unserved(&relay.Failure{Code: code, Message: message})
		return
	}
	s.w.log.Info("client refused", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
		"database", s.login.requested, "reason", message)
	s.say(pgwire.AppendError(nil, pgwire.SeverityFatal, code, message))
}

// refuseLogin passes on why the server, or our login to it, failed.
func (s *session) refuseLogin(err error) {
	if s.tx != nil && s.tx.Ready {
		s.unserved(s.failureOf(err))
		return
	}
	s.w.log.Info("client refused", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
		"database", s.login.requested, "reason", err)
	msg := auth.AppendRefusal(nil, s.login.user, err)
	if msg == nil {
		msg = pgwire.AppendError(nil, pgwire.SeverityFatal, pgwire.CodeTooManyConnections, "connection refused")
	}
	s.say(msg)
}

// attachOpened joins a client whose login was passed through to the backend that
// it opened. s is nil when the client was lost on the way.
func (s *session) attachOpened(o *opening, b *backend) {
	w := b.w
	err := w.settleOpening(o, b, nil)
	switch {
	case s == nil && err == nil:
		w.closeBackend(b)
	case s == nil:
	case err != nil:
		s.refuse(pgwire.CodeCannotConnectNow, "the primary was lost during the login")
	default:
		s.client.Watch()
		s.attach(b)
	}
}

// attach joins the session to a backend and gives that the client's parameters.
func (s *session) attach(b *backend) {
	s.waiter = nil
	s.backend, b.session = b, s
	s.w.stats.attached++
	if s.tx != nil && b.private {
		s.tx = nil // nobody else can use this backend
	}
	if s.tx != nil {
		s.attachPooled(b)
		return
	}
	sql := relay.Adapt(&s.login.follow, &b.base, &b.params)
	if sql == "" {
		s.enter()
		return
	}
	s.adapt(b, sql, s.enter)
}

// enter begins the conversation that lasts as long as the session.
func (s *session) enter() {
	b := s.backend
	b.state = backendAttached
	s.state = sessionActive
	s.takeRelay()
	s.relay.Start(&b.params, relay.ClientInterests, relay.ServerInterests)
	if s.welcomed {
		s.client.Resume()
		b.conn.Resume()
		return
	}
	s.welcome()
}

// adapt gives a backend the client's parameters, and then goes on.
func (s *session) adapt(b *backend, sql string, then func()) {
	s.state = sessionAdapting
	b.state = backendAdapting
	s.client.Watch()
	b.run([]string{sql}, func(failed []byte) {
		if failed == nil {
			then()
			return
		}
		f := pgwire.ParseError(failed)
		s.detach()
		s.w.reset(b, pgwire.TxIdle, true)
		s.say(pgwire.AppendError(nil, pgwire.SeverityFatal, f.Code, f.Message))
	})
}

// detach parts the session from its backend, which is the caller's to care for.
func (s *session) detach() *backend {
	b := s.backend
	s.backend = nil
	if b != nil && b.session == s {
		b.session = nil
	}
	return b
}

// welcome ends the login: from here on client and server talk to each other.
func (s *session) welcome() {
	b := s.backend
	s.welcomed = true
	s.since = time.Now().Unix()
	s.newKey(b.pid)
	msg := pgwire.AppendAuthenticationOK(nil)
	msg = b.params.AppendTo(msg)
	msg = pgwire.AppendBackendKeyData(msg, s.key.pid, s.key.secret())
	s.client.Send(pgwire.AppendReadyForQuery(msg, pgwire.TxIdle))
	s.client.Resume()
	b.conn.Resume()
	s.login = s.w.share(s.login)
	if s.w.cfg.LogConnections {
		s.w.log.Info("connection authorized", "client", s.c.id, "address", s.c.addr, "user", s.login.user,
			"database", s.login.requested, "application", s.login.application(), "backend", b.pid)
	}
}

// fromClient forwards what the client says.
func (s *session) fromClient(data []byte) {
	if s.tx != nil {
		s.fromClientPooled(data)
		return
	}
	b := s.backend
	n, leaving, err := s.relay.ClientBytes(data)
	if n > 0 {
		s.touched = true
		b.conn.Send(data[:n])
		s.throttle()
	}
	switch {
	case err != nil:
		s.protocolBroken(err)
	case leaving:
		s.leave(true)
	}
}

// fromServer forwards what the server says.
func (s *session) fromServer(data []byte) {
	b := s.backend
	var err error
	if s.tx != nil {
		err = s.fromServerPooled(data)
	} else {
		err = s.relay.ServerBytes(data)
	}
	if s.relay.Code != "" {
		s.w.hint(b.server, b.epoch, ipc.HintSQLState, s.relay.Code, "session")
		s.relay.Code = ""
	}
	switch {
	case err != nil:
		s.w.log.Error("server broke the protocol", "server", b.server, "backend", b.pid, "error", err)
		s.drop(pgwire.CodeConnectionFailure, "the server broke the protocol")
	case s.state == sessionLeaving:
		if s.idle() {
			s.release()
		}
	case s.tx != nil:
		s.boundary()
	default:
		s.client.Send(data)
		if s.client.Full() {
			b.conn.Pause()
		}
		if s.relay.Idle() {
			s.relay.Trim()
			if s.w.quiescing >= b.epoch {
				s.giveUp()
			}
		}
	}
}

// leave is the client's end. After a goodbye the server finishes what it was
// asked, as it would without us; a client that vanished is cancelled.
func (s *session) leave(goodbye bool) {
	s.closeClient()
	if goodbye && s.backend != nil && !s.idle() && !s.relay.Doubt && s.relay.Up.AtBoundary() && !s.unsynced() {
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
	w := s.w
	w.stats.count(s.relay)
	b := s.backend
	touched := s.touched
	if s.tx != nil && b != nil {
		touched = s.tx.Dirty || b.dirty && b.dirtyBy == s.c.id
	}
	switch {
	case b == nil:
	case !s.idle() || s.uncertain() || b.private || w.draining:
		w.closeBackend(b)
		s.detach()
	default:
		s.detach()
		w.reset(b, s.relay.Status, touched)
	}
	s.finish()
}

// drop ends a session with an error, without regard to its backend.
func (s *session) drop(code, message string) {
	s.w.stats.count(s.relay)
	if b := s.backend; b != nil {
		s.w.closeBackend(b)
		s.detach()
	}
	if s.state == sessionLeaving {
		s.finish()
		return
	}
	if s.relay != nil && !s.relay.Down.AtBoundary() && s.state == sessionActive {
		s.closeClient() // in the middle of a message nothing can be said
		s.finish()
		return
	}
	s.say(pgwire.AppendError(nil, pgwire.SeverityFatal, code, message))
}

// serverGone deals with a session whose backend has closed or failed. One that
// hasn't asked for anything yet gets another backend; one of the transaction
// pipeline is told what it has lost, and stays; all others end.
func (s *session) serverGone() {
	b := s.backend
	s.backend = nil
	switch {
	case s.state == sessionAdapting:
		s.seekAgain()
	case s.state == sessionActive && s.tx != nil && s.lostPooled():
	case s.state == sessionActive && s.tx == nil && !s.touched && !b.private && !s.relay.Fatal && s.w.cfg.Failover:
		s.seek()
	case s.state == sessionActive && s.relay.Fatal && s.tx == nil:
		s.w.stats.count(s.relay)
		s.say(nil) // the server has said why
	default:
		s.drop(s.lossCode())
	}
}

// seekAgain waits for another backend: nothing of the client's was sent yet.
func (s *session) seekAgain() {
	if !s.w.cfg.Failover {
		s.refuse(pgwire.CodeTooManyConnections, "connection refused")
		return
	}
	s.seek()
}

// lossCode returns what a client is told whose backend is lost.
func (s *session) lossCode() (code, message string) {
	if s.uncertain() {
		return pgwire.CodeOutcomeUnknown, "the connection to the server was lost; whether the last statement took effect is unknown"
	}
	return pgwire.CodeAdminShutdown, "terminating connection because the connection to the server was lost"
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
	if s.tx != nil {
		s.tx.Forget()
	}
	s.dropRelay()
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
	case s.tx != nil && s.state == sessionActive:
		s.client.Resume()
	}
}

// badPassword reports whether an error is the client's failure to prove itself.
func badPassword(err error) bool { return errors.Is(err, auth.ErrBadPassword) }
