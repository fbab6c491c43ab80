package worker

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// pool is the worker's part of a pool: its idle backends, and who waits here.
type pool struct {
	key ipc.PoolKey
	// idle is the shelf; the backend used last is the last one.
	idle    []*backend
	waiters []*waiter
	// live counts its backends, those that are being set up included; coming those
	// that are being set up for a waiter of the queue.
	live, coming int
	// logins are those of clients that were let in; see share.
	logins map[loginKey]*login
	// asking is how many leases were asked for; see ask.go.
	asking asking
	served servings
}

// waiter is somebody who needs a backend of a pool: a session, or a set-up
// goroutine that passes a login through and gets the bare lease.
type waiter struct {
	id        uint64
	asked     uint64 // the request that is under way for it, 0 for none
	askedAt   time.Time
	gone      bool // it has left the queue
	pool      *pool
	requested string
	login     *login
	session   *session
	granted   func(*ipc.LeaseGrant)
	// offered takes a free backend that needs no password; set with granted.
	offered func(*backend)
	refused func(code, message string)
	timer   *reactor.Timer
	since   time.Time
	// last is why the last attempt to open a backend failed, for the log.
	last error
}

func (w *worker) pool(key ipc.PoolKey) *pool {
	p := w.pools[key]
	if p == nil {
		p = &pool{key: key}
		w.pools[key] = p
	}
	return p
}

// tidy forgets a pool that nobody uses.
func (w *worker) tidy(p *pool) {
	if p.live == 0 && len(p.waiters) == 0 && p.asking.done() && w.pools[p.key] == p {
		delete(w.pools, p.key)
	}
}

// take returns the backend of the shelf that was used last, nil for none.
func (w *worker) take(p *pool) *backend {
	if !w.servers.Open {
		return nil
	}
	for len(p.idle) > 0 {
		b := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if b.epoch == w.servers.Epoch {
			w.serves(p, w.loop.Now())
			return b
		}
		w.closeBackend(b)
	}
	return nil
}

// serves notes that a client is served, which came at a time.
func (w *worker) serves(p *pool, came time.Time) {
	since := came.Sub(w.born)
	w.served.note(since)
	p.served.note(since)
}

// waitLimit is how long somebody may wait for a backend from now on.
func (w *worker) waitLimit() time.Duration {
	cfg := w.cfg
	limit := ms(cfg.BlockingTimeoutMS)
	if !w.servers.Open && cfg.Failover {
		limit = min(limit, ms(cfg.ClientWaitMS))
	}
	return limit
}

// wait puts a waiter at the end of its pool's queue and asks for a lease.
func (w *worker) wait(wt *waiter) {
	wt.id = w.newID()
	wt.since = time.Now()
	w.served.keep()
	wt.pool.served.keep()
	w.waiters[wt.id] = wt
	wt.pool.waiters = append(wt.pool.waiters, wt)
	if d := w.waitLimit(); d > 0 {
		wt.timer = w.loop.After(d, func() { w.expire(wt) })
	}
	w.arrived(wt.pool)
}

// leave takes a waiter out of the queue: it was served, refused, or has gone.
func (w *worker) leave(wt *waiter) {
	if w.waiters[wt.id] != wt {
		return
	}
	delete(w.waiters, wt.id)
	wt.timer.Stop()
	q := wt.pool.waiters
	for i := range q {
		if q[i] == wt {
			wt.pool.waiters = append(q[:i], q[i+1:]...)
			break
		}
	}
	w.left(wt)
}

// refuse takes a waiter out of the queue and says no to it.
func (w *worker) refuse(wt *waiter, code, message string) {
	w.leave(wt)
	w.stats.timeouts++
	wt.refused(code, message)
	w.tidy(wt.pool)
}

