package pool

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// waiter is a request that waits.
type waiter struct {
	// since is when the client arrived. seq is the order of the requests of all workers.
	since      time.Duration
	seq        uint64
	worker     *worker
	id         uint64
	key        Key
	rule       int // as an index of Ledger.rules
	claim      *claim
	prev, next *waiter
	// unproven says that only the server can authenticate the client.
	unproven bool
	parked   bool // it is in Ledger.parked
}

// before reports whether w goes before q: its client arrived first.
func (w *waiter) before(q *waiter) bool { return w.compare(q) < 0 }

func (w *waiter) compare(q *waiter) int {
	return cmp.Or(cmp.Compare(w.since, q.since), cmp.Compare(w.seq, q.seq))
}

// byArrival returns the requests of a worker in the order of their arrival.
func byArrival(w *worker) []*waiter {
	return slices.SortedFunc(maps.Values(w.waiting), (*waiter).compare)
}

// queue is a list of waiters in the order of arrival from which any waiter can be
// removed at once.
type queue struct {
	head, tail *waiter
	n          int
}

// push inserts a waiter at its place. It searches from the end, because requests come in
// about the same order as clients.
func (q *queue) push(w *waiter) {
	at := q.tail
	for at != nil && w.before(at) {
		at = at.prev
	}
	w.prev, w.next = at, q.head
	if at != nil {
		w.next, at.next = at.next, w
	} else {
		q.head = w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		q.tail = w
	}
	q.n++
}

func (q *queue) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.prev, w.next = nil, nil
	q.n--
}

// unclaimed returns the first waiter from w on that has no claim. It passes over the
// claims of two gates at most.
func unclaimed(w *waiter) *waiter {
	for w != nil && w.claim != nil {
		w = w.next
	}
	return w
}
