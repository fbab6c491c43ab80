package reactor

import (
	"container/heap"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
)

// Handler is called, on the loop's goroutine, when something happens on a connection.
type Handler interface {
	// Received gets incoming bytes; b is valid during the call only.
	Received(b []byte)
	// Ended says that no more bytes will come. err is nil after an orderly end by the
	// peer. Ended is called at most once, and is the last call for the connection; the
	// Handler must still close it.
	Ended(err error)
	// Flushed says that no bytes are queued any more, after Full or Queued have
	// reported some.
	Flushed()
}

// driver makes the system calls of one kernel interface.
type driver interface {
	name() string
	// newConn allocates a connection with the driver's own state.
	newConn() *Conn
	add(c *Conn) error
	// held returns how many bytes, in addition to c.out, the driver hasn't started to
	// send. flying returns how many are in a send in progress.
	held(c *Conn) int
	flying(c *Conn) int
	// update applies a change of c.state, c.ended or c.broken.
	update(c *Conn)
	// send sends b or queues it; b may be reused after the call.
	send(c *Conn, b []byte)
	// detach passes the descriptor of a paused connection to c.detach, or -1 if the driver
	// has received bytes that weren't delivered.
	detach(c *Conn)
	// close ends the connection; abort discards what the kernel has queued.
	close(c *Conn, abort bool)
	// catchUp delivers bytes that the driver received while c was paused, now that c is
	// armed.
	catchUp(c *Conn)
	// turn waits for events and handles them. limit is in milliseconds, -1 for none.
	turn(limit int)
	// poll calls f whenever fd is readable, until f returns false.
	poll(fd int, f func() bool) error
	// wake ends a wait; any goroutine may call it.
	wake()
	// trim returns unused memory to the system.
	trim()
	// shut closes all connections and frees everything.
	shut()
}

// Loop is an event loop. Make it with New, run it with Run.
type Loop struct {
	drv    driver
	timers timerHeap
	// late has the connections with something to report that isn't an event of the kernel:
	// a failed send, or bytes that came while they were paused. They report at the end of
	// the turn, so that no Handler is called from within itself.
	late []*Conn

	mu      sync.Mutex
	posted  []func()
	waiting atomic.Bool
	stopped atomic.Bool

	now time.Time

	// plain is a buffer for decrypted bytes, encrypted one for bytes that are still to be
	// decrypted. Both are nil before the first encrypted connection. decrypting is the
	// connection whose bytes deliver delivers just now.
	plain      []byte
	encrypted  []byte
	memory     tlsmem.Memory
	decrypting *Conn
	deliver    func(plain []byte) bool
}

// New returns a loop of the named kind: "epoll" or "io_uring". The error says what the
// kernel refuses.
func New(kind string) (*Loop, error) {
	l := &Loop{}
	var err error
	switch kind {
	case "epoll":
		l.drv, err = newEpoll(l)
	case "io_uring":
		l.drv, err = newUring(l)
	default:
		err = fmt.Errorf("there is no event loop %q", kind)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Name returns the kind of this loop.
func (l *Loop) Name() string { return l.drv.name() }

// Run runs the loop until Stop. It locks the goroutine to its thread.
func (l *Loop) Run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !l.stopped.Load() {
		l.drv.turn(l.limit())
		l.runTimers()
		l.runPosted()
		l.tellLate()
	}
	l.runPosted()
	l.drv.shut()
}

// Stop makes Run return after the current turn. Any goroutine may call it.
func (l *Loop) Stop() {
	l.stopped.Store(true)
	l.drv.wake()
}

// Post calls f on the loop's goroutine. Any goroutine may call Post; calls from one
// goroutine keep their order.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	first := len(l.posted) == 0
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	if first && l.waiting.Load() {
		l.drv.wake()
	}
}

// Poll calls f on the loop's goroutine whenever there is something to read from the
// descriptor, or it is at its end, until f returns false. The descriptor isn't a Conn and
// belongs to the caller, which must keep it open until f has returned false or Run has
// returned. f must read everything, because it isn't called again for data that it has left.
func (l *Loop) Poll(fd int, f func() bool) error { return l.drv.poll(fd, f) }

// Trim returns memory to the system that a burst of work has used and that is now free.
func (l *Loop) Trim() { l.drv.trim() }

func (l *Loop) runPosted() {
	l.mu.Lock()
	fs := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// limit returns how long the loop may wait for events, in milliseconds, -1 for without
// limit. Before it looks at the queue of Post, it sets waiting, so that a later Post wakes
// the loop.
func (l *Loop) limit() int {
	l.waiting.Store(true)
	l.mu.Lock()
	n := len(l.posted)
	l.mu.Unlock()
	if n > 0 || len(l.late) > 0 || l.stopped.Load() {
		return 0
	}
	if len(l.timers) == 0 {
		return -1
	}
	d := time.Until(l.timers[0].at)
	if d <= 0 {
		return 0
	}
	return int(d/time.Millisecond) + 1
}

// awake ends the state that limit began: the loop isn't waiting any more.
func (l *Loop) awake() {
	l.waiting.Store(false)
	l.now = time.Time{}
}

// Now returns the time, read at most once per turn of the loop.
func (l *Loop) Now() time.Time {
	if l.now.IsZero() {
		l.now = time.Now()
	}
	return l.now
}

// Timer is a function that After calls later.
type Timer struct {
	at    time.Time
	f     func()
	index int // index in the heap, -1 if it isn't in it
	loop  *Loop
}

// After calls f on the loop's goroutine once d has passed.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	t := &Timer{at: time.Now().Add(d), f: f, loop: l}
	heap.Push(&l.timers, t)
	return t
}

// Stop cancels the timer; it does nothing for a nil or finished timer.
func (t *Timer) Stop() {
	if t != nil && t.index >= 0 {
		heap.Remove(&t.loop.timers, t.index)
	}
}

func (l *Loop) runTimers() {
	if len(l.timers) == 0 {
		return
	}
	now := time.Now()
	for len(l.timers) > 0 && !l.timers[0].at.After(now) {
		heap.Pop(&l.timers).(*Timer).f()
	}
}

func (l *Loop) tellLate() {
	for len(l.late) > 0 {
		cs := l.late
		l.late = nil
		for _, c := range cs {
			if c.broken != nil {
				c.tellEnd(c.broken)
			} else {
				c.catchUp()
			}
		}
	}
}

type timerHeap []*Timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
