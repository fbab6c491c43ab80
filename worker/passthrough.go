package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// permission is what a pass-through waits for: an opening with a lease, a free backend of a
// server that asks this user for no password, or an error. All are nil if the client has
// gone.
type permission struct {
	opening *opening
	addr    ipc.ServerInfo
	free    *backend // reserved for this client
	err     error
}

// welcome completes the login at once if the server asks this user for no password and a
// backend is free. It reports whether it has handled the client. It exists because a
// goroutine would cost more than the rest of such a login.
func (s *setup) welcome(l *login) bool {
	if s.w.servers.Graceful || s.w.draining {
		return false
	}
	params, known := s.w.answer(l, true)
	if known {
		return s.welcomeKnown(l, &params)
	}
	b := s.w.takeTrusting(l)
	if b == nil {
		return false
	}
	conn, err := s.d.release()
	if err != nil {
		s.w.shelve(b)
		s.end(err)
		return true
	}
	if cs := s.w.newSession(s.c, conn, l); cs != nil {
		cs.attach(b)
	} else {
		s.w.shelve(b)
	}
	return true
}

// welcomeKnown completes the login of a client that needs no password and, because the
// answers are known, no backend.
func (s *setup) welcomeKnown(l *login, params *relay.Params) bool {
	conn, err := s.d.release()
	if err != nil {
		s.end(err)
		return true
	}
	if cs := s.w.newSession(s.c, conn, l); cs != nil {
		cs.enterWith(params)
	}
	return true
}

// leaveLoop continues in a goroutine, because a login that is passed through waits for the
// client's and the server's connection in turn.
func (s *setup) leaveLoop(l *login) {
	file, err := s.d.leave()
	if err != nil {
		s.end(err)
		return
	}
	s.authenticateAway(l, file)
}

func (s *setup) authenticateAway(l *login, file away) {
	s.conn, s.c.conn, s.d = file, file, nil
	go func() {
		if err := logline.Guarded(s.log, func() error { s.passThrough(l, file); return nil }); err != nil {
			s.end(err)
		}
	}()
}

// passThrough lets the server authenticate a user that this worker doesn't know.
func (s *setup) passThrough(l *login, file away) {
	var waited time.Duration
	for {
		p := s.permission(l, file, waited)
		switch {
		case p.err != nil:
			s.end(p.err)
			return
		case p.free != nil:
			s.handOver(l, file, func(cs *session) { s.w.attachKept(p.free, cs) })
			return
		}
		waited = time.Since(s.c.start)
		if s.openWith(l, file, p) {
			return
		}
	}
}

// permission asks the loop for a permission and waits for it. The time limit of the
// authentication starts again afterwards.
func (s *setup) permission(l *login, file away, waited time.Duration) permission {
	answer := make(chan permission, 1)
	s.w.loop.Post(func() { s.w.permit(file, l, waited, answer) })
	return <-answer
}

// permit runs on the loop and answers exactly once: every waiter ends with a grant, an
// offer or a refusal, at the latest when its time is up.
func (w *worker) permit(file away, l *login, waited time.Duration, answer chan<- permission) {
	if w.servers.Graceful || w.draining {
		answer <- permission{err: pgwire.RefusalShutdown.With()}
		return
	}
	wt := &waiter{requested: l.requested, login: l}
	wt.offered = func(b *backend) { answer <- permission{free: b.keep()} }
	if b := w.takeTrusting(l); b != nil {
		wt.offered(b)
		return
	}
	wt.granted = func(g *ipc.LeaseGrant) {
		wt.timer.Stop()
		if !file.connected() {
			w.shelf.Opened(&wt.Waiter, false)
			w.returnLease(g.Lease)
			answer <- permission{}
			return
		}
		answer <- permission{opening: w.newOpening(wt, g, ms(w.cfg.AuthenticationTimeoutMS)), addr: w.address(g.Server)}
	}
	wt.refused = func(r *pgwire.Refused) { answer <- permission{err: r} }
	if waited > 0 && waited > w.waitLimit() {
		wt.refused(pgwire.RefusalNoConnection.With())
		return
	}
	p, ok := w.shelf.Pool(pool.Key(l.key))
	w.carryOut()
	if !ok {
		wt.refused(pgwire.RefusalManyPools.With())
		return
	}
	wt.Pool, wt.Bare = p, true
	w.wait(wt)
}

// takeTrusting takes a free backend whose server asked for no password at its login.
func (w *worker) takeTrusting(l *login) *backend {
	p := w.shelf.Lookup(pool.Key(l.key))
	if p == nil {
		return nil
	}
	return w.take(p, true)
}

// keep reserves a free backend for a client whose set-up is about to end.
func (b *backend) keep() *backend {
	b.state = backendAdapting
	b.conn.Resume()
	return b
}

// attachKept gives a client the backend that was reserved for it. s is nil if the client
// was lost meanwhile.
func (w *worker) attachKept(b *backend, s *session) {
	closed := b.state == backendClosed
	switch {
	case s == nil && closed:
	case s == nil:
		w.shelve(b)
	case closed:
		s.seek()
	case w.draining:
		w.shelve(b)
		s.refuse(pgwire.RefusalShutdown.With())
	default:
		s.client.Watch()
		s.attach(b)
	}
}

// openWith opens a backend with the client's own answers. It returns false if the server
// couldn't be reached and the caller should try again; otherwise the login has succeeded or
// failed.
func (s *setup) openWith(l *login, file away, p permission) bool {
	if p.opening == nil {
		s.end(nil) // the client went away while it waited
		return true
	}
	var b *backend
	err := logline.Guarded(s.log, func() (err error) {
		_ = s.conn.SetDeadline(time.Now().Add(ms(s.cfg.AuthenticationTimeoutMS)))
		b, err = s.w.dial(s.cfg, p.opening, p.addr, l, s.conn)
		return err
	})
	p.opening.cancel()
	if err == nil {
		s.handOver(l, file, func(cs *session) { s.w.attachOpened(p.opening, b, cs) })
		return true
	}
	done := make(chan struct{})
	s.w.loop.Post(func() {
		defer close(done)
		_ = s.w.settleOpening(p.opening, nil, err)
	})
	<-done
	if s.cfg.Failover && s.cfg.BlockingTimeoutMS > 0 && transient(err) {
		retry := make(chan struct{})
		s.w.loop.Post(func() { s.w.loop.After(ms(s.cfg.ConnectionRetryMS), func() { close(retry) }) })
		<-retry
		return false
	}
	if auth.AppendRefusal(nil, pgwire.SeverityFatal, l.user, err) == nil {
		err = &refusal{unconnected(err), err.Error()}
	}
	s.waitPassed(err)
	s.end(&loginError{l, err})
	return true
}

// handOver gives the client back to the event loop, which then calls then. The session is
// nil if the client is lost.
func (s *setup) handOver(l *login, file away, then func(*session)) {
	back := func(conn *reactor.Conn, err error) {
		if err != nil {
			s.log.Error("client lost between set-up and event loop", "error", err)
			s.w.gone(s.c)
			then(nil)
			return
		}
		then(s.w.newSession(s.c, conn, l))
	}
	if err := logline.Guarded(s.log, func() error { file.giveBack(s.w.loop, back); return nil }); err != nil {
		file.Close()
		s.w.loop.Post(func() { back(nil, err) })
	}
}
