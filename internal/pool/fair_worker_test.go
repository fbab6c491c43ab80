package pool

import (
	"slices"
	"time"
)

// The workers of the simulation of fairness: the policy of package worker, by the
// same names. Whoever changes it there changes it here.

func (w *fairWorker) send(fn func()) { w.f.link(&w.up, fn) }

func (w *fairWorker) requestPool(id uint64) int { return int(id % 16) }

func (w *fairWorker) newID(p *fairPool) uint64 {
	w.nextID++
	return w.nextID*16 + uint64(p.index)
}

// arrive is a client that wants something.
func (c *fairClient) arrive() {
	p := c.w.pools[c.pool]
	if n := len(p.idle); n > 0 {
		b := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.serves(b, c, c.w.f.now)
		return
	}
	w := c.w
	w.nextID++
	wt := &fairWaiter{id: w.nextID, pool: p, client: c, since: w.f.now}
	clear(c.passed)
	p.waiters = append(p.waiters, wt)
	w.waiting++
	w.arrived(p)
}

func (p *fairPool) serves(b *fairBackend, c *fairClient, came time.Duration) {
	w := p.w
	for _, s := range []*[]time.Duration{&w.served, &p.served} {
		if *s = append(*s, came); len(*s) > fairMaxServed {
			*s = (*s)[1:]
		}
	}
	w.f.passes(w, p.key, came)
	b.idle = false
	w.f.after(c.work(), func() {
		w.f.after(c.think(), c.arrive)
		w.shelve(b, false)
	})
}

func (w *fairWorker) shelve(b *fairBackend, granted bool) {
	b.idle = true
	p := b.pool
	if len(p.waiters) > 0 && (granted || !w.owes(b, p.waiters[0])) {
		wt := p.waiters[0]
		w.leave(wt)
		p.serves(b, wt.client, wt.since)
		return
	}
	for _, m := range w.reclaims {
		if w.wants(m, b) {
			w.giveUp(b, m)
			return
		}
	}
	p.idle = append(p.idle, b)
}

func (w *fairWorker) leave(wt *fairWaiter) {
	p := wt.pool
	p.waiters = without(p.waiters, wt)
	w.waiting--
	w.left(wt)
}

func (w *fairWorker) giveUp(b *fairBackend, m Reclaim) {
	p := b.pool
	b.idle = false
	p.idle = without(p.idle, b)
	gone := func() {
		w.backends = without(w.backends, b)
		p.live--
		w.strike(b.lease)
	}
	if m.Key != p.key.key { // it is closed
		w.f.after(w.f.between(100*time.Microsecond, time.Millisecond), func() {
			gone()
			w.send(func() { w.f.returned(w, b.lease) })
		})
		return
	}
	w.f.after(20*time.Microsecond, func() {
		gone()
		w.send(func() { w.f.handedOver(w, b) })
		w.want(p)
	})
}

func (f *fair) returned(w *fairWorker, lease uint64) {
	delete(f.leases, lease)
	effects, err := f.ledger.Return(w.index, lease)
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(effects)
}

func (f *fair) handedOver(w *fairWorker, b *fairBackend) {
	f.moves++
	f.moving = b
	delete(f.leases, b.lease)
	effects, err := f.ledger.HandOver(w.index, b.lease)
	if err != nil {
		f.t.Fatal(err)
	}
	f.apply(effects)
}

func (w *fairWorker) wants(m Reclaim, b *fairBackend) bool {
	return names(m, b.lease) && !(m.Own && b.pool.key.key == m.Key)
}

func (w *fairWorker) owes(b *fairBackend, wt *fairWaiter) bool {
	for _, m := range w.reclaims {
		if !w.wants(m, b) {
			continue
		}
		for _, p := range w.pools {
			if p.key.key == m.Key && p != b.pool && len(p.waiters) > 0 && p.waiters[0].id < wt.id {
				return true
			}
		}
	}
	for _, m := range w.reclaims {
		if m.Since < wt.since && w.f.now-m.Since >= fairFairness && w.servesPool(b, m.Key) && w.passedOver(b, m) {
			return true
		}
	}
	return false
}

func (w *fairWorker) servesPool(b *fairBackend, key Key) bool {
	return slices.ContainsFunc(w.reclaims, func(m Reclaim) bool { return m.Key == key && w.wants(m, b) })
}

func (w *fairWorker) passedOver(b *fairBackend, m Reclaim) bool {
	list := b.pool.served
	if m.Leases == nil {
		list = w.served
	}
	n := 0
	for _, came := range list {
		if came > m.Since {
			n++
		}
	}
	return n >= min(m.Size, fairMaxServed)
}

func (w *fairWorker) strike(lease uint64) {
	if i := slices.IndexFunc(w.reclaims, func(m Reclaim) bool { return names(m, lease) }); i >= 0 {
		w.reclaims = slices.Delete(w.reclaims, i, i+1)
	}
}

func (w *fairWorker) onReclaim(m Reclaim) {
	w.reclaims = append(w.reclaims, m)
	for _, same := range []bool{true, false} {
		for _, b := range w.backends {
			if b.idle && (b.pool.key.key == m.Key) == same && w.wants(m, b) {
				w.giveUp(b, m)
				return
			}
		}
	}
}

func (w *fairWorker) onReclaimCancel(m ReclaimCancel) {
	w.reclaims = slices.DeleteFunc(w.reclaims, func(r Reclaim) bool { return r.ID == m.ID })
}

