package pool

// waiter is a request that waits.
type waiter struct {
	// seq is the order of arrival over all workers.
	seq        uint64
	worker     *worker
	id         uint64
	key        Key
	rule       int // as an index of Ledger.rules
	claim      *claim
	prev, next *waiter
}

// queue is a list of waiters by arrival that gives up any of them at once.
type queue struct {
	head, tail *waiter
	n          int
}

func (q *queue) push(w *waiter) {
	w.prev, w.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
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

// unclaimed returns the first from w on that nothing is reclaimed for. At most
// two gates' worth of claims are passed over.
func unclaimed(w *waiter) *waiter {
	for w != nil && w.claim != nil {
		w = w.next
	}
	return w
}