func (w *worker) expire(wt *waiter) {
	if !w.servers.Open {
		why := w.servers.Why
		if why == "" {
			why = "there is no primary"
		}
		w.refuse(wt, pgwire.CodeCannotConnectNow, "the database is not available: "+why)
		return
	}
	w.log.Warn("client got no connection in time", "database", wt.pool.key.Database, "user", wt.pool.key.User,
		"waited", time.Since(wt.since).Round(time.Millisecond), "waiting", len(w.waiters), "last_error", wt.last)
	w.refuse(wt, pgwire.CodeTooManyConnections, "connection pool is full")
	w.expired++
	w.tellExpired()
}

// tellEvery bounds how often the supervisor hears of clients that got nothing.
const tellEvery = time.Second

// tellExpired has the supervisor log who holds the leases.
func (w *worker) tellExpired() {
	if w.telling || w.expired == 0 {
		return
	}
	w.send(&ipc.LeaseAbandon{Refused: w.expired})
	w.expired, w.telling = 0, true
	w.loop.After(tellEvery, func() {
		w.telling = false
		w.tellExpired()
	})
}

// onServerState takes the supervisor's view of the servers.
func (w *worker) onServerState(m *ipc.ServerState) {
	if m.Gen <= w.servers.Gen && w.servers.Gen != 0 {
		return
	}
	was := w.servers
	w.servers = *m
	if was.Epoch != m.Epoch {
		w.dropIdle(func(b *backend) bool { return b.epoch != m.Epoch })
		for _, p := range w.pools {
			p.asking.failing = false
		}
	}
	if was.Open && !m.Open {
		limit := w.waitLimit()
		for _, wt := range w.waiters {
			w.shorten(wt, limit)
		}
	}
	if m.Open {
		w.quiescing = 0
		// A primary that answers again before anything was run keeps its epoch.
		w.fenced = min(w.fenced, m.Epoch-1)
		for _, p := range w.pools {
			w.want(p)
		}
	}
}

// shorten makes a waiter that has longer to go leave after limit.
func (w *worker) shorten(wt *waiter, limit time.Duration) {
	blocking := ms(w.cfg.BlockingTimeoutMS)
	if wt.timer == nil || blocking-time.Since(wt.since) <= limit {
		return
	}
	wt.timer.Stop()
	wt.timer = w.loop.After(limit, func() { w.expire(wt) })
}

// opened gets the outcome of an opening: a backend, or why there is none.
func (w *worker) opened(o *opening, b *backend, err error) {
	o.pool.coming--
	if err = w.settleOpening(o, b, err); err != nil {
		w.openFailed(o, err)
	} else {
		o.pool.asking.paused, o.pool.asking.failing = false, false // the server can be reached again
		w.place(b, true)
	}
	w.want(o.pool)
}

// settleOpening ends an opening: its backend comes under the loop, or its lease
// goes back.
func (w *worker) settleOpening(o *opening, b *backend, err error) error {
	delete(w.outbounds, &o.outbound)
	if err == nil && (o.isFenced() || w.exit != 0) {
		err = errFenced
		b.abandon()
	}
	if err == nil {
		err = w.adopt(b)
	}
	if err != nil {
		o.pool.live--
		w.tidy(o.pool)
		w.stats.openErrors++
		w.returnLease(o.grant.Lease)
		w.hintOf(o.grant.Server, o.grant.Epoch, err)
		return err
	}
	w.stats.opened++
	return nil
}

// openFailed decides what becomes of the one who waited for an opening: while a
// failover may be ahead it waits on, otherwise it hears the server's own words.
func (w *worker) openFailed(o *opening, err error) {
	wt := w.waiters[o.waiter.id]
	if wt == nil {
		return
	}
	wt.last = err
	if errors.Is(err, errFenced) {
		return // the caller asks again
	}
	if cfg := w.cfg; cfg.Failover && cfg.BlockingTimeoutMS > 0 && transient(err) {
		w.pause(o.pool, ms(cfg.ConnectionRetryMS))
		return
	}
	w.log.Warn("no connection to the server", "server", o.grant.Server,
		"database", o.pool.key.Database, "user", o.pool.key.User, "error", err)
	if wt.session != nil {
		w.leave(wt)
		wt.session.refuseLogin(err)
		w.tidy(wt.pool)
		return
	}
	w.refuse(wt, pgwire.CodeTooManyConnections, "connection refused")
}

