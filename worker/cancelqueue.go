package worker

import (
	"context"
	"slices"
	"time"
)

const (
	// cancelsAtOnce is how many cancel requests a worker sends to one server at a time.
	// Each costs the server a process that max_connections doesn't count.
	cancelsAtOnce = 2
	// secondLook is how long a cancel request for an idle session waits, because it may
	// have overtaken the query that it is meant for.
	secondLook = time.Millisecond
)

// cancelRequests has the open cancel requests of this worker.
type cancelRequests struct {
	at map[int]*canceller // by server
	// forwarded has, by id, what to do at the end of the requests whose session may be in
	// another worker.
	forwarded map[uint64]func()
	// limit is how long a server may take to act on a request.
	limit time.Duration
}

func newCancelRequests() cancelRequests {
	return cancelRequests{map[int]*canceller{}, map[uint64]func(){}, cancelLimit}
}

// canceller sends the cancel requests for one server, a few at a time.
type canceller struct {
	sending int
	waiting []*cancelJob
}

// cancelJob is the cancel request for one backend. A backend has at most one job.
type cancelJob struct {
	b    *backend
	sent bool
	// insist says to send it even if the worker has given the backend up.
	insist bool
	done   []func() // called at the end
	// again are called at the end of another job: their requests came after this one was
	// sent, and may be meant for a query that started later.
	again []func()
}

// underWay reports whether a cancel request may hit what the backend does now.
func (j *cancelJob) underWay() bool { return j != nil && j.sent }

// cancelBackend asks the server to cancel a backend's query. No client gets the backend
// until the server has closed the connection of the request, because until then the server
// may still signal the backend. If the server doesn't close it in time, the backend isn't
// reused.
func (w *worker) cancelBackend(b *backend, done func()) {
	switch j := b.cancel; {
	case j == nil:
		b.cancel = &cancelJob{b: b, done: []func(){done}}
		q := w.requests.at[b.server]
		if q == nil {
			q = &canceller{}
			w.requests.at[b.server] = q
		}
		q.waiting = append(q.waiting, b.cancel)
		w.sendCancels(q)
	case j.sent:
		j.again = append(j.again, done)
	default:
		j.done = append(j.done, done)
	}
}

// sendCancels sends waiting requests, up to cancelsAtOnce. It ends pointless jobs without
// sending them.
func (w *worker) sendCancels(q *canceller) {
	for q.sending < cancelsAtOnce && len(q.waiting) > 0 {
		j := q.waiting[0]
		q.waiting = q.waiting[1:]
		if j.pointless() {
			w.endCancel(j)
			continue
		}
		q.sending++
		j.sent = true
		w.sendCancel(j, func() {
			q.sending--
			w.endCancel(j)
			w.sendCancels(q)
		})
	}
}

// pointless reports whether the request needn't be sent, because the backend is fenced, gone
// or idle.
func (j *cancelJob) pointless() bool {
	b := j.b
	switch {
	case b.Epoch <= b.w.fenced:
		return true
	case b.w.backends[b.Lease] != b:
		return !j.insist
	case b.state == backendClosed:
		return false
	}
	return b.session == nil || !b.session.busy()
}

func (w *worker) sendCancel(j *cancelJob, end func()) {
	b := j.b
	ctx, stop := context.WithTimeout(context.Background(), w.requests.limit)
	o := &outbound{epoch: b.Epoch, stop: stop}
	w.outbounds[o] = struct{}{}
	cfg, addr, pid, key := w.cfg, w.address(b.server), b.pid, b.key
	elsewhere(w, func() (struct{}, error) {
		defer stop()
		return struct{}{}, o.cancelAt(ctx, cfg, addr, pid, key)
	}, func(_ struct{}, err error) {
		delete(w.outbounds, o)
		if err != nil {
			b.Spoiled = true
		}
		end()
	})
}

// endCancel ends a job: it calls the functions that wait for it, and continues with a
// backend that had to wait for it.
func (w *worker) endCancel(j *cancelJob) {
	b := j.b
	b.cancel = nil
	for _, f := range j.done {
		f()
	}
	for _, f := range j.again {
		w.cancelBackend(b, f)
	}
	if !b.cancel.underWay() && b.state == backendResetting && b.script == nil {
		w.afterCancel(b)
	}
}

// dropCancel removes a backend's job if it wasn't sent yet. Call it when the session leaves
// the backend.
func (w *worker) dropCancel(b *backend) {
	j := b.cancel
	if j == nil || j.sent {
		return
	}
	q := w.requests.at[b.server]
	q.waiting = slices.DeleteFunc(q.waiting, func(x *cancelJob) bool { return x == j })
	b.cancel = nil
	for _, f := range j.done {
		f()
	}
}
