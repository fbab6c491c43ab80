package ipc

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Outbox is the bounded queue in front of a Conn for a sender that must never
// block. A message goes out at once where the socket takes it; what must wait is
// written by a goroutine, so that a message costs no switch to another thread.
// The goroutine ends at Close or at the first failed write (the reader of the Conn
// sees the end), after which messages only wait for Unsent.
type Outbox struct {
	conn  *Conn
	limit int
	// stall is how long one write may take before the peer counts as dead.
	stall time.Duration
	fail  func(error)

	mu    sync.Mutex
	queue []Envelope
	// writing: the goroutine has a message in hand, which nothing may overtake, and for
	// whose end Send would wait.
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

// Send queues a message and takes over its descriptors whatever happens: they
// are closed after the write or when the message is dropped, as every one is after
// Close. It never blocks; ErrQueueFull means that the peer doesn't keep up.
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
	// What failed for another reason than a full socket fails again in the goroutine.
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
			// The newest snapshot keeps the place at the end, so that it never
			// overtakes what was queued before it.
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

// Idle reports whether all that was sent is in the socket.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) == 0 && !o.writing
}

// Close drops what waits and ends the writer; the Conn stays open. A write in
// progress ends with its stall limit or when the Conn is closed.
func (o *Outbox) Close() {
	for _, e := range o.Unsent() {
		e.CloseFDs()
	}
}

// Unsent is Close but for what waits, which it returns with its descriptors, oldest
// first. What the writer has in hand is among it if the write has failed.
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

// giveUp puts back what couldn't be written.
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

// refsPause is how long to wait when the user's processes have too many descriptors in
// packets that nobody has read yet: the kernel tells nobody when there are fewer.
const refsPause = 20 * time.Millisecond

// write sends one message. That there are too many descriptors in flight is no fault of
// the peer: it is waited for, as long as a peer that reads nothing is.
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
	// A deadline that stayed would fail whoever uses Conn.Send later.
	defer o.conn.sock.SetWriteDeadline(time.Time{})
	return o.conn.Send(e.Message, e.FDs...)
}
