package worker

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// onOpenAhead opens a backend for which no client waits yet, as a client would that gives
// no start-up parameters.
func (w *worker) onOpenAhead(m *ipc.OpenAhead) {
	if m.Epoch <= w.fenced || w.draining || w.exit != 0 {
		w.aheadFailed(m.Lease, errFenced)
		return
	}
	p, ok := w.shelf.Pool(pool.Key(m.Key))
	w.carryOut()
	if !ok {
		w.aheadFailed(m.Lease, pgwire.RefusalManyPools.With())
		return
	}
	wt := &waiter{login: &login{user: m.Key.User, database: m.Key.Database, requested: m.Key.Database, key: m.Key}}
	wt.Pool, wt.Bare = p, true
	w.shelf.OpenAhead(p)
	cfg, addr := w.cfg, w.address(m.Server)
	o := w.newOpening(wt, &ipc.LeaseGrant{Lease: m.Lease, Server: m.Server, Epoch: m.Epoch}, ms(cfg.AuthenticationTimeoutMS))
	o.ahead = true
	elsewhere(w, func() (*backend, error) {
		defer o.cancel()
		return w.dial(cfg, o, addr, wt.login, nil)
	}, func(b *backend, err error) { w.opened(o, b, err) })
}

// aheadFailed returns the lease of an OpenAhead with the reason, for the log.
func (w *worker) aheadFailed(lease uint64, err error) {
	text := err.Error()
	w.send(&ipc.AheadFailed{Lease: lease, Error: text[:min(len(text), ipc.MaxAheadError)]})
}

// failed returns the lease of an opening that has failed.
func (w *worker) failed(o *opening, err error) {
	if o.ahead {
		w.shelf.Returned(o.grant.Lease)
		w.aheadFailed(o.grant.Lease, err)
		return
	}
	w.returnLease(o.grant.Lease)
}
