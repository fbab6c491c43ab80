package worker

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// permission is what a pass-through waits for: a lease to open a backend with,
// or a free backend of a server that asks this user for no password, or a refusal.
type permission struct {
	opening *opening
	addr    ipc.ServerInfo
	free    *backend // kept for this client
	err     error
}

// passThrough lets the server itself check a user that we don't know.
func (s *setup) passThrough(l *login) {
	var waited time.Duration
	for {
		p := s.permission(l, waited)
		switch {
		case p.err != nil:
			s.end(p.err)
			return
		case p.free != nil:
			s.handOver(l, func(cs *session) { cs.attachKept(p.free) })
			return
		}
		waited = time.Since(s.c.start)
		if s.openWith(l, p) {
			return
		}
	}
}

// permission asks the loop and waits for its answer. Waiting doesn't count as
// authentication time.
func (s *setup) permission(l *login, waited time.Duration) permission {
	answer := make(chan permission, 1)
	s.w.loop.Post(func() { s.w.permit(s.c, l, waited, answer) })
	p := <-answer
	_ = s.conn.SetDeadline(time.Now().Add(ms(s.cfg.AuthenticationTimeoutMS)))
	return p
}

// permit runs on the loop. Every path answers exactly once: a waiter ends with a
// grant or a refusal, at the latest at its time-out.
func (w *worker) permit(c *client, l *login, waited time.Duration, answer chan<- permission) {
	if w.servers.Graceful || w.draining {
		answer <- permission{err: refused("shutting down")}
		return
	}
	p := w.pool(l.key)
	wt := &waiter{pool: p, requested: l.requested, login: l}
	wt.offered = func(b *backend) { answer <- permission{free: b.keep()} }
	if b := w.takeOpen(p); b != nil {
		wt.offered(b)
		return
	}
	wt.granted = func(g *ipc.LeaseGrant) {
		if !connected(c.conn) {
			w.returnLease(g.Lease)
			w.tidy(p)
			answer <- permission{}
			return
		}
		answer <- permission{opening: w.newOpening(wt, g, ms(w.cfg.Load().AuthenticationTimeoutMS)), addr: w.address(g.Server)}
	}
	wt.refused = func(code, message string) {
		answer <- permission{err: &refusal{code: code, message: message, why: message}}
	}
	if waited > 0 && waited > w.waitLimit() {
		wt.refused(pgwire.CodeTooManyConnections, "connection refused")
		w.tidy(p)
		return
	}
	w.wait(wt)
}

// takeOpen takes a free backend that was opened without a password.
func (w *worker) takeOpen(p *pool) *backend {
	if len(p.idle) == 0 || !p.idle[len(p.idle)-1].noPassword {
		return nil
	}
	return w.take(p)
}

// keep holds a free backend back for a client whose set-up is about to end.
func (b *backend) keep() *backend {
	b.state = backendAdapting
	b.conn.Resume()
	return b
}

// attachKept joins a client to the backend that was kept for it. s is nil when
// the client was lost on the way.
func (s *session) attachKept(b *backend) {
	switch {
	case b.state == backendClosed:
		s.seek()
	case s == nil:
		b.w.shelve(b)
	case b.w.draining:
		b.w.shelve(b)
		s.refuse(pgwire.CodeTooManyConnections, "connection refused")
	default:
		s.client.Watch()
		s.attach(b)
	}
}

// openWith opens a backend with the client's own answers. It reports whether the
// matter is settled; otherwise the server couldn't be reached, and may be later.
func (s *setup) openWith(l *login, p permission) bool {
	if p.opening == nil {
		s.end(nil) // the client has gone while it waited
		return true
	}
	b, err := s.w.dial(s.cfg, p.opening, p.addr, l, s.conn)
	p.opening.cancel()
	if err == nil {
		s.handOver(l, func(cs *session) { cs.attachOpened(p.opening, b) })
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
	if auth.AppendRefusal(nil, l.user, err) == nil {
		err = refused(err.Error())
	}
	s.end(&loginError{l, err})
	return true
}

// connected reports whether the peer of a connection is still there. A client
// that waits for its login has nothing to say.
func connected(conn syscall.Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, rerr := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = n > 0 || rerr == unix.EAGAIN
	})
	return err == nil && alive
}