func (w *fairWorker) onGrant(m Grant) {
	p := w.pools[w.requestPool(m.Request)]
	asked := w.answered(m.Request)
	if asked == nil {
		w.strike(m.Lease)
		w.send(func() { w.f.returned(w, m.Lease) })
		return
	}
	if p.coming >= len(p.waiters) {
		w.strike(m.Lease)
		w.send(func() { w.f.returned(w, m.Lease) })
		w.want(p)
		return
	}
	p.full = false
	w.relabel(asked, p.waiters[p.coming])
	w.f.opens++
	p.live++
	p.coming++
	w.f.after(w.f.between(time.Millisecond, 5*time.Millisecond), func() {
		p.coming--
		b := &fairBackend{pool: p, lease: m.Lease}
		w.backends = append(w.backends, b)
		w.shelve(b, true)
		w.want(p)
	})
	w.want(p)
}

func (w *fairWorker) onTakeOver(m Move, p *fairPool) {
	if !m.Back {
		p.underway--
	}
	asked := w.answered(m.Request)
	if asked != nil && len(p.waiters) > 0 {
		w.relabel(asked, p.waiters[0])
	}
	b := &fairBackend{pool: p, lease: m.Lease}
	w.backends = append(w.backends, b)
	p.live++
	p.full = m.Request != 0 || p.full
	w.shelve(b, m.Request != 0)
	w.want(p)
}

func (w *fairWorker) want(p *fairPool) {
	f := w.f
	w.sweep(p)
	for n := w.lacks(p); n > 0; n-- {
		i := slices.IndexFunc(p.waiters[min(p.coming, len(p.waiters)):], func(wt *fairWaiter) bool { return wt.asked == 0 })
		if i < 0 {
			break
		}
		wt := p.waiters[p.coming+i]
		wt.asked, wt.at = w.newID(p), f.now
		p.requests = append(p.requests, wt.asked)
		w.requests[wt.asked] = wt
		id, since := wt.asked, wt.since
		w.send(func() {
			f.apply(f.ledger.Request(w.index, id, p.key.key, p.key.rule, since))
		})
	}
	if !p.timer && len(p.waiters) > 0 {
		p.timer = true
		f.after(fairPatience, func() { w.review(p) })
	}
}

func (w *fairWorker) lacks(p *fairPool) int {
	n := len(p.waiters) - p.coming - len(p.requests)
	if w.contended(p) {
		return n
	}
	n = min(n, max(fairMaxAsk, p.late)-len(p.requests))
	if p.full && p.live > 0 && n > 0 {
		n = min(n, p.budget)
		p.budget -= n
	}
	return n
}

func (w *fairWorker) review(p *fairPool) {
	p.timer = false
	if len(p.waiters) == 0 {
		p.full, p.reviews = false, 0
		w.withdraw(p)
		return
	}
	late := 0
	for late < min(len(p.waiters), fairMaxLate) && w.f.now-p.waiters[late].since >= fairPatience {
		late++
	}
	p.late, p.budget = late, late
	switch {
	case p.live == p.coming || w.contended(p) || late > 0:
		p.reviews = 0
	default:
		if len(p.requests) > 0 {
			p.full = true
			w.withdraw(p)
		}
		if p.reviews++; p.reviews >= fairProbeAfter {
			p.reviews, p.budget = 0, 1
		}
	}
	w.want(p)
}

func (w *fairWorker) contended(p *fairPool) bool { return w.waiting > len(p.waiters) }

func (w *fairWorker) arrived(p *fairPool) {
	if !w.contended(p) {
		w.want(p)
		return
	}
	for _, other := range w.pools {
		if len(other.waiters) > 0 {
			w.want(other)
		}
	}
}

func (w *fairWorker) left(wt *fairWaiter) {
	p := wt.pool
	wt.gone = true
	late := wt.asked != 0 && w.f.now-wt.at >= fairAnswerTime
	if late && !w.contended(p) && p.live > p.coming {
		p.full = true
	}
	switch surplus := len(p.requests) > len(p.waiters)-p.coming; {
	case late, surplus && wt.asked != 0:
		w.abandon(wt.asked)
	case surplus && len(p.requests) > 0:
		w.abandon(p.requests[len(p.requests)-1])
	}
	w.sweep(p)
}

func (w *fairWorker) sweep(p *fairPool) {
	for len(p.requests) > 0 {
		wt := w.requests[p.requests[0]]
		if !wt.gone || w.f.now-wt.at < fairAnswerTime {
			return
		}
		w.abandon(wt.asked)
	}
}

func (w *fairWorker) withdraw(p *fairPool) {
	for len(p.requests) > 0 {
		w.abandon(p.requests[0])
	}
}

func (w *fairWorker) abandon(id uint64) {
	w.answered(id)
	w.send(func() { w.f.apply(w.f.ledger.Abandon(w.index, id)) })
}

func (w *fairWorker) answered(id uint64) *fairWaiter {
	wt := w.requests[id]
	if wt == nil {
		return nil
	}
	delete(w.requests, id)
	wt.asked = 0
	wt.pool.requests = without(wt.pool.requests, id)
	return wt
}

func (w *fairWorker) relabel(asked, served *fairWaiter) {
	if asked != served && !asked.gone && served.asked != 0 {
		asked.asked, asked.at, served.asked = served.asked, served.at, 0
		w.requests[asked.asked] = asked
	}
}
