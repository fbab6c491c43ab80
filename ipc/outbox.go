package ipc

import (
	"sync"
	"time"
)

// Outbox is the bounded queue in front of a Conn for a sender that must never
// block. A message goes out at once where the socket takes it; what must wait is
// written by a goroutine, so that a message costs no switch to another thread.
// The goroutine ends at Close or at the first failed write, after which Send drops
// everything (the reader of the Conn sees the end).
type Outbox struct {
	conn  *Conn
	limit int
	// stall is how long one write may take before the peer counts as dead.
	stall time.Duration
	fail  func(error)

	mu    sync.Mutex
	queue []outgoing
	// writing: the goroutine has a message in hand, which nothing may overtake.
	writing bool
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

type outgoing struct {
	m   Message
	fds []int
}

// NewOutbox starts the writer. limit is in messages. A write that takes longer
// than stall fails; fail is called once, from the writer, with the first error.
func NewOutbox(conn *Conn, limit int, stall time.Duration, fail func(error)) *Outbox {
	o := &Outbox{
		conn: conn, limit: limit, stall: stall, fail: fail,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go o.run()
	return o
}

// Send queues a message and takes over its descriptors whatever happens: they
// are closed after the write or when the message is dropped. It never blocks;
// ErrQueueFull means that the peer doesn't keep up.
func (o *Outbox) Send(m Message, fds ...int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		closeAll(fds)
		return nil
	}
	if len(o.queue) == 0 && !o.writing && o.conn.trySend(m, fds) == nil {
		closeNow(fds)
		return nil
	}
	// What failed for another reason than a full socket fails again in the goroutine.
	if catalogue[m.Number()].Coalesce && o.replace(m) {
		return nil
	}
	if len(o.queue) >= o.limit {
		closeAll(fds)
		return ErrQueueFull
	}
	o.queue = append(o.queue, outgoing{m, fds})
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
}

func (o *Outbox) replace(m Message) bool {
	for i := range o.queue {
		if o.queue[i].m.Number() == m.Number() {
			// The newest snapshot keeps the place at the end, so that it never
			// overtakes what was queued before it.
			o.queue = append(append(o.queue[:i:i], o.queue[i+1:]...), outgoing{m: m})
			return true
		}
	}
	return false
}

// Len returns how many messages wait.
func (o *Outbox) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// Close drops what waits and ends the writer; the Conn stays open. A write in
// progress ends with its stall limit or when the Conn is closed.
func (o *Outbox) Close() {
	o.stop()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Done is closed when the writer has ended.
func (o *Outbox) Done() <-chan struct{} { return o.done }

func (o *Outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, q := range o.queue {
		closeAll(q.fds)
	}
	o.queue = nil
}

func (o *Outbox) run() {
	defer close(o.done)
	for range o.wake {
		for {
			q, ok, closed := o.next()
			if closed {
				return
			}
			if !ok {
				break
			}
			err := o.write(q)
			if err != nil {
				o.stop()
				o.fail(err)
				return
			}
		}
	}
}

func (o *Outbox) next() (q outgoing, ok, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	if o.closed {
		return outgoing{}, false, true
	}
	if len(o.queue) == 0 {
		return outgoing{}, false, false
	}
	q = o.queue[0]
	o.queue = o.queue[1:]
	o.writing = true
	return q, true, false
}

func (o *Outbox) write(q outgoing) error {
	defer closeAll(q.fds)
	if err := o.conn.sock.SetWriteDeadline(time.Now().Add(o.stall)); err != nil {
		return err
	}
	// A deadline that stayed would fail whoever uses Conn.Send later.
	defer o.conn.sock.SetWriteDeadline(time.Time{})
	return o.conn.Send(q.m, q.fds...)
}
