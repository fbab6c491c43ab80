package worker

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// waiter waits for a backend of a pool. It belongs to a session, or, if session is nil, to a
// set-up goroutine that passes a login through and needs only a lease.
type waiter struct {
	pool.Waiter
	requested string
	login     *login
	session   *session
	granted   func(*ipc.LeaseGrant)
	// offered takes a free backend that needs no password; it is set together with
	// granted.
	offered func(*backend)
	refused func(*pgwire.Refused)
	timer   *reactor.Timer
	limited time.Duration // when its time limit began
	paused  bool          // an operator pauses the clients of its pool, and it has no time limit
	tries   int           // attempts after the first
	// last is the error of the last attempt to open a backend, for the log.
	last error
}

// now returns the time of this turn of the loop, on the shelf's clock.
func (w *worker) now() time.Duration { return w.loop.Now().Sub(w.born) }

// shelfLimits returns the part of a configuration that the shelf needs.
func shelfLimits(c *ipc.ConfigBegin, keep map[pool.Key]int) pool.Limits {
	return pool.Limits{
		Keep:   keep,
		NoWait: c.BlockingTimeoutMS == 0, MaxPools: c.MaxPools,
		IdleTimeout: ms(c.IdleTimeoutMS), MaxAge: ms(c.MaxConnectionAgeMS),
	}
}

// carryOut carries out the acts that the shelf has decided on, in order. Call it after each
// call of the shelf that may decide something.
func (w *worker) carryOut() {
	for a, ok := w.shelf.Next(); ok; a, ok = w.shelf.Next() {
		w.do(&a)
	}
}

func (w *worker) do(a *pool.Act) {
	switch a.Do {
	case pool.Ask:
		w.askLease(a.Request, a.Waiter.Of.(*waiter))
	case pool.Withdraw:
		w.send(&ipc.LeaseAbandon{ID: a.Request})
	case pool.Serve:
		wt := a.Waiter.Of.(*waiter)
		wt.timer.Stop()
		wt.serve(a.Backend.Of.(*backend))
	case pool.HandOver:
		w.handOver(a.Backend.Of.(*backend))
	case pool.Close:
		b := a.Backend.Of.(*backend)
		w.stats.evicted[a.Reason]++
		if w.debug() {
			w.log.Debug("backend isn't kept", "server", w.serverName(b.server), "backend", b.pid, "reason", a.Reason.String())
		}
		w.closeBackend(b)
	case pool.Review:
		p := a.Pool
		w.loop.After(a.In, func() {
			w.shelf.Review(p, w.now())
			w.carryOut()
		})
	case pool.Resume:
		p := a.Pool
		w.loop.After(a.In, func() {
			w.shelf.Resume(p, w.now())
			w.carryOut()
		})
	}
}

// take takes the most recently used backend of a pool from the shelf. It returns nil if
// there is none. bare is for a client that only the server can authenticate.
func (w *worker) take(p *pool.Pool, bare bool) *backend {
	b := w.shelf.Take(p, bare, w.now())
	w.carryOut()
	if b == nil {
		return nil
	}
	return b.Of.(*backend)
}

// waitLimit returns how long a waiter may wait from now on.
func (w *worker) waitLimit() time.Duration {
	cfg := w.cfg
	limit := ms(cfg.BlockingTimeoutMS)
	if !w.servers.Open && cfg.Failover {
		limit = min(limit, ms(cfg.ClientWaitMS))
	}
	return limit
}

// wait puts a waiter at the end of its pool's queue.
func (w *worker) wait(wt *waiter) {
	wt.Of = wt
	w.shelf.Wait(&wt.Waiter, w.now())
	if wt.paused = w.spares(wt); !wt.paused {
		w.startTimer(wt)
	}
	w.carryOut()
}

// leave removes a waiter from the queue, because it was refused or has gone.
func (w *worker) leave(wt *waiter) {
	wt.timer.Stop()
	w.shelf.Leave(&wt.Waiter, w.now())
	w.carryOut()
}

// refuse removes a waiter from the queue and refuses it.
func (w *worker) refuse(wt *waiter, r *pgwire.Refused) {
	w.leave(wt)
	w.stats.timeouts++
	wt.refused(r)
}

