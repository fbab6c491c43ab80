package ipc

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Outbox is a bounded queue in front of a Conn, for a sender that must never block. Send writes a
// message at once if the socket has room, which costs no switch to another thread. Otherwise the
// message waits for a goroutine that writes it. The goroutine ends at Close or at the first failed
// write (the reader of the Conn sees the end); after that, messages only wait for Unsent.
type Outbox struct {
	conn  *Conn
	limit int
	// stall is how long one write may take before the peer counts as dead.
	stall time.Duration
	fail  func(error)

	mu    sync.Mutex
	queue []Envelope
	// writing: the goroutine is writing a message. No other message may overtake it, and a Send to
	// the Conn would wait for it.
	writing bool
	failed  bool
	closed  bool
	wake    chan struct{}
	done    chan struct{}
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

// Send queues a message and takes over its descriptors, even if it fails: they are closed after the
// write or when the message is dropped, as every message is after Close. It never blocks;
// ErrQueueFull means that the peer doesn't keep up.
func (o *Outbox) Send(m Message, fds ...int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		closeAll(fds)
		return nil
	}
	if len(o.queue) == 0 && !o.writing && !o.failed && o.conn.trySend(m, fds) == nil {
		closeNow(fds)
		return nil
	}
	// If the socket wasn't just full, the goroutine will fail with the same error.
	if catalogue[m.Number()].Coalesce && o.replace(m) {
		return nil
	}
	if len(o.queue) >= o.limit {
		closeAll(fds)
		return ErrQueueFull
	}
	o.queue = append(o.queue, Envelope{m, fds})
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
}

func (o *Outbox) replace(m Message) bool {
	for i := range o.queue {
		if o.queue[i].Message.Number() == m.Number() {
			// The newest snapshot goes to the end of the queue, so that it never overtakes a
			// message that was queued before it.
			o.queue = append(append(o.queue[:i:i], o.queue[i+1:]...), Envelope{Message: m})
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

// Idle reports whether every message is in the socket.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0 && !o.writing
}

// Close drops the queued messages and ends the goroutine; the Conn stays open. A write in progress
// ends at its stall limit or when the Conn is closed.
func (o *Outbox) Close() {
	for _, e := range o.Unsent() {
		e.CloseFDs()
	}
}

// Unsent is Close, but returns the queued messages with their descriptors, oldest first. If a write
// has failed, its message is among them.
func (o *Outbox) Unsent() []Envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting := o.queue
	o.queue, o.closed = nil, true
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return waiting
}

// Done is closed when the writer has ended.
func (o *Outbox) Done() <-chan struct{} { return o.done }

func (o *Outbox) run() {
	defer close(o.done)
	for range o.wake {
		for {
			e, ok, closed := o.next()
			if closed {
				return
			}
			if !ok {
				break
			}
			if err := o.write(e); err != nil {
				o.giveUp(e)
				o.fail(err)
				return
			}
			closeAll(e.FDs)
		}
	}
}

func (o *Outbox) next() (e Envelope, ok, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	if o.closed {
		return Envelope{}, false, true
	}
	if len(o.queue) == 0 {
		return Envelope{}, false, false
	}
	e = o.queue[0]
	o.queue = o.queue[1:]
	o.writing = true
	return e, true, false
}

// giveUp puts back the message whose write has failed.
func (o *Outbox) giveUp(e Envelope) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = true
	if o.closed {
		e.CloseFDs()
		return
	}
	o.queue = append([]Envelope{e}, o.queue...)
}

// refsPause is how long to wait if the user's processes have too many descriptors in unread
// packets. The kernel reports no event when there are fewer.
const refsPause = 20 * time.Millisecond

// write sends one message. The peer is not to blame for too many descriptors in flight, so write
// waits for that, up to the stall limit.
func (o *Outbox) write(e Envelope) error {
	for end := time.Now().Add(o.stall); ; time.Sleep(refsPause) {
		err := o.writeOnce(e)
		if !errors.Is(err, unix.ETOOMANYREFS) || time.Now().After(end) || o.isClosed() {
			return err
		}
	}
}

func (o *Outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

func (o *Outbox) writeOnce(e Envelope) error {
	if err := o.conn.sock.SetWriteDeadline(time.Now().Add(o.stall)); err != nil {
		return err
	}
	// If the deadline stayed, a later Conn.Send would fail.
	defer o.conn.sock.SetWriteDeadline(time.Time{})
	return o.conn.Send(e.Message, e.FDs...)
}