// transient reports whether an error is one that a failover, or a little
// patience, can end: the network's, or a server that starts or stops.
func transient(err error) bool {
	var asked *challengedError
	if errors.As(err, &asked) {
		return false // the client has been asked for its password already
	}
	var se *auth.ServerError
	if !errors.As(err, &se) {
		var me *auth.MethodError
		var pe *auth.ProtocolError
		var re *auth.PasswordRequiredError
		return !errors.As(err, &me) && !errors.As(err, &pe) && !errors.As(err, &re) && !errors.Is(err, auth.ErrServerNotProven)
	}
	switch se.Fields.Code {
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown, pgwire.CodeCannotConnectNow:
		return true
	}
	return false
}

// shelve gives a clean, idle backend to whoever waits for it: another worker,
// the first of the queue here, or the shelf.
func (w *worker) shelve(b *backend) { w.place(b, false) }

// place is shelve. One that was granted is for a client here: others have had their
// turn before.
func (w *worker) place(b *backend, granted bool) {
	b.session = nil
	b.state = backendResetting
	if b.cancelling > 0 {
		return // comes back when the server is done with the cancel request
	}
	b.state = backendIdle
	b.since = time.Now()
	if !w.servers.Open || b.epoch != w.servers.Epoch || b.private || b.spoiled || b.tooOld() || w.draining {
		w.closeBackend(b)
		return
	}
	wt := b.pool.next(b)
	if wt != nil && (granted || !w.owes(b, wt)) {
		w.serves(b.pool, wt.since)
		w.leave(wt)
		wt.serve(b)
		return
	}
	if m, ok := w.reclaimed(b); ok {
		w.giveUp(b, m)
		return
	}
	b.pool.idle = append(b.pool.idle, b)
	b.conn.Resume()
}

// next returns the waiter that came first of those that a backend can serve, nil
// for none.
func (p *pool) next(b *backend) *waiter {
	for _, wt := range p.waiters {
		if wt.session != nil || b.noPassword && wt.offered != nil {
			return wt
		}
	}
	return nil
}

// serve gives a free backend to one who has left the queue.
func (wt *waiter) serve(b *backend) {
	if wt.session != nil {
		wt.session.attach(b)
		return
	}
	wt.offered(b)
}

// unshelve takes a particular backend off its shelf.
func (w *worker) unshelve(b *backend) {
	q := b.pool.idle
	for i := range q {
		if q[i] == b {
			b.pool.idle = append(q[:i], q[i+1:]...)
			return
		}
	}
}

// dropIdle closes the idle backends for which drop says so.
func (w *worker) dropIdle(drop func(*backend) bool) {
	for _, b := range w.backends {
		if b.state == backendIdle && drop(b) {
			w.closeBackend(b)
		}
	}
}

// sweepLater closes backends that are idle for too long or too old, as often as
// the configuration gives reason to.
func (w *worker) sweepLater() {
	cfg := w.cfg
	every := time.Duration(0)
	for _, d := range []time.Duration{ms(cfg.IdleTimeoutMS), ms(cfg.MaxConnectionAgeMS)} {
		if d > 0 && (every == 0 || d/2 < every) {
			every = max(d/2, 500*time.Millisecond)
		}
	}
	if every == 0 {
		return
	}
	w.loop.After(every, func() {
		idle := ms(cfg.IdleTimeoutMS)
		w.dropIdle(func(b *backend) bool {
			return idle > 0 && time.Since(b.since) >= idle || b.tooOld()
		})
		w.sweepLater()
	})
}