// expired counts the clients that got no backend in time and were not reported to the
// supervisor yet. telling says that the last report was sent less than tellEvery ago.
type expired struct {
	clients int
	telling bool
}

func (w *worker) expire(wt *waiter) {
	if !w.servers.Open {
		why := w.servers.Why
		if why == "" {
			why = "there is no primary"
		}
		w.refuse(wt, pgwire.RefusalNotAvailable.With(why))
		return
	}
	w.log.Warn("client got no connection in time", "database", wt.Pool.Key.Database, "user", wt.Pool.Key.User,
		"waited", (w.now() - wt.Since).Round(time.Millisecond), "waiting", w.shelf.Waiting(), "last_error", wt.last)
	if wt.last != nil {
		w.refuse(wt, unconnected(wt.last)) // the pool isn't full, the server can't be reached
		return
	}
	w.refuse(wt, pgwire.RefusalPoolFull.With())
	w.expired.clients++
	w.tellExpired()
}

// tellEvery is the least time between two reports of expired clients.
const tellEvery = time.Second

// tellExpired reports expired clients. The supervisor then logs who holds the leases.
func (w *worker) tellExpired() {
	if w.expired.telling || w.expired.clients == 0 {
		return
	}
	w.send(&ipc.LeaseAbandon{Refused: w.expired.clients})
	w.expired = expired{telling: true}
	w.loop.After(tellEvery, func() {
		w.expired.telling = false
		w.tellExpired()
	})
}

// onServerState takes over the supervisor's states of the servers.
func (w *worker) onServerState(m *ipc.ServerState) {
	if m.Gen <= w.servers.Gen && w.servers.Gen != 0 {
		return
	}
	was := w.servers.Open
	w.servers = *m
	if was && !m.Open {
		limit := w.waitLimit()
		for _, wt := range w.shelf.Waiters() {
			w.shorten(wt.Of.(*waiter), limit)
		}
	}
	if m.Open {
		w.quiescing = 0
		// A primary that answers again before a script was run keeps its epoch.
		w.fenced = min(w.fenced, m.Epoch-1)
	}
	w.shelf.SetTarget(m.Open, m.Epoch, w.now())
	w.carryOut()
	w.hold()
}

// shorten limits the remaining time of a waiter.
func (w *worker) shorten(wt *waiter, limit time.Duration) {
	blocking := ms(w.cfg.BlockingTimeoutMS)
	if wt.timer == nil || blocking-(w.now()-wt.Since) <= limit {
		return
	}
	wt.timer.Stop()
	wt.timer = w.loop.After(limit, func() { w.expire(wt) })
}

// opened handles the result of an opening: a backend, or an error.
func (w *worker) opened(o *opening, b *backend, err error) {
	switch err = w.settleOpening(o, b, err); {
	case err != nil:
		w.openFailed(o, err)
	case o.waiter.opensOwn():
		o.waiter.timer.Stop()
		o.waiter.serve(b)
	default:
		w.place(b, true)
	}
	w.shelf.Want(o.waiter.Pool, w.now())
	w.carryOut()
}

// opensOwn reports whether a session waits for this very opening, and has left the queue.
func (wt *waiter) opensOwn() bool {
	return wt.Bare && wt.session != nil && wt.session.waiter == wt && wt.session.state == sessionWaiting
}

// settleOpening ends an opening: it adds the backend to the loop, or returns the lease.
func (w *worker) settleOpening(o *opening, b *backend, err error) error {
	delete(w.outbounds, &o.outbound)
	if err == nil && (o.isFenced() || w.exit != 0) {
		err = errFenced
		b.abandon()
	}
	if err == nil {
		b.Flushed = o.flushed
		err = w.adopt(b)
	}
	if err == nil && b.conn.Secured() != nil {
		w.stats.handshake("server", b.conn.Secured(), nil)
	} else if ofTLS(err) && !errors.Is(err, auth.ErrNotBound) {
		w.stats.handshake("server", nil, err)
	}
	w.shelf.Opened(&o.waiter.Waiter, err == nil)
	if err != nil {
		w.stats.openErrors++
		w.stats.server(o.grant.Server).errors++
		w.failed(o, err)
		w.hintOf(o.grant.Server, o.grant.Epoch, err)
		w.disprove(o.waiter.login, err)
		return err
	}
	w.confirm(o.proves)
	w.stats.opened++
	w.stats.server(o.grant.Server).opens.observe(w.now() - o.began)
	w.reached(o.grant.Server, o.at)
	return nil
}

// openFailed decides about the waiter of an opening that has failed. The waiter keeps
// waiting if a failover may follow. Otherwise it gets the server's own error.
func (w *worker) openFailed(o *opening, err error) {
	wt, cfg := o.waiter, w.cfg
	if !wt.Queued() && !wt.opensOwn() {
		return
	}
	wt.last = err
	if errors.Is(err, errFenced) || w.triesAgain(wt, err) {
		w.requeue(wt) // the caller asks again
		return
	}
	if cfg.Failover && cfg.BlockingTimeoutMS > 0 && transient(err) {
		w.shelf.Pause(wt.Pool, ms(cfg.ConnectionRetryMS)) // the caller calls carryOut
		w.requeue(wt)
		return
	}
	w.log.Warn("no connection to the server", "server", w.serverName(o.grant.Server),
		"database", wt.Pool.Key.Database, "user", wt.Pool.Key.User, "error", err)
	if wt.session != nil {
		w.leave(wt)
		wt.session.refuseLogin(err)
		return
	}
	w.refuse(wt, unconnected(err))
}

// requeue puts a waiter back that has left the queue for its own opening.
func (w *worker) requeue(wt *waiter) {
	if wt.Queued() {
		return
	}
	w.shelf.Wait(&wt.Waiter, w.now())
	if !w.servers.Open {
		w.shorten(wt, w.waitLimit())
	}
}

// triesAgain reports whether a client that must not wait gets another attempt. Attempts that take
// time would be a wait.
func (w *worker) triesAgain(wt *waiter, err error) bool {
	cfg := w.cfg
	if cfg.BlockingTimeoutMS > 0 || wt.tries >= cfg.Retries || !transient(err) || w.now()-wt.Since >= ms(cfg.ConnectionRetryMS) {
		return false
	}
	wt.tries++
	return true // the caller asks again
}

// transient reports whether another attempt may succeed, perhaps after a failover: after an
// error of the network, or of a server that starts or stops.
func transient(err error) bool {
	var asked *challengedError
	if errors.As(err, &asked) || errors.Is(err, logline.ErrPanic) || errors.Is(err, auth.ErrStale) {
		return false // the client has already answered the server's question, or this program is wrong
	}
	var se *auth.ServerError
	if !errors.As(err, &se) {
		var me *auth.MethodError
		var pe *pgwire.Refused
		var re *auth.PasswordRequiredError
		return !errors.As(err, &me) && !errors.As(err, &pe) && !errors.As(err, &re) && !errors.Is(err, auth.ErrServerNotProven)
	}
	switch se.Fields.Code {
	case pgwire.CodeAdminShutdown, pgwire.CodeCrashShutdown, pgwire.CodeCannotConnectNow:
		return true
	}
	return false
}

// shelve gives a clean, idle backend to a waiting client of this or another worker, or puts
// it on the shelf.
func (w *worker) shelve(b *backend) { w.place(b, false) }

// place shelves a backend. With granted, the supervisor granted the lease for this worker,
// and one of its own clients gets the backend first.
func (w *worker) place(b *backend, granted bool) {
	b.session = nil
	b.state = backendResetting
	if w.dropCancel(b); b.cancel != nil {
		return // endCancel shelves it after the cancel request
	}
	b.state = backendIdle
	b.since = w.loop.Now()
	w.shelf.Put(&b.shelved, granted, w.now())
	w.placed(b)
}

// placed continues after the shelf has decided about a backend.
func (w *worker) placed(b *backend) {
	if b.Idle() {
		b.conn.Resume()
	}
	w.carryOut()
	w.watchLeftovers(b)
}

// serve gives a free backend to a waiter, which has left the queue.
func (wt *waiter) serve(b *backend) {
	if wt.session != nil {
		wt.session.attach(b)
		return
	}
	wt.offered(b)
}

// sweepLater regularly closes backends that have been idle too long or are too old.
func (w *worker) sweepLater() {
	every := w.shelf.SweepEvery()
	if every == 0 {
		return
	}
	w.timers.sweep = w.loop.After(every, func() {
		w.shelf.Sweep(w.now())
		w.carryOut()
		w.sweepLater()
	})
}
